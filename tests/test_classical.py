"""Classical halftoning: what every method keeps, thresholds and error diffusion against plain loops."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from nibkit.classical import METHODS, floyd_steinberg, ostromoukhov, white_noise
from nibkit.classical.ostromoukhov_table import COEFFICIENTS


def random_gray(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, shape))


def naive_floyd_steinberg(gray):
    """Serpentine error diffusion: a row that runs to the left is a mirrored row that runs to the right."""
    height, width = gray.shape
    tone = np.pad((gray + 1) / 2, ((0, 1), (1, 1)))
    out = np.zeros_like(gray)
    for y in range(height):
        backwards = y % 2 == 1
        here, below = (row[::-1] if backwards else row for row in (tone[y], tone[y + 1]))
        for x in range(1, width + 1):
            white = here[x] > 0.5
            error = here[x] - white
            here[x + 1] += 7 / 16 * error
            below[x - 1] += 3 / 16 * error
            below[x] += 5 / 16 * error
            below[x + 1] += 1 / 16 * error
            out[y, width - x if backwards else x - 1] = 1 if white else -1
        tone[y + 1, [0, -1]] = 0  # what left the image is lost
    return out


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (8, 1), (24, 31)])
def test_floyd_steinberg_against_a_plain_loop(size):
    gray = random_gray(2, 1, *size)
    expected = np.stack([naive_floyd_steinberg(plane[0].numpy()) for plane in gray])[:, None]
    np.testing.assert_array_equal(floyd_steinberg(gray).numpy(), expected)


@pytest.mark.parametrize("level", [0.05, 0.3, 0.5, 0.83])
def test_floyd_steinberg_conserves_tone(level):
    halftone = floyd_steinberg(torch.full((1, 1, 128, 128), 2 * level - 1))
    assert float((halftone > 0).double().mean()) == pytest.approx(level, abs=0.006)


def naive_ostromoukhov(levels):
    """The same in exact fractions, on 8-bit ``levels``: right, lower rear and what they leave, by the input's level."""
    height, width = levels.shape
    value = [[Fraction(0)] * (width + 2) for _ in range(height + 1)]
    out = np.zeros((height, width))
    for y in range(height):
        for i in range(width):
            step, x = (1, i + 1) if y % 2 == 0 else (-1, width - i)
            level = int(levels[y, x - 1])
            total = value[y][x] + level
            white = total > Fraction(255, 2) and level > 0
            right, rear, down = COEFFICIENTS[min(level, 255 - level)]
            share = (total - 255 * white) / (right + rear + down)
            value[y][x + step] += right * share
            value[y + 1][x - step] += rear * share
            value[y + 1][x] += down * share
            out[y, x - 1] = 1 if white else -1
    return out


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (8, 1), (24, 31)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ostromoukhov_against_exact_fractions(size, dtype):
    levels = np.random.default_rng(1).integers(0, 256, size)
    levels[levels < 20] = 0
    gray = torch.from_numpy(levels)[None, None].to(dtype) / 255 * 2 - 1
    np.testing.assert_array_equal(ostromoukhov(gray)[0, 0].numpy(), naive_ostromoukhov(levels))


@pytest.mark.parametrize("level", [1, 44, 85, 127, 128, 201])
def test_ostromoukhov_breaks_ties_as_integers_do(level):
    levels = np.full((20, 33), level)
    gray = torch.full((1, 1, 20, 33), level / 255 * 2 - 1)
    np.testing.assert_array_equal(ostromoukhov(gray)[0, 0].numpy(), naive_ostromoukhov(levels))


def test_ostromoukhov_table_is_that_of_the_paper():
    assert len(COEFFICIENTS) == 128
    known = {0: (13, 0, 5), 1: (13, 0, 5), 2: (21, 0, 10), 3: (7, 0, 4), 10: (7, 3, 3), 22: (3, 2, 1),
             44: (36, 26, 15), 64: (1, 1, 0), 72: (5, 7, 1),
             85: (4, 1, 1), 95: (5, 3, 2), 107: (5, 3, 2), 127: (4, 1, 1)}  # fmt: skip
    assert {level: COEFFICIENTS[level] for level in known} == known
    assert all(min(triple) >= 0 for triple in COEFFICIENTS)


def test_ostromoukhov_keeps_the_tone_between_levels():
    tone = 100.4 / 255
    halftone = ostromoukhov(torch.full((1, 1, 512, 512), 2 * tone - 1))
    assert float((halftone > 0).double().mean()) == pytest.approx(tone, abs=0.0008)


def test_ostromoukhov_leaves_black_black_beside_gray():
    gray = torch.full((1, 1, 32, 32), -1.0)
    gray[..., :, :16] = 0.3
    assert (ostromoukhov(gray)[..., 16:] == -1).all()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_halftone_is_binary_and_the_input_untouched(name, dtype):
    gray = random_gray(2, 1, 12, 17).to(dtype)
    before = gray.clone()
    halftone = METHODS[name](gray)
    assert (halftone.shape, halftone.dtype) == (gray.shape, dtype)
    assert set(halftone.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(gray, before)


@pytest.mark.parametrize("name", METHODS)
def test_an_image_does_not_depend_on_its_batch_or_strides(name):
    gray = random_gray(3, 1, 12, 17)
    batch = METHODS[name](gray)
    for image, halftone in zip(gray, batch, strict=True):
        assert torch.equal(METHODS[name](image[None])[0], halftone)
    strided = gray.mT.contiguous().mT
    assert torch.equal(METHODS[name](strided), batch)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 3)])
def test_any_size_of_image(name, size):
    assert METHODS[name](random_gray(1, 1, *size)).abs().eq(1).all()


@pytest.mark.parametrize("name", METHODS)
def test_black_stays_black_and_white_white(name):
    gray = torch.cat((torch.full((1, 1, 19, 23), -1.0), torch.full((1, 1, 19, 23), 1.0)))
    assert torch.equal(METHODS[name](gray), gray)


@pytest.mark.parametrize("name", METHODS)
def test_a_gray_that_requires_grad(name):
    assert not METHODS[name](random_gray(1, 1, 5, 5).requires_grad_()).requires_grad


@pytest.mark.parametrize("level", [0.1, 0.5, 0.8])
def test_white_noise_is_white_with_the_probability_of_its_tone(level):
    dots = white_noise(torch.full((1, 1, 256, 256), 2 * level - 1)) > 0
    assert float(dots.double().mean()) == pytest.approx(level, abs=4 * (level * (1 - level)) ** 0.5 / 256)
    neighbours = np.corrcoef(dots[0, 0, :, 1:].flatten(), dots[0, 0, :, :-1].flatten())[0, 1]
    assert abs(neighbours) < 4 / 256


def test_white_noise_compares_with_one_fixed_threshold():
    gray = random_gray(1, 1, 64, 64)
    halftone = white_noise(gray)
    assert torch.equal(halftone, white_noise(gray))
    assert (white_noise((gray + 0.2).clamp(max=1)) >= halftone).all()  # lighter never loses a white dot
    pair = white_noise(gray.expand(2, 1, 64, 64))
    assert torch.equal(pair[0], pair[1])
    assert not torch.equal(halftone, white_noise(gray, seed=1))
