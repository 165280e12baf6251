"""Rounding to 8 bit, as a file does it, with a gradient: what is trained is what is saved."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nibkit.noise import Stationary, Uniform

LEVEL = 2 / 255  # between two neighbouring 8-bit levels, on [-1, 1]
SEED = 8  # of the noise that stands for rounding in training


def to_8_bit(image: Tensor, origin: Tensor | None = None) -> Tensor:
    """Return ``image`` (any shape) on the 256 levels of [-1, 1], clamped; the gradient passes as if it were not.

    Straight-through (Bengio et al. 2013). Beyond the range the gradient is that of the clamp, 0. ``origin`` has no
    meaning here.

    Examples:
        >>> to_8_bit(torch.tensor([-1.5, 0.1, 1.0])).mul(127.5).add(127.5).round().tolist()
        [0.0, 140.0, 255.0]
    """
    clamped = image.clamp(-1, 1)
    levels = torch.round((clamped + 1) * 127.5) * LEVEL - 1  # as files are written, ties too
    return clamped + (levels - clamped).detach()


def with_rounding_noise(image: Tensor, origin: Tensor | None = None) -> Tensor:
    """Return ``image`` ``[B, C, H, W]``, clamped, with uniform noise of half a level, which stands for rounding.

    Args:
        image: in [-1, 1].
        origin: where each image reads the noise, ``[B, 2]``; so the noise is the same on every rank.
    """
    return image.clamp(-1, 1) + half_level(image, SEED, origin)


def half_level(like: Tensor, seed: int, origin: Tensor | None = None) -> Tensor:
    """Return noise of at most half a level, shaped as ``like`` ``[B, C, H, W]``, read at (0, 0) or ``origin``."""
    batch, channels, height, width = like.shape
    places = torch.zeros(batch, 2, dtype=torch.int64, device=like.device) if origin is None else origin
    return Stationary(Uniform(LEVEL / 2), seed)(batch, channels, height, width, places).to(like)


def unrounded(image: Tensor, origin: Tensor | None = None) -> Tensor:
    """Return ``image`` as it is; ``origin`` has no meaning here."""
    return image


ROUNDINGS: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    "straight_through": to_8_bit,
    "noise": with_rounding_noise,
    "none": unrounded,
}
