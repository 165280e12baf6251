"""Losses against their formulas by kornia, scikit-image, torchmetrics and scipy."""

import kornia
import numpy as np
import pytest
import scipy.fft
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from nibkit.classical import floyd_steinberg, white_noise
from nibkit.errors import UserError
from nibkit.losses import Binarization, BlueNoise, Structure, Tone
from nibkit.losses.structure import structure_loss

LOSSES = {
    "tone": Tone(),
    "tone_zero": Tone(1.5, "zero"),
    "tone_reflect": Tone(1.5, "reflect"),
    "structure": Structure(),
    "blue_noise": BlueNoise(),
    "blue_noise_high": BlueNoise(band="high"),
    "binarization": Binarization(),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def gray(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 1.8 - 0.9


def binary(*shape, seed=1, dtype=torch.float32):
    return gray(*shape, seed=seed, dtype=dtype).sign()


def flat(level, size=256):
    return torch.full((1, 1, size, size), 2 * level - 1)


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_tone_against_kornia(sigma):
    h, g = binary(2, 1, 24, 31), gray(2, 1, 24, 31)
    far = [kornia.filters.gaussian_blur2d(x, (11, 11), (sigma, sigma), border_type="reflect") for x in (h, g)]
    error = (far[0] - far[1]).square()
    torch.testing.assert_close(Tone(sigma, "reflect")(h, g), error.mean())
    torch.testing.assert_close(Tone(sigma)(h, g), error[..., 5:-5, 5:-5].mean())  # valid, the default


def test_tone_with_zero_padding_against_scipy():
    h, g = binary(1, 1, 14, 20), gray(1, 1, 14, 20)
    error = ndimage.gaussian_filter((h - g)[0, 0].numpy(), 2.0, mode="constant", radius=5)
    assert float(Tone(padding="zero")(h, g)) == pytest.approx(np.square(error).mean(), rel=1e-5)


def test_structure_against_skimage():
    h, g = binary(3, 1, 24, 31), gray(3, 1, 24, 31)
    expected = [
        structural_similarity(
            (a[0].double().numpy() + 1) / 2,
            (b[0].double().numpy() + 1) / 2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
        )
        for a, b in zip(h, g, strict=True)
    ]
    assert float(Structure()(h, g)) == pytest.approx(1 - np.mean(expected), abs=1e-5)


def test_structure_against_torchmetrics():
    # correlated images, where SSIM is far from 0
    g = gray(2, 1, 30, 22, dtype=torch.float64)
    h = (0.8 * g + 0.2 * gray(2, 1, 30, 22, seed=5, dtype=torch.float64)).clamp(-1, 1)
    _, windows = structural_similarity_index_measure(
        (h + 1) / 2, (g + 1) / 2, sigma=1.5, data_range=1.0, return_full_image=True
    )
    inside = windows[..., 5:-5, 5:-5].mean()
    assert inside > 0.5
    torch.testing.assert_close(Structure()(h, g), 1 - inside, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(256, 256), (64, 96), (33, 20)])
def test_blue_noise_against_scipy(shape):
    h, g = binary(2, 1, *shape), torch.full((2, 1, *shape), 0.3)
    rows, columns = (max(1, round(side * 50 / 256)) for side in shape)
    difference = scipy.fft.dctn(((h - g) / 2).numpy(), axes=(2, 3), norm="ortho")
    assert float(BlueNoise()(h, g)) == pytest.approx(np.abs(difference[..., :rows, :columns]).mean(), rel=1e-4)
    masked = scipy.fft.dctn(((h + 1) / 2).numpy(), axes=(2, 3), norm="ortho")
    masked[..., :rows, :columns] = 0
    assert float(BlueNoise(band="high")(h, g)) == pytest.approx(np.abs(masked).mean(), rel=1e-4)


def test_only_the_low_band_knows_blue_noise_from_white():
    g = flat(96 / 255)
    blue, white = floyd_steinberg(g), white_noise(g)
    low, high = BlueNoise(), BlueNoise(band="high")
    assert low(white, g) > 5 * low(blue, g)
    assert high(white, g) < 1.3 * high(blue, g)


def test_the_printed_band_is_content_with_a_blank_image():
    g = flat(96 / 255, 64)
    blank = torch.full_like(g, -1)
    assert BlueNoise(band="high")(blank, g) < 1e-6
    # DC is one of 12 x 12 coefficients, and its error on [0, 1] is the level times the side
    assert float(BlueNoise()(blank, g)) == pytest.approx(64 * 96 / 255 / 12**2, rel=1e-3)


def test_binarization_is_the_distance_to_the_nearer_of_black_and_white():
    values = [-1.0, -0.75, -0.1, 0.0, 0.4, 1.0, 1.25]
    expected = np.mean([min(abs(v - 1), abs(v + 1)) for v in values])
    assert float(Binarization()(torch.tensor(values), torch.zeros(7))) == pytest.approx(expected)


@every_loss
def test_a_loss_is_a_scalar_and_the_mean_of_its_images(loss):
    h, g = binary(3, 1, 16, 21) * 0.9, gray(3, 1, 16, 21)
    whole = loss(h, g)
    assert whole.shape == ()
    torch.testing.assert_close(whole, torch.stack([loss(h[i : i + 1], g[i : i + 1]) for i in range(3)]).mean())


@pytest.mark.parametrize("name", ["tone", "tone_zero", "tone_reflect", "structure", "blue_noise"])
def test_a_perfect_match_costs_nothing_and_anything_else_does(name):
    g = gray(1, 1, 16, 16)
    assert LOSSES[name](g, g).abs() < 1e-6
    assert LOSSES[name](-g, g) > 1e-3


@every_loss
def test_gradcheck(loss):
    g = gray(2, 1, 12, 11, seed=3, dtype=torch.float64)
    h = gray(2, 1, 12, 11, seed=4, dtype=torch.float64)
    h = (h + 0.05 * h.sign()).requires_grad_()  # off the kink of |h|
    assert torch.autograd.gradcheck(lambda x: loss(x, g), (h,))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Tone(padding="same"), "padding of the tone loss 'same'"),
        (lambda: BlueNoise(band="lo"), "did you mean 'low'?"),
        (lambda: BlueNoise(0.0), "fraction=0.0"),
        (lambda: BlueNoise(1.0), "fraction=1.0"),
    ],
)
def test_bad_options_are_named(make, word):
    with pytest.raises(UserError) as caught:
        make()
    assert word in str(caught.value)


def test_structure_of_texture_leaves_constant_gray_alone():
    light = torch.full((1, 1, 24, 24), 0.9)
    blank, dotted = torch.ones_like(light), torch.ones_like(light)
    dotted[0, 0, 12, 12] = -1
    assert structure_loss(dotted, light) > structure_loss(blank, light) + 0.3
    assert structure_loss(dotted, light, textured=True) == pytest.approx(0, abs=1e-3)
    noisy = torch.rand(1, 1, 24, 24) * 2 - 1
    halftone = torch.where(noisy > 0, 1.0, -1.0)
    assert float(structure_loss(halftone, noisy, textured=True)) == pytest.approx(
        float(structure_loss(halftone, noisy)), rel=0.05
    )
