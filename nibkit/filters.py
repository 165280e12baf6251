"""Separable filters and transforms as banded matrix products: A_y x A_x^T.

On a CPU a depthwise convolution with one channel runs far below the machine's speed, most of all
backward; two matrix products of crop size are about thirty times faster and exact.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from nibkit.errors import UserError, choose
from nibkit.precision import full_precision

PADDINGS = ("valid", "zero", "reflect")


def gaussian_kernel(sigma: float, size: int = 11) -> Tensor:
    """Return the sampled Gaussian ``[size]`` with sum 1, float64; ``sigma`` in pixels.

    Examples:
        >>> [round(float(tap), 3) for tap in gaussian_kernel(1.0, size=3)]
        [0.274, 0.452, 0.274]
    """
    if sigma <= 0:
        raise UserError(f"sigma={sigma} must be above 0 (pixels)")
    x = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    kernel = torch.exp(-(x**2) / (2 * sigma**2))
    return kernel / kernel.sum()


@lru_cache(maxsize=64)
def gaussian_matrix(length: int, sigma: float, size: int = 11, padding: str = "reflect") -> Tensor:
    """Return the matrix of a Gaussian filter along one axis, ``[out, length]``, float32.

    Args:
        length: pixels along the axis.
        sigma: pixels.
        size: taps, odd.
        padding: ``valid`` (out = length - size + 1), ``zero`` or ``reflect`` (out = length; the edge
            pixel is not repeated).
    """
    choose("padding", padding, PADDINGS)
    half = size // 2
    shortest = size if padding == "valid" else half + 1 if padding == "reflect" else 1
    if length < shortest:
        raise UserError(f"an image side of {length} pixels is too short for a {size}-tap filter ({padding})")
    kernel = gaussian_kernel(sigma, size)
    extended = torch.zeros(length, length + 2 * half, dtype=torch.float64)
    for row in range(length):
        extended[row, row : row + size] = kernel
    matrix = extended[:, half : half + length].clone()
    if padding == "reflect":
        matrix[:, 1 : half + 1] += extended[:, :half].flip(1)
        matrix[:, length - 1 - half : length - 1] += extended[:, length + half :].flip(1)
    return (matrix[half : length - half] if padding == "valid" else matrix).float()


@lru_cache(maxsize=64)
def autocorrelation(sigma: float, size: int = 11) -> tuple[float, ...]:
    """Return the autocorrelation of the sampled Gaussian at the distances 0 .. size - 1."""
    kernel = gaussian_kernel(sigma, size)
    return tuple(float(kernel[: size - d] @ kernel[d:]) for d in range(size))


def band_matrix(values: tuple[float, ...], length: int) -> Tensor:
    """Return the symmetric band matrix ``[length, length]`` with ``values[d]`` at distance d, zero beyond, float32.

    It is a filter with zero padding. Made of tensor operations where the length is only known when an exported
    graph runs, else remembered.
    """
    return _remembered_band(values, length) if type(length) is int else _band(values, length)


def _band(values: tuple[float, ...], length: int) -> Tensor:
    places = torch.arange(length)
    distance = (places[:, None] - places[None, :]).abs()
    return torch.tensor((*values, 0.0))[distance.clamp(max=len(values))]


_remembered_band = lru_cache(maxsize=64)(_band)


@lru_cache(maxsize=64)
def dct_matrix(length: int, count: int | None = None) -> Tensor:
    """Return the first ``count`` rows of the orthonormal DCT-II, ``[count, length]``, float32."""
    k = torch.arange(length if count is None else count, dtype=torch.float64)[:, None]
    n = torch.arange(length, dtype=torch.float64)[None, :]
    matrix = torch.cos(math.pi * (2 * n + 1) * k / (2 * length)) * math.sqrt(2 / length)
    matrix[0] /= math.sqrt(2)
    return matrix.float()


def separable(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Apply ``rows`` ``[h, H]`` and ``columns`` ``[w, W]`` to ``image`` ``[..., H, W]``: ``[..., h, w]``.

    In the image's own precision, under autocast, too: the losses and metrics that are made of it tell halftones apart
    by less than bfloat16 can.
    """
    with full_precision(image.device):
        return _as(rows, image) @ image @ _as(columns, image).mT


def _as(matrix: Tensor, image: Tensor) -> Tensor:
    """Return a matrix in the precision and on the device of ``image``; one on another device is copied there once."""
    if image.device == matrix.device or torch.compiler.is_compiling():
        return matrix.to(image)
    return _copied(matrix, image.dtype, image.device)


@lru_cache(maxsize=64)
def _copied(matrix: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    return matrix.to(device, dtype)


def gaussian_filter(image: Tensor, sigma: float, size: int = 11, padding: str = "reflect") -> Tensor:
    """Filter ``image`` ``[..., H, W]`` by a Gaussian of ``sigma`` pixels; any value range.

    Args:
        image: any leading shape.
        sigma: pixels.
        size: taps per axis, odd.
        padding: see :func:`gaussian_matrix`.

    Examples:
        A checkerboard seen from afar is mid-gray.

        >>> checkers = torch.ones(16, 16)
        >>> checkers[::2, ::2] = checkers[1::2, 1::2] = -1
        >>> bool(gaussian_filter(checkers, sigma=2.0).abs().max() < 0.01)
        True
        >>> gaussian_filter(checkers, sigma=2.0, padding="valid").shape
        torch.Size([6, 6])
    """
    height, width = image.shape[-2:]
    rows = gaussian_matrix(height, sigma, size, padding)
    columns = gaussian_matrix(width, sigma, size, padding)
    return separable(image, rows, columns)
