"""Classical halftoning against plain loops."""

import numpy as np
import pytest
import torch

from nibkit.classical import floyd_steinberg, white_noise


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


def test_floyd_steinberg_keeps_black_and_white():
    gray = torch.cat((torch.full((1, 1, 9, 9), -1.0), torch.full((1, 1, 9, 9), 1.0)))
    assert torch.equal(floyd_steinberg(gray), gray)


@pytest.mark.parametrize("method", [floyd_steinberg, white_noise])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_halftone_is_binary_and_the_input_untouched(method, dtype):
    gray = random_gray(2, 1, 12, 17).to(dtype)
    before = gray.clone()
    halftone = method(gray)
    assert (halftone.shape, halftone.dtype) == (gray.shape, dtype)
    assert set(halftone.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(gray, before)


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


def test_white_noise_keeps_black_and_white():
    gray = torch.cat((torch.full((1, 1, 99, 99), -1.0), torch.full((1, 1, 99, 99), 1.0)))
    assert torch.equal(white_noise(gray), gray)
