"""Narrow symmetric filters of large images, as small matrix products: piece by piece, each with its surroundings.

A product with a whole band matrix (:func:`nibkit.filters.separable`) spends most of its work on zeros once the image
is larger than some hundred pixels. Here ``PIECE`` rows, then ``PIECE`` columns, are answered at a time by one small
matrix that all pieces share. Every sum is taken in the same order wherever its pixel lies; of a whole band matrix so
it is up to the rounding of a library that splits long sums.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from nibkit.filters import band_matrix, separable
from nibkit.precision import full_precision

PIECE = 16  # pixels; fastest for filters of 11 and 21 taps


def band_filter(image: Tensor, values: tuple[float, ...]) -> Tensor:
    """Filter ``image`` ``[B, C, H, W]`` along both axes by ``values[d]`` at distance d; zero beyond the border.

    Args:
        image: any range.
        values: of the filter from its centre on; the filter is symmetric.

    Returns:
        The filtered image, of the same shape; in memory channels may lie between rows.
    """
    batch, channels, height, width = image.shape
    if type(height) is not int:  # only known when an exported graph runs: no number of pieces
        return separable(image, *(band_matrix(values, side) for side in (height, width)))
    half, (down, across) = len(values) - 1, (-(-side // PIECE) for side in (height, width))
    planes = batch * channels
    room = image.new_zeros(down * PIECE + 2 * half, planes, across * PIECE + 2 * half)
    room[half : half + height, :, half : half + width] = image.reshape(planes, height, width).transpose(0, 1)
    matrix = _piece(values).to(image)
    windows = room.flatten(1).unfold(0, len(matrix), PIECE).mT  # [down, PIECE + 2 half, planes * columns]
    with full_precision(image.device):
        rows = torch.bmm(matrix.mT.expand(down, -1, -1), windows).view(down * PIECE * planes, -1)
        windows = rows.unfold(1, len(matrix), PIECE).transpose(0, 1)  # [across, rows * planes, PIECE + 2 half]
        columns = torch.bmm(windows, matrix.expand(across, -1, -1)).transpose(0, 1)
    filtered = columns.reshape(down * PIECE, planes, across * PIECE)[:height, :, :width]
    return filtered.view(height, batch, channels, width).permute(1, 2, 0, 3)


@lru_cache(maxsize=64)
def _piece(values: tuple[float, ...]) -> Tensor:
    """Return the matrix ``[PIECE + 2 half, PIECE]`` of a piece: what each pixel around it adds to each inside."""
    half = len(values) - 1
    distance = (torch.arange(PIECE + 2 * half)[:, None] - torch.arange(PIECE) - half).abs()
    return torch.tensor((*values, 0.0))[distance.clamp(max=len(values))]
