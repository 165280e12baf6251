"""Lightness: a gray image that hides colours stays near the luminance of the original (Xia et al. 2018).

    L_light = mean max(theta, |g - y|) - theta,   theta 70/127 as published, on [-1, 1]

Within the tolerance theta a pixel pays nothing: that is the room for the texture that holds the colours.
"""

from __future__ import annotations

from torch import Tensor

TOLERANCE = 70 / 127  # on [-1, 1]: 70 of 255 levels


def lightness_loss(gray: Tensor, luminance: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """Return the mean distance beyond the tolerance; 0 where all pixels are within.

    Args:
        gray: ``[B, 1, H, W]`` in [-1, 1].
        luminance: of the colour image, same shape and range.
        tolerance: on [-1, 1].
    """
    return (gray - luminance).abs().clamp(min=tolerance).mean() - tolerance
