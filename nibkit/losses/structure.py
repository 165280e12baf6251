"""Structure: the halftone keeps edges and texture of the original.

    L_structure = mean m (1 - SSIM(h, g)),   Gaussian 11x11 sigma 1.5, C1 = .01^2, C2 = .03^2, on [0, 1]

As published m = 1. A window of constant gray has no structure to keep, but near white its SSIM is about 1
without dots and about 0 with one: the loss then forbids the few dots that the tone needs, and light grays
come out blank. With ``textured=True`` each window counts by m = var g / (var g + C2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from nibkit.filters import gaussian_filter, gaussian_kernel, separable
from nibkit.losses.base import HalftoneLoss

SIGMA, C1, C2 = 1.5, 0.01**2, 0.03**2
SIZE, HALF = 11, 5
_KERNEL = tuple(gaussian_kernel(SIGMA, SIZE).tolist()[HALF:])
# the different weights of a window by the distances of a pixel to its centre, the smaller first
_WEIGHTS = {(near, far): _KERNEL[near] * _KERNEL[far] for far in range(HALF + 1) for near in range(far + 1)}


def structure_loss(halftone: Tensor, gray: Tensor, textured: bool = False) -> Tensor:
    """Return 1 - SSIM, the mean over all windows that lie inside the image.

    Args:
        halftone: ``[B, 1, H, W]`` in [-1, 1].
        gray: same shape and range.
        textured: windows count by their texture, not alike.
    """
    h, g = (halftone + 1) / 2, (gray + 1) / 2
    mean_h, mean_g, square_h, square_g, product = _windows(h, g, h * h, g * g, h * g)
    variances = square_h - mean_h**2 + square_g - mean_g**2
    covariance = product - mean_h * mean_g
    ssim = (2 * mean_h * mean_g + C1) * (2 * covariance + C2)
    ssim = ssim / ((mean_h**2 + mean_g**2 + C1) * (variances + C2))
    return (_count(square_g - mean_g**2, textured) * (1 - ssim)).mean()


def structure_flip_gain(halftone: Tensor, gray: Tensor, textured: bool = False) -> Tensor:
    """Return the exact flip gain of :func:`structure_loss` for a binary halftone.

    For binary h (h^2 = h) the SSIM of a window depends on two linear statistics only, u = w * h and
    v = w * (h g). A flip of pixel a changes them by w_a and w_a g_a, so the changed SSIM is P + g_a R with
    maps P and R that depend on w_a alone. The 121 weights of a window take 21 different values: 21 pairs
    of maps serve all pixels, in place of one evaluation per pixel. (A Taylor series will not do: in black
    regions a single dot moves a window far beyond its constants.)
    """
    h, g = (halftone + 1) / 2, (gray + 1) / 2
    u, v, mean_g, square_g = _windows(h, h * g, g, g * g)
    window = (u, v, mean_g, square_g - mean_g**2)
    step = torch.tensor(list(_WEIGHTS.values()), dtype=u.dtype, device=u.device).view(-1, 1, 1, 1, 1)
    count = _count(window[3], textured)
    whiter, blacker = _flipped_ssim(*window, step, count), _flipped_ssim(*window, -step, count)
    p_up, r_up, p_down, r_down = _sum_over_windows(torch.stack((*whiter, *blacker), dim=1))
    before = _flipped_ssim(*window, u.new_zeros(1), count)[0]
    ones = torch.ones(SIZE, dtype=u.dtype, device=u.device)
    covered = separable(before, _band(ones, h.shape[-2]), _band(ones, h.shape[-1]))
    change = torch.where(h > 0.5, covered - p_down - g * r_down, p_up + g * r_up - covered)
    return -change / u.numel()


def _windows(*images: Tensor) -> tuple[Tensor, ...]:
    """Return the Gaussian-weighted means of every window inside each of some images, all in one product."""
    return torch.split(gaussian_filter(torch.cat(images, dim=1), SIGMA, padding="valid"), 1, dim=1)


def _count(variance_g: Tensor, textured: bool) -> Tensor:
    """Return m, how much each window counts."""
    return variance_g.clamp(min=0) / (variance_g.clamp(min=0) + C2) if textured else torch.ones_like(variance_g)


def _flipped_ssim(
    u: Tensor, v: Tensor, mean_g: Tensor, variance_g: Tensor, step: Tensor, count: Tensor
) -> tuple[Tensor, Tensor]:
    """Return P and R: a window's counted SSIM is P + g_a R once a pixel of gray g_a has moved it by ``step``."""
    moved = u + step
    square = moved * moved
    means, variances = square + (mean_g * mean_g + C1), moved + (variance_g + C2) - square
    luminance = torch.addcmul(count * C1, moved, 2 * count * mean_g) / (means * variances)
    return luminance * torch.addcmul(2 * v + C2, moved, -2 * mean_g), luminance * (2 * step)


def _sum_over_windows(maps: Tensor) -> Tensor:
    """Sum over the windows that cover each pixel: ``[21, 4, B, 1, h, w]`` to ``[4, B, 1, h + 10, w + 10]``.

    The map of a window is chosen by the pixel's distances (rows, columns) to its centre; columns first, so
    that each row of a window is summed once for both signs of its distance.
    """
    height, width = maps.shape[-2:]
    index = {distances: i for i, distances in enumerate(_WEIGHTS)}
    total = maps.new_zeros(*maps.shape[1:-2], height + 2 * HALF, width + 2 * HALF)
    for row in range(HALF + 1):
        line = maps.new_zeros(*maps.shape[1:-1], width + 2 * HALF)
        for column in range(-HALF, HALF + 1):
            near, far = sorted((row, abs(column)))
            line[..., HALF + column : HALF + column + width] += maps[index[near, far]]
        for top in {HALF - row, HALF + row}:
            total[..., top : top + height, :] += line
    return total


def _band(kernel: Tensor, length: int) -> Tensor:
    """Return the matrix ``[length, length - 10]`` that spreads each window's value over its pixels."""
    rows = torch.arange(length, device=kernel.device)[:, None]
    offset = rows - torch.arange(length - 2 * HALF, device=kernel.device)
    return torch.where((offset >= 0) & (offset < SIZE), kernel[0], 0)


class Structure(HalftoneLoss):
    """:func:`structure_loss` as a module."""

    def __init__(self, textured: bool = False) -> None:
        super().__init__()
        self.textured = textured

    def forward(self, halftone: Tensor, gray: Tensor) -> Tensor:
        """Return the loss; see :class:`HalftoneLoss`."""
        return structure_loss(halftone, gray, self.textured)

    def flip_gain(self, halftone: Tensor, gray: Tensor) -> Tensor:
        """Return the exact gain; see :class:`HalftoneLoss`."""
        return structure_flip_gain(halftone, gray, self.textured)
