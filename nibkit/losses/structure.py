"""Structure: the halftone keeps edges and texture of the original.

L_structure = 1 - SSIM(h, g),   Gaussian 11x11 sigma 1.5, C1 = .01^2, C2 = .03^2, on [0, 1]
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import torch
from torch import Tensor

from nibkit.filters import gaussian_filter, gaussian_kernel
from nibkit.losses.base import HalftoneLoss

SIGMA, C1, C2 = 1.5, 0.01**2, 0.03**2


def structure_loss(halftone: Tensor, gray: Tensor) -> Tensor:
    """Return 1 - SSIM, the mean over all windows that lie inside the image.

    Args:
        halftone: ``[B, 1, H, W]`` in [-1, 1].
        gray: same shape and range.
    """
    h, g = (halftone + 1) / 2, (gray + 1) / 2
    mean_h, mean_g, square_h, square_g, product = _window(h), _window(g), _window(h * h), _window(g * g), _window(h * g)
    variances = square_h - mean_h**2 + square_g - mean_g**2
    covariance = product - mean_h * mean_g
    ssim = (2 * mean_h * mean_g + C1) * (2 * covariance + C2)
    ssim = ssim / ((mean_h**2 + mean_g**2 + C1) * (variances + C2))
    return 1 - ssim.mean()


def structure_flip_gain(halftone: Tensor, gray: Tensor) -> Tensor:
    """Return the exact flip gain of :func:`structure_loss` for a binary halftone.

    For binary h (h^2 = h) the SSIM of a window depends on two linear statistics only, u = w * h and
    v = w * (h g). A flip of pixel a changes them by w_a and w_a g_a, so the changed SSIM is P + g_a R with
    maps P and R that depend on w_a alone. The 121 weights of a window take 21 different values: 21 pairs
    of maps serve all pixels, in place of one evaluation per pixel. (A Taylor series will not do: in black
    regions a single dot moves a window far beyond its constants.)
    """
    h, g = (halftone + 1) / 2, (gray + 1) / 2
    mean_g = _window(g)
    window = (_window(h), _window(h * g), mean_g, _window(g * g) - mean_g**2)
    before = _flipped_ssim(*window, 0.0)[0]
    height, width = before.shape[-2:]
    gain = h.new_zeros(4, *h.shape)
    for weight, places in _weights():
        up, up_slope = _flipped_ssim(*window, weight)
        down, down_slope = _flipped_ssim(*window, -weight)
        maps = torch.stack((up - before, up_slope, before - down, -down_slope))
        for y, x in places:
            gain[..., y : y + height, x : x + width] += maps
    change = torch.where(h > 0.5, gain[2] + g * gain[3], gain[0] + g * gain[1])
    return -change / before.numel()


def _window(x: Tensor) -> Tensor:
    """Return the Gaussian-weighted mean of every window inside the image."""
    return gaussian_filter(x, SIGMA, padding="valid")


def _flipped_ssim(u: Tensor, v: Tensor, mean_g: Tensor, variance_g: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Return P and R: a window's SSIM is P + g_a R once a pixel of gray g_a has moved it by ``step``."""
    u = u + step
    luminance = (2 * u * mean_g + C1) / ((u * u + mean_g * mean_g + C1) * (u - u * u + variance_g + C2))
    return luminance * (2 * (v - u * mean_g) + C2), luminance * (2 * step)


@lru_cache(maxsize=1)
def _weights() -> list[tuple[float, list[tuple[int, int]]]]:
    """Return the different weights of a window, each with the places (y, x) where it stands."""
    kernel = gaussian_kernel(SIGMA).tolist()
    places: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for y, x in itertools.product(range(len(kernel)), repeat=2):
        near, far = sorted((abs(y - 5), abs(x - 5)))
        places.setdefault((near, far), []).append((y, x))
    return [(kernel[5 + near] * kernel[5 + far], spots) for (near, far), spots in places.items()]


class Structure(HalftoneLoss):
    """:func:`structure_loss` as a module."""

    def forward(self, halftone: Tensor, gray: Tensor) -> Tensor:
        """Return the loss; see :class:`HalftoneLoss`."""
        return structure_loss(halftone, gray)

    def flip_gain(self, halftone: Tensor, gray: Tensor) -> Tensor:
        """Return the exact gain; see :class:`HalftoneLoss`."""
        return structure_flip_gain(halftone, gray)
