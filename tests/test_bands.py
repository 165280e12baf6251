"""Filters piece by piece against products with whole band matrices."""

import pytest
import torch

from nibkit.bands import PIECE, band_filter
from nibkit.filters import band_matrix, separable

VALUES = (1.0, 0.7, -0.3, 0.25, 0.1, 0.01)
SIZES = [(1, 1), (1, 40), (PIECE, 3 * PIECE), (PIECE + 1, 2 * PIECE - 1), (70, 91)]


def random_image(*shape, dtype=torch.float64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=dtype) * 2 - 1


def plain(image, values):
    return separable(image, *(band_matrix(values, side) for side in image.shape[-2:]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("values", [VALUES, VALUES[:1], tuple(0.9**d for d in range(2 * PIECE))], ids=len)
@pytest.mark.parametrize("planes", [(1, 1), (2, 3)])
def test_pieces_are_the_whole(size, values, planes):
    image = random_image(*planes, *size)
    filtered = band_filter(image, values)
    assert (filtered.shape, filtered.dtype) == (image.shape, image.dtype)
    torch.testing.assert_close(filtered, plain(image, values), rtol=0, atol=1e-12)


def test_in_single_precision_only_rounding_differs():
    image = random_image(1, 1, 300, 410, dtype=torch.float32)
    torch.testing.assert_close(band_filter(image, VALUES), plain(image, VALUES), rtol=0, atol=2e-6)


def test_a_pixel_has_the_same_bits_in_every_piece():
    image = random_image(1, 1, 150, 170, dtype=torch.float32)
    whole = band_filter(image, VALUES)
    part = band_filter(image[..., 2 * PIECE :, PIECE : 8 * PIECE], VALUES)
    inside = (..., slice(10, -10), slice(10, -10))
    assert torch.equal(part[inside], whole[..., 2 * PIECE :, PIECE : 8 * PIECE][inside])


def test_what_is_filtered_stays_as_it_is():
    image = random_image(1, 2, 20, 30).transpose(-1, -2)
    before = image.clone()
    band_filter(image, VALUES)
    assert torch.equal(image, before)
