"""Filters as matrix products against scipy and kornia."""

import kornia
import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import torch
from scipy import ndimage

from nibkit.errors import UserError
from nibkit.filters import (
    autocorrelation,
    band_matrix,
    dct_matrix,
    gaussian_filter,
    gaussian_kernel,
    gaussian_matrix,
    separable,
)

SCIPY_MODES = {"zero": "constant", "reflect": "mirror", "valid": "constant"}


def image(*shape, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype) * 2 - 1


@pytest.mark.parametrize("padding", SCIPY_MODES)
@pytest.mark.parametrize(("sigma", "size"), [(1.5, 11), (2.0, 11), (0.7, 5)])
@pytest.mark.parametrize("shape", [(11, 11), (12, 31), (40, 17)])
def test_gaussian_filter_against_scipy(padding, sigma, size, shape):
    x, half = image(2, 1, *shape), size // 2
    expected = ndimage.gaussian_filter(x.numpy(), sigma, mode=SCIPY_MODES[padding], radius=half, axes=(2, 3))
    if padding == "valid":
        expected = expected[..., half : shape[0] - half, half : shape[1] - half]
    result = gaussian_filter(x, sigma, size, padding)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("padding", "border"), [("zero", "constant"), ("reflect", "reflect")])
def test_gaussian_filter_against_kornia(padding, border):
    x = image(2, 3, 20, 33)
    expected = kornia.filters.gaussian_blur2d(x, (11, 11), (2.0, 2.0), border_type=border)
    torch.testing.assert_close(gaussian_filter(x, 2.0, padding=padding), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("padding", "side"), [("valid", 11), ("reflect", 6), ("zero", 1)])
def test_the_shortest_side_of_each_padding(padding, side):
    x = image(side, 30)
    expected = ndimage.gaussian_filter(x.numpy(), 1.5, mode=SCIPY_MODES[padding], radius=5)
    expected = expected[5:-5, 5:-5] if padding == "valid" else expected
    np.testing.assert_allclose(gaussian_filter(x, 1.5, padding=padding).numpy(), expected, rtol=0, atol=2e-6)
    if side > 1:
        with pytest.raises(UserError, match=f"{side - 1} pixels is too short for a 11-tap filter"):
            gaussian_filter(image(side - 1, 30), 1.5, padding=padding)


def test_a_filter_differentiates_and_keeps_the_dtype():
    x = image(1, 1, 12, 13, dtype=torch.float64).requires_grad_()
    assert gaussian_filter(x, 2.0).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda t: gaussian_filter(t, 2.0), (x,))


def test_a_kernel_is_the_sampled_gaussian():
    taps = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 0.9**2))
    np.testing.assert_allclose(gaussian_kernel(0.9, 7).numpy(), taps / taps.sum(), rtol=1e-12)


@pytest.mark.parametrize(("sigma", "size"), [(0.8, 5), (1.5, 11), (2.0, 11)])
def test_autocorrelation_against_numpy(sigma, size):
    taps = gaussian_kernel(sigma, size).numpy()
    expected = np.correlate(taps, taps, mode="full")
    found = autocorrelation(sigma, size)
    np.testing.assert_allclose((*found[:0:-1], *found), expected, rtol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 30])
@pytest.mark.parametrize("values", [(2.0,), (1.0, 0.5, -0.25), tuple(float(v) for v in range(1, 12))], ids=len)
def test_band_matrix_against_loops_and_scipy(length, values):
    matrix = band_matrix(values, length)
    assert matrix.dtype == torch.float32
    for y, x in np.ndindex(length, length):
        assert matrix[y, x] == (values[abs(y - x)] if abs(y - x) < len(values) else 0)
    padded = np.zeros(max(length, len(values)))
    padded[: len(values)] = values
    np.testing.assert_array_equal(matrix.numpy(), scipy.linalg.toeplitz(padded[:length]))


def test_band_matrices_filter_with_zeros_beyond_the_border():
    x, kernel = image(2, 1, 9, 26), gaussian_kernel(1.5)
    rows, columns = (band_matrix(tuple(kernel[5:].tolist()), length) for length in x.shape[-2:])
    torch.testing.assert_close(separable(x, rows, columns), gaussian_filter(x, 1.5, padding="zero"))
    twice = ndimage.convolve1d(np.pad(x.numpy(), ((0, 0), (0, 0), (0, 0), (10, 10))), np.convolve(kernel, kernel))
    near = band_matrix(autocorrelation(1.5), 26)
    np.testing.assert_allclose((x @ near).numpy(), twice[..., 10:-10], rtol=0, atol=1e-6)


@pytest.mark.parametrize("length", [1, 8, 50, 256])
def test_dct_matrix_against_scipy(length):
    expected = scipy.fft.dct(np.eye(length), norm="ortho", axis=0)
    np.testing.assert_allclose(dct_matrix(length).numpy(), expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(dct_matrix(length, 1).numpy(), dct_matrix(length).numpy()[:1])


def test_separable_is_rows_then_columns():
    x, rows, columns = image(2, 3, 5, 7), image(4, 5), image(6, 7)
    expected = torch.einsum("ij,bcjk,lk->bcil", rows, x, columns)
    torch.testing.assert_close(separable(x, rows, columns), expected)


@pytest.mark.parametrize("sigma", [0, -1.0])
def test_a_sigma_must_be_positive(sigma):
    with pytest.raises(UserError, match="sigma="):
        gaussian_kernel(sigma)


def test_an_unknown_padding_is_answered_with_the_choices():
    with pytest.raises(
        UserError, match=r"unknown padding 'relfect' \(did you mean 'reflect'\?\).*reflect, valid, zero"
    ):
        gaussian_matrix(20, 2.0, padding="relfect")
