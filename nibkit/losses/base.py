"""The contract of a halftone loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HalftoneLoss(nn.Module):
    """A scalar loss of (halftone, gray) with its flip gain."""

    def forward(self, halftone: Tensor, gray: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            halftone: ``[B, 1, H, W]`` in [-1, 1], binary or relaxed.
            gray: the original, same shape, in [-1, 1].
        """
        raise NotImplementedError

    def flip_gain(self, halftone: Tensor, gray: Tensor) -> Tensor:
        """Return loss(pixel white) - loss(pixel black) for each pixel, ``[B, 1, H, W]``.

        The others stay fixed. This default is the first-order difference, twice the gradient, since a
        flip is a step of 2 on [-1, 1]; losses of which a single pixel changes the curvature override it.

        Args:
            halftone: binary, -1 or 1.
            gray: in [-1, 1].
        """
        with torch.enable_grad():
            pixels = halftone.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self(pixels, gray), pixels)
        return 2 * gradient
