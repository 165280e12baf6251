"""Colour: luminance, by kornia."""

from __future__ import annotations

from torch import Tensor


def luminance(image: Tensor) -> Tensor:
    """Return .299 R + .587 G + .114 B of ``[B, 3, H, W]``, or a gray image as it is; range unchanged."""
    from kornia.color import rgb_to_grayscale  # a quarter of a second, which nibkit dither does without

    gray: Tensor = rgb_to_grayscale(image) if image.shape[1] == 3 else image
    return gray
