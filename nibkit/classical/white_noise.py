"""Thresholding with white noise: right in the mean, grainy everywhere; the floor of every comparison."""

from __future__ import annotations

import torch
from torch import Tensor

from nibkit.classical.planes import check_seed
from nibkit.hashing import hashed_uniform


def white_noise(gray: Tensor, seed: int = 0) -> Tensor:
    """Return the halftone (-1 or 1) of ``gray`` ``[B, 1, H, W]`` in [-1, 1], one fixed threshold field."""
    check_seed(seed)
    key = torch.full((len(gray),), seed, dtype=torch.int64, device=gray.device)
    origin = torch.zeros(len(gray), 2, dtype=torch.int64, device=gray.device)
    _, channels, height, width = gray.shape
    threshold = hashed_uniform(key, channels, height, width, origin)
    return torch.where((gray + 1) / 2 > threshold, 1.0, -1.0).to(gray.dtype)
