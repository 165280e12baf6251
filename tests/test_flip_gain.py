"""Flip gains against the plain definition: the loss with a pixel white minus the loss with it black."""

import numpy as np
import pytest
import torch
from conftest import draw

from nibkit.classical import floyd_steinberg
from nibkit.losses import Binarization, BlueNoise, HalftoneLoss, Structure, Tone, blue_noise
from nibkit.losses.structure import structure_flip_gain
from nibkit.structure_gain import structure_estimate


class Agreement(HalftoneLoss):
    """A loss linear in each pixel, of which the default gain is exact."""

    def forward(self, halftone, gray):
        return (halftone * gray * halftone.roll(1, -1)).mean()


EXACT = {
    "tone": Tone(),
    "tone_zero": Tone(1.5, "zero"),
    "tone_reflect": Tone(1.0, "reflect"),
    "structure": Structure(),
    "structure_textured": Structure(textured=True),
    "binarization": Binarization(),
    "default": Agreement(),
}


def random_pair(*shape, share=0.5):
    generator = torch.Generator().manual_seed(0)
    halftone = (torch.rand(*shape, generator=generator, dtype=torch.float64) < share).double() * 2 - 1
    return halftone, torch.rand(*shape, generator=generator, dtype=torch.float64) * 2 - 1


def flip_every_pixel(loss, halftone, gray):
    gain = torch.empty_like(halftone)
    for place in np.ndindex(*halftone.shape):
        states = []
        for value in (1.0, -1.0):
            trial = halftone.clone()
            trial[place] = value
            states.append(loss(trial, gray))
        gain[place] = states[0] - states[1]
    return gain


@pytest.mark.parametrize("loss", EXACT.values(), ids=EXACT.keys())
@pytest.mark.parametrize("share", [0.5, 0.02])
def test_the_gain_is_exact(loss, share):
    # few dots: a single one moves an SSIM window far beyond its constants
    h, g = random_pair(2, 1, 13, 15, share=share)
    torch.testing.assert_close(loss.flip_gain(h, g), flip_every_pixel(loss, h, g), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("level", [-1.0, 1.0, 0.3])
def test_the_gain_of_structure_is_exact_on_constant_gray(level):
    h, _ = random_pair(1, 1, 12, 12, share=0.1)
    g = torch.full_like(h, level)
    expected = flip_every_pixel(Structure(), h, g)
    # where the image is black or white the loss has steep places: compare with the largest gain
    torch.testing.assert_close(
        Structure().flip_gain(h, g), expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max())
    )


@pytest.mark.parametrize("level", [0.2, 0.5])
@pytest.mark.parametrize("good", [False, True], ids=["white_noise", "blue_noise"])
def test_the_gain_of_blue_noise_is_exact_where_the_gradient_is_not(level, good):
    h, _ = random_pair(1, 1, 32, 32, share=level)
    g = torch.full_like(h, 2 * level - 1)
    h = floyd_steinberg(g) if good else h
    loss = BlueNoise()
    gain, expected = loss.flip_gain(h, g).numpy(), flip_every_pixel(loss, h, g).numpy()
    np.testing.assert_allclose(gain, expected, atol=1e-9)
    gradient = HalftoneLoss.flip_gain(loss, h, g).numpy()
    assert (np.corrcoef(gradient.ravel(), expected.ravel())[0, 1] > 0.9) != good


def test_the_printed_band_has_the_first_order_gain():
    h, g = random_pair(1, 1, 12, 14)
    loss = BlueNoise(band="high")
    torch.testing.assert_close(loss.flip_gain(h, g), HalftoneLoss.flip_gain(loss, h, g))


@pytest.mark.parametrize("loss", [*EXACT.values(), BlueNoise()], ids=[*EXACT, "blue_noise"])
def test_a_gain_has_the_shape_of_the_halftone_and_no_graph(loss):
    h, g = random_pair(2, 1, 12, 14)
    with torch.no_grad():
        gain = loss.flip_gain(h, g)
    assert gain.shape == h.shape
    assert not gain.requires_grad
    assert not h.requires_grad


def textured_image(seed, height=96, width=120):
    """Return gray with edges, fine grain and shades down to black and up to white."""
    generator = torch.Generator().manual_seed(seed)
    grain = torch.randn(height, width, generator=generator)
    shades = torch.from_numpy(draw(seed, height, width)).float() / 127.5 - 1
    return (1.1 * shades + 0.15 * grain).clamp(-1, 1)[None, None]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("method", ["floyd_steinberg", "white_noise"])
def test_the_estimate_of_structure_goes_along_with_the_exact_gain(seed, method):
    gray = textured_image(seed)
    noise = torch.rand(gray.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    halftone = floyd_steinberg(gray) if method == "floyd_steinberg" else torch.where(gray > noise, 1.0, -1.0)
    windows = (gray.shape[-2] - 10) * (gray.shape[-1] - 10)
    exact = structure_flip_gain(halftone, gray, textured=True) * windows
    estimate = structure_estimate(halftone, gray)
    assert estimate.shape == gray.shape
    # where no window reaches beyond the border
    estimate, exact = (x[..., 10:-10, 10:-10].flatten().double() for x in (estimate, exact))
    assert np.corrcoef(estimate, exact)[0, 1] > 0.95
    assert float(estimate @ exact / (exact @ exact)) == pytest.approx(1, abs=0.1)  # the scale too
    large = exact.abs() > exact.abs().median()
    assert (estimate.sign() == exact.sign())[large].double().mean() > 0.99


@pytest.mark.parametrize("dots", [-1.0, 1.0, 0.0])
@pytest.mark.parametrize("level", [-1.0, 1.0, 0.0, "stripes", "a_dot"])
def test_the_estimate_of_structure_is_finite_on_extreme_images(dots, level):
    gray = torch.full((2, 1, 13, 31), -1.0 if isinstance(level, str) else level)
    if level == "stripes":
        gray[..., ::2] = 1
    elif level == "a_dot":
        gray[..., 6, 15] = 1
    halftone = torch.full_like(gray, dots) if dots else random_pair(*gray.shape)[0].float()
    assert structure_estimate(halftone, gray).isfinite().all()
    assert structure_estimate(halftone[..., :1, :1], gray[..., :1, :1]).isfinite().all()  # narrower than its filters


def test_constant_gray_asks_for_no_structure():
    # inside: beyond the border all is black, an edge to a window that reaches there
    halftone = random_pair(1, 1, 40, 44)[0].float()
    estimate = structure_estimate(halftone, torch.full_like(halftone, 0.3))[..., 10:-10, 10:-10]
    textured = structure_estimate(halftone, textured_image(0, 40, 44))[..., 10:-10, 10:-10]
    assert estimate.abs().max() < 1e-2 * textured.abs().max()


def blue_noise_pair(height, width, level):
    """Return a halftone of a constant gray whose low frequencies are small."""
    gray = torch.full((1, 1, height, width), level, dtype=torch.float64)
    return floyd_steinberg(gray), gray


@pytest.mark.parametrize("every", [False, True])
def test_coefficients_that_no_pixel_can_turn_may_be_left_out(every, monkeypatch):
    # a GPU is given all of them
    pairs = [blue_noise_pair(24, 40, 0.1), random_pair(1, 1, 24, 40)]
    halftone, gray = (torch.cat(side) for side in zip(*pairs, strict=True))
    within, asked = blue_noise._within_reach, []

    def noted(sizes, rows, columns, **_):
        asked.append((within(sizes, rows, columns, every), sizes.numel()))
        return asked[-1][0]

    monkeypatch.setattr(blue_noise, "_within_reach", noted)
    monkeypatch.setattr(blue_noise, "WORK", (3000, 3000))  # in several pieces
    gain = BlueNoise().flip_gain(halftone, gray)
    assert [len(places[0]) == all_of_them for places, all_of_them in asked] == [every, every]
    torch.testing.assert_close(gain, flip_every_pixel(BlueNoise(), halftone, gray), rtol=0, atol=1e-12)


def test_a_coefficient_of_zero_grows_with_any_flip():
    blank = torch.ones(1, 1, 12, 10, dtype=torch.float64)
    gain = BlueNoise().flip_gain(blank, blank)
    assert (gain < 0).all()  # black would be worse
    torch.testing.assert_close(gain, flip_every_pixel(BlueNoise(), blank, blank), rtol=0, atol=1e-12)
