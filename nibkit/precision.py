"""Losses are computed in float32 or better, whatever the network computes in."""

from __future__ import annotations

import torch
from torch import Tensor


def widened(x: Tensor) -> Tensor:
    """Return ``x`` in float32, or in float64 if it is."""
    return x if x.dtype == torch.float64 else x.float()
