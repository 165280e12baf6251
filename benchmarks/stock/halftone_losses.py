"""The losses of halftones with kornia's filters and torch's convolutions, and the gain of flipping each pixel.

Images are ``[B, 1, H, W]`` in [-1, 1]. The *flip gain* of a loss is loss(pixel white) - loss(pixel black) for every
pixel, all others fixed: what the per-pixel estimator (arXiv 2304.12152) follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from kornia.filters import gaussian_blur2d, get_gaussian_kernel2d
from kornia.metrics import ssim
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]
SIZE, HALF = 11, 5
SSIM_SIGMA, C1, C2 = 1.5, 0.01**2, 0.03**2
LOW = 50 / 256  # of each axis: the frequencies that the blue-noise loss punishes


class Term(NamedTuple):
    """A loss of (halftone, gray), and its flip gain."""

    loss: Loss
    gain: Loss


def blur(image: Tensor, sigma: float = SSIM_SIGMA) -> Tensor:
    """Return the Gaussian mean of every 11x11 window that lies inside the image."""
    blurred: Tensor = gaussian_blur2d(image, (SIZE, SIZE), (sigma, sigma))
    return blurred[..., HALF:-HALF, HALF:-HALF]


def similarity(h: Tensor, g: Tensor) -> Tensor:
    """Return the SSIM of every window of images in [0, 1]."""
    windows: Tensor = ssim(h, g, SIZE, padding="valid")
    return windows


def kernel(sigma: float, like: Tensor) -> Tensor:
    """Return the filter's weights ``[1, 1, 11, 11]``."""
    weights: Tensor = get_gaussian_kernel2d((SIZE, SIZE), (sigma, sigma))
    return weights[None].to(like)


def tone(sigma: float) -> Term:
    """Return the mean squared error of what is seen from afar."""

    def loss(halftone: Tensor, gray: Tensor) -> Tensor:
        return F.mse_loss(blur(halftone, sigma), blur(gray, sigma))

    def gain(halftone: Tensor, gray: Tensor) -> Tensor:
        weights = kernel(sigma, halftone)
        seen = F.conv2d(halftone - gray, weights)
        back = F.conv_transpose2d(seen, weights)
        own = F.conv_transpose2d(torch.ones_like(seen), weights.square())  # what a pixel adds by itself
        return 4 * (back - own * halftone) / seen.numel()

    return Term(loss, gain)


def structure(textured: bool) -> Term:
    """Return 1 - SSIM; each window counts by the gray's texture where ``textured``."""

    def loss(halftone: Tensor, gray: Tensor) -> Tensor:
        h, g = (halftone + 1) / 2, (gray + 1) / 2
        return (_count(g, textured) * (1 - similarity(h, g))).mean()

    def gain(halftone: Tensor, gray: Tensor) -> Tensor:
        h, g = (halftone + 1) / 2, (gray + 1) / 2
        now = _count(g, textured) * similarity(h, g)
        covering = F.conv_transpose2d(now, torch.ones(1, 1, SIZE, SIZE).to(now))
        change = torch.where(h > 0.5, _flipped(h, g, -1, textured) - covering, covering - _flipped(h, g, 1, textured))
        return change / now.numel()

    return Term(loss, gain)


def _count(g: Tensor, textured: bool) -> Tensor:
    variance = (blur(g * g) - blur(g).square()).clamp(min=0)
    return variance / (variance + C2) if textured else torch.ones_like(variance)


def _flipped(h: Tensor, g: Tensor, sign: int, textured: bool) -> Tensor:
    """Return for each pixel the sum of the SSIM of all windows that cover it, once it is whiter or blacker.

    A window's SSIM then is P + g R, by the pixel's own gray g and its weight in the window, of which there are 21.
    """
    weights = kernel(SSIM_SIGMA, h)
    steps = torch.unique(weights)
    masks = (weights == steps[:, None, None, None]).to(h)  # [21, 1, 11, 11]
    step, mean_g = sign * steps[None, :, None, None], blur(g)
    mean_h, product = blur(h) + step, blur(h * g)
    luminance = _count(g, textured) * (2 * mean_h * mean_g + C1) / (mean_h.square() + mean_g.square() + C1)
    # of a binary image, whose square is itself
    luminance = luminance / (mean_h - mean_h.square() + blur(g * g) - mean_g.square() + C2)
    p, r = luminance * (2 * product - 2 * mean_h * mean_g + C2), luminance * 2 * step
    return F.conv_transpose2d(p, masks) + g * F.conv_transpose2d(r, masks)


def blue_noise() -> Term:
    """Return the mean absolute low-frequency DCT coefficient of halftones of constant grays."""

    def loss(halftone: Tensor, gray: Tensor) -> Tensor:
        return _low(dct((halftone - gray) / 2)).abs().mean()

    def gain(halftone: Tensor, gray: Tensor) -> Tensor:
        height, width = halftone.shape[-2:]
        coefficients = _low(dct((halftone - gray) / 2)).flatten(1)[..., None, None]  # [B, k, 1, 1]
        rows, columns = (dct_matrix(side, halftone)[: _lowest(side)] for side in (height, width))
        basis = torch.einsum("ay,bx->abyx", rows, columns).flatten(0, 1)  # [k, H, W]
        white = coefficients + basis * (1 - halftone) / 2
        black = coefficients - basis * (1 + halftone) / 2
        return (white.abs() - black.abs()).sum(dim=1, keepdim=True) / coefficients.numel()

    return Term(loss, gain)


def dct(image: Tensor) -> Tensor:
    """Return the orthonormal two-dimensional DCT-II."""
    rows, columns = (dct_matrix(side, image) for side in image.shape[-2:])
    return rows @ image @ columns.mT


def dct_matrix(length: int, like: Tensor) -> Tensor:
    """Return the matrix of the orthonormal DCT-II, ``[length, length]``."""
    n = torch.arange(length, device=like.device, dtype=torch.float64)
    matrix = torch.cos(math.pi * (2 * n + 1) * n[:, None] / (2 * length)) * math.sqrt(2 / length)
    matrix[0] /= math.sqrt(2)
    return matrix.to(like)


def _lowest(length: int) -> int:
    return max(1, round(length * LOW))


def _low(spectrum: Tensor) -> Tensor:
    return spectrum[..., : _lowest(spectrum.shape[-2]), : _lowest(spectrum.shape[-1])]


def binarization() -> Term:
    """Return the mean distance of pixels to the nearer of black and white."""

    def loss(halftone: Tensor, gray: Tensor) -> Tensor:
        return (halftone.abs() - 1).abs().mean()

    return Term(loss, lambda halftone, gray: torch.zeros_like(halftone))
