"""Losses of invertible grayscale against their formulas, written in loops."""

import numpy as np
import pytest
import torch
from torch import nn

from nibkit.losses import Contrast, lightness_loss, local_structure_loss, quantization_loss

LOSSES = {
    "lightness": lambda gray, light: lightness_loss(gray, light, 0.1),
    "local_structure": local_structure_loss,
    "quantization": lambda gray, light: quantization_loss(gray),
}


def random_images(channels, seed, size=(6, 9)):
    return torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(seed)) * 2.1 - 1.05


@pytest.mark.parametrize("tolerance", [70 / 127, 0.1])
def test_lightness_is_its_formula(tolerance):
    gray, light = random_images(1, 0), random_images(1, 1)
    pairs = zip(gray.flatten().tolist(), light.flatten().tolist(), strict=True)
    expected = np.mean([max(tolerance, abs(a - b)) for a, b in pairs]) - tolerance
    assert lightness_loss(gray, light, tolerance).item() == pytest.approx(expected, abs=1e-6)


def test_lightness_default_is_the_published_tolerance():
    light = torch.zeros(1, 1, 4, 4)
    assert lightness_loss(light + 69 / 127, light).item() == pytest.approx(0, abs=1e-6)
    assert lightness_loss(light - 71 / 127, light).item() == pytest.approx(1 / 127, abs=1e-6)


def loop_variation(image):
    """Sum of |differences| of a [H, W] array, per pixel."""
    height, width = image.shape
    down = sum(abs(image[y + 1, x] - image[y, x]) for y in range(height - 1) for x in range(width))
    right = sum(abs(image[y, x + 1] - image[y, x]) for y in range(height) for x in range(width - 1))
    return (down + right) / (height * width)


def test_local_structure_is_its_formula():
    gray, light = random_images(1, 0), 0.3 * random_images(1, 1)
    of_gray, of_light = (np.mean([loop_variation(one[0]) for one in batch.double().numpy()]) for batch in (gray, light))
    assert local_structure_loss(gray, light).item() == pytest.approx(abs(of_gray - of_light), abs=1e-6)
    assert local_structure_loss(light, gray).item() == pytest.approx(abs(of_gray - of_light), abs=1e-6)


def test_local_structure_compares_means_of_the_batch():
    gray = random_images(1, 0)
    assert local_structure_loss(gray, gray.flip(0)).item() == pytest.approx(0, abs=1e-6)


def test_quantization_is_its_formula():
    gray = random_images(1, 0)
    levels = np.linspace(-1, 1, 256)
    expected = np.mean([np.abs(value - levels).min() for value in gray.double().flatten().numpy()])
    assert quantization_loss(gray).item() == pytest.approx(expected, abs=1e-6)


def test_quantization_is_0_on_levels_and_largest_between():
    levels = torch.arange(256) / 127.5 - 1
    assert quantization_loss(levels).item() == pytest.approx(0, abs=1e-6)
    assert quantization_loss((levels[1:] + levels[:-1]) / 2).item() == pytest.approx(1 / 255, abs=1e-6)
    assert quantization_loss(torch.tensor([1.5, -1.5])).item() == pytest.approx(0.5)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_gradient_is_that_of_finite_differences(loss):
    gray, light = random_images(1, 0, (3, 4)).double(), 0.3 * random_images(1, 1, (3, 4)).double()
    assert torch.autograd.gradcheck(lambda g: loss(g, light), gray.requires_grad_(), eps=1e-7)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_gradient_is_finite_where_it_jumps(loss):
    gray = torch.zeros(1, 1, 4, 4, requires_grad=True)
    loss(gray, torch.zeros(1, 1, 4, 4)).backward()
    assert gray.grad.isfinite().all()


def small_features():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).requires_grad_(False)


def test_contrast_is_its_formula():
    features, gray, image = small_features(), random_images(1, 0), random_images(3, 1)
    of_gray, of_image = (features(one).numpy() for one in (torch.cat([gray, gray, gray], dim=1), image))
    expected = np.mean((255 * (0.229 + 0.224 + 0.225) / 3 * (of_gray - of_image)) ** 2)
    assert Contrast(features, size=None)(gray, image).item() == pytest.approx(expected, rel=1e-5)


def test_contrast_of_a_gray_with_itself_is_0():
    gray = random_images(1, 0)
    assert Contrast(small_features(), size=None)(gray, gray.repeat(1, 3, 1, 1)).item() == 0


def test_contrast_resizes_both_images():
    """At twice the size, bilinear resizing takes pixels (1, 3) / 4: here it is written for one row."""
    seen = []
    contrast = Contrast(nn.Identity(), size=4)
    contrast.features.register_forward_hook(lambda module, given, output: seen.append(output))
    row = torch.tensor([0.0, 0.8])
    contrast(row.expand(1, 1, 2, 2), row.expand(1, 3, 2, 2))
    assert len(seen) == 2
    for image in seen:
        assert torch.allclose(image, torch.tensor([0.0, 0.2, 0.6, 0.8]).expand(1, 3, 4, 4))


def test_contrast_does_not_smooth_before_it_shrinks():
    seen = []
    contrast = Contrast(nn.Identity(), size=2)
    contrast.features.register_forward_hook(lambda module, given, output: seen.append(output))
    image = random_images(3, 1, (6, 6))
    contrast(image[:, :1], image)
    assert torch.allclose(seen[0], image[..., 1::3, 1::3])


def test_contrast_has_a_gradient_for_the_gray_only():
    gray, image = random_images(1, 0).requires_grad_(), random_images(3, 1).requires_grad_()
    Contrast(small_features(), size=8)(gray, image).backward()
    assert image.grad is None
    assert gray.grad.isfinite().all()
    assert gray.grad.abs().sum() > 0
