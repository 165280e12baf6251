"""Tone: a halftone seen from afar has the gray values of the original.

    L_tone = mean (G * h - G * g)^2,   G Gaussian 11x11, sigma 2.0 as published

The width of G decides the dots: a wide filter leaves low frequencies in, a narrow one makes blue noise.
"""

from __future__ import annotations

from functools import lru_cache

from torch import Tensor

from nibkit.errors import choose
from nibkit.filters import PADDINGS, gaussian_filter, gaussian_matrix, separable
from nibkit.losses.base import HalftoneLoss


def tone_loss(halftone: Tensor, gray: Tensor, sigma: float = 2.0, padding: str = "valid") -> Tensor:
    """Return the mean squared error between the filtered halftone and the filtered gray.

    Args:
        halftone: ``[B, 1, H, W]`` in [-1, 1].
        gray: same shape and range.
        sigma: of the Gaussian, pixels.
        padding: of the filter; ``valid`` as published.
    """
    return gaussian_filter(halftone - gray, sigma, padding=padding).square().mean()


def tone_flip_gain(halftone: Tensor, gray: Tensor, sigma: float = 2.0, padding: str = "valid") -> Tensor:
    """Return the exact flip gain of :func:`tone_loss` for a binary halftone.

    With e = h - g and the filter as a matrix A, E(h) = |A e|^2 and a flip of h_a from -1 to 1 changes it by

        E(1) - E(-1) = 4 ((A^T A e)_a - (A^T A)_aa h_a),

    the per-pixel gradient of the expected energy (arXiv 2304.12152), here for all pixels by two products.
    """
    error = halftone - gray
    (rows, height), (columns, width) = (gaussian_gram(length, sigma, padding) for length in error.shape[-2:])
    own = rows.diagonal()[:, None] * columns.diagonal()[None, :]
    gain = 4 * (separable(error, rows, columns) - own.to(error) * halftone)
    return gain / (error.shape[:-2].numel() * height * width)


@lru_cache(maxsize=16)
def gaussian_gram(length: int, sigma: float, padding: str) -> tuple[Tensor, int]:
    """Return A^T A of a filter along one axis, ``[length, length]`` float64, and how many values A gives."""
    matrix = gaussian_matrix(length, sigma, padding=padding).double()
    return matrix.mT @ matrix, len(matrix)


class Tone(HalftoneLoss):
    """:func:`tone_loss` as a module."""

    def __init__(self, sigma: float = 2.0, padding: str = "valid") -> None:
        super().__init__()
        self.sigma, self.padding = sigma, choose("padding of the tone loss", padding, PADDINGS)

    def forward(self, halftone: Tensor, gray: Tensor) -> Tensor:
        """Return the loss; see :class:`HalftoneLoss`."""
        return tone_loss(halftone, gray, self.sigma, self.padding)

    def flip_gain(self, halftone: Tensor, gray: Tensor) -> Tensor:
        """Return the exact gain; see :class:`HalftoneLoss`."""
        return tone_flip_gain(halftone, gray, self.sigma, self.padding)
