"""Rounding to 8 bit against files that Pillow has written, and its gradients."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from nibkit.data.images import save_png
from nibkit.noise import Stationary, Uniform
from nibkit.quantize import LEVEL, ROUNDINGS, to_8_bit, unrounded, with_rounding_noise


def values(height=40, width=50):
    """Return numbers some of which are beyond [-1, 1]."""
    return torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2


def through_png(image):
    """Return what a PNG file by Pillow keeps of an image ``[H, W]``, and its bytes."""
    pixels = np.rint((image.double().numpy().clip(-1, 1) + 1) / 2 * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    read = np.array(Image.open(file))
    return torch.from_numpy(read / 255 * 2 - 1).float(), read


def test_the_levels_are_those_of_a_png():
    image = values()[0, 0]
    kept, pixels = through_png(image)
    rounded = to_8_bit(image)
    torch.testing.assert_close(rounded, kept, rtol=0, atol=1e-6)
    assert torch.equal(((rounded + 1) / 2 * 255).round().byte(), torch.from_numpy(pixels))


def test_all_256_levels_stay_and_are_the_only_ones(tmp_path):
    levels = torch.arange(256) / 255 * 2 - 1
    torch.testing.assert_close(to_8_bit(levels), levels, rtol=0, atol=2e-7)
    assert torch.equal(to_8_bit(to_8_bit(levels)), to_8_bit(levels))
    many = to_8_bit(torch.linspace(-1.5, 1.5, 100_001))
    torch.testing.assert_close(((many + 1) / 2 * 255).round().unique(), torch.arange(256.0))
    assert (many.amin(), many.amax()) == (-1, 1)
    save_png(to_8_bit(values()[0]), tmp_path / "gray.png")  # the file that nibkit writes has the same bytes
    assert np.array_equal(np.array(Image.open(tmp_path / "gray.png")), through_png(values()[0, 0])[1])


def test_amid_two_levels_it_is_one_of_them():
    amid = (torch.arange(255) + 0.5) / 255 * 2 - 1
    torch.testing.assert_close((to_8_bit(amid) - amid).abs(), torch.full((255,), LEVEL / 2), rtol=0, atol=1e-6)


def test_the_gradient_is_1_inside_and_0_beyond():
    image = torch.tensor([-1.5, -1.0001, -0.999, -0.3, 0.0, 0.7, 0.999, 1.0001, 3.0], requires_grad=True)
    weights = torch.arange(1.0, 10.0)
    (weights * to_8_bit(image)).sum().backward()
    assert torch.equal(image.grad, weights * torch.tensor([0, 0, 1, 1, 1, 1, 1, 0, 0]))


def test_noise_is_within_half_a_level_and_uniform():
    image = values(200, 200)
    error = (with_rounding_noise(image) - image.clamp(-1, 1)) / LEVEL
    assert error.abs().max() <= 0.5 + 1e-4  # and what adding single-precision numbers makes of it
    assert error.abs().max() > 0.499
    assert float(error.std()) == pytest.approx(12**-0.5, abs=0.005)
    assert abs(float(error.mean())) < 0.005


def test_noise_is_keyed_by_its_origin():
    flat = torch.zeros(2, 1, 20, 30)
    origin = torch.tensor([[5, -7], [100, 3]])
    here, again = with_rounding_noise(flat, origin), with_rounding_noise(flat, origin)
    assert torch.equal(here, again)
    tile = with_rounding_noise(flat[..., 4:12, 6:20], origin + torch.tensor([4, 6]))
    assert torch.equal(tile, here[..., 4:12, 6:20])
    assert not torch.equal(here[0], here[1])
    assert torch.equal(with_rounding_noise(flat), with_rounding_noise(flat, torch.zeros(2, 2, dtype=torch.int64)))
    assert torch.equal(here, Stationary(Uniform(LEVEL / 2), seed=8)(2, 1, 20, 30, origin))


def test_noise_passes_gradients_inside_the_range():
    image = torch.tensor([-1.5, 0.2, 1.5]).reshape(1, 1, 1, 3).requires_grad_()
    with_rounding_noise(image).sum().backward()
    assert image.grad.flatten().tolist() == [0, 1, 0]


def test_roundings_by_name():
    assert dict(ROUNDINGS) == {"straight_through": to_8_bit, "noise": with_rounding_noise, "none": unrounded}
    image, origin = values(), torch.zeros(2, 2, dtype=torch.int64)
    assert ROUNDINGS["none"](image, origin) is image
    assert all(rounding(image, origin).shape == image.shape for rounding in ROUNDINGS.values())
