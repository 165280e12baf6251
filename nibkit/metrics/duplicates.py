"""Does a texture repeat itself? The pattern that upsampling leaves, or one tile printed again and again."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

ROUNDING = 1 / 12  # variance of rounding to 8 bit, levels squared: what is fainter is no texture
NEAREST = 4  # pixels; nearer lags belong to the texture's own grain


def repetition(patches: Tensor) -> Tensor:
    """Return how strongly each patch repeats itself, ``[N]`` in [0, 1]: 0 never, 1 a perfect tiling.

    The autocorrelation of a repeated texture falls with distance and comes back. The figure is the greatest value at
    4 pixels to half the patch, minus the smallest (at least 0) a quarter, half and three quarters of the way there.
    So the slope of a coarse grain and a straight edge, which is alike all along, count for little.

    Args:
        patches: ``[N, S, S]`` in 8-bit levels, float64, their mean and shading removed.
    """
    correlation = autocorrelation(patches).flatten(1)
    lags, ways = _lags(patches.shape[-1])
    fallen = correlation[:, ways.to(patches.device)].amin(dim=-1).clamp(min=0)
    return (correlation[:, lags.to(patches.device)] - fallen).amax(dim=1).clamp(min=0)


def autocorrelation(patches: Tensor) -> Tensor:
    """Return the normalised autocorrelation, ``[N, P, P]`` with P = S + S // 2, at the lag (y mod P, x mod P).

    Each lag is normalised by the energy of the two overlapping parts, and by rounding noise: a constant has 0. Lags of
    more than S // 2 pixels wrap around and mean nothing. ``patches`` as of :func:`repetition`.
    """
    size = patches.shape[-1]
    padded = (size + size // 2,) * 2
    ones = torch.fft.rfft2(torch.ones_like(patches[:1]), padded)
    spectrum = torch.fft.rfft2(patches, padded)
    product = torch.fft.irfft2(spectrum.abs().square(), padded)
    energy = torch.fft.irfft2(torch.fft.rfft2(patches.square(), padded) * ones.conj(), padded).clamp(min=0)
    opposite = energy.flip(1, 2).roll((1, 1), (1, 2))  # at the lag (-y, -x)
    overlap = torch.fft.irfft2(ones.abs().square(), padded)
    correlation: Tensor = product / ((energy * opposite).sqrt() + ROUNDING * overlap)
    return correlation


@lru_cache(maxsize=4)
def _lags(size: int) -> tuple[Tensor, Tensor]:
    """Return the places in a flat autocorrelation of the lags ``[L]`` and of three on the way to each ``[L, 3]``."""
    far = size // 2
    # one half of the plane: the other is its mirror image
    lags = torch.cartesian_prod(torch.arange(far + 1), torch.arange(-far, far + 1))
    distance = lags.double().norm(dim=1)
    lags = lags[(distance >= NEAREST) & (distance <= far)]
    ways = (lags[:, None] * torch.tensor([0.25, 0.5, 0.75])[:, None]).round().long()
    return _place(lags, size + far), _place(ways, size + far)


def _place(lags: Tensor, side: int) -> Tensor:
    return (lags[..., 0] % side) * side + lags[..., 1] % side
