"""Sums of features that take no more memory than they must."""

from __future__ import annotations

import torch
from torch import Tensor


def add_to(fresh: Tensor, other: Tensor) -> Tensor:
    """Return ``fresh + other``, of one shape; where no gradient is asked for, in the memory of ``fresh``.

    Args:
        fresh: just made, and read by nobody else.
        other: of the same shape; of another type of numbers, as autocast may have it, the sum is of the wider one.
    """
    gradient = torch.is_grad_enabled() and (fresh.requires_grad or other.requires_grad)
    return fresh + other if gradient or fresh.dtype != other.dtype else fresh.add_(other)
