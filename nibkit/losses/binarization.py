"""Binarization: outputs of a relaxed network are driven to black and white.

L_bin = mean | |h| - 1 |
"""

from __future__ import annotations

import torch
from torch import Tensor

from nibkit.losses.base import HalftoneLoss


def binarization_loss(halftone: Tensor) -> Tensor:
    """Return the mean distance of ``halftone`` (any shape, [-1, 1]) to the nearer of -1 and 1."""
    return (halftone.abs() - 1).abs().mean()


class Binarization(HalftoneLoss):
    """:func:`binarization_loss` as a module; binary pixels neither pay nor gain."""

    def forward(self, halftone: Tensor, gray: Tensor) -> Tensor:
        """Return the loss; ``gray`` has no part in it."""
        return binarization_loss(halftone)

    def flip_gain(self, halftone: Tensor, gray: Tensor) -> Tensor:
        """Return zeros: both states of a pixel are binary."""
        return torch.zeros_like(halftone)
