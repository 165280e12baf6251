"""Direct binary search and structure-aware halftoning against their energies written naively."""

import itertools

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from nibkit.classical import direct_binary_search, ostromoukhov, pang, white_noise
from nibkit.classical.direct_binary_search import STARTS
from nibkit.classical.pang import SSIM, anneal, make_state
from nibkit.metrics import HalftoneSSIM
from nibkit.metrics.psnr import filtered_psnr
from nibkit.metrics.spectrum import anisotropy_db, low_frequency_ratio, power_spectrum


def random_gray(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, shape))


def gaussian(sigma):
    x = np.arange(-5, 6)
    kernel = np.exp(-(x[:, None] ** 2 + x[None, :] ** 2) / (2 * sigma**2))
    return kernel / kernel.sum()


def tone_energy(tone, white, sigma):
    """sum |G * (h - g)|^2 over the whole plane."""
    return (convolve2d(white - tone, gaussian(sigma), mode="full") ** 2).sum()


def swapped(white, *pixels):
    """A copy with each pixel toggled."""
    copy = white.copy()
    for pixel in pixels:
        copy[pixel] = 1 - copy[pixel]
    return copy


def moves(white, y, x):
    """All halftones one move at (y, x) leads to: the toggle first, then swaps in reading order."""
    height, width = white.shape
    yield swapped(white, (y, x))
    for v, u in itertools.product(range(max(y - 1, 0), min(y + 2, height)), range(max(x - 1, 0), min(x + 2, width))):
        if white[v, u] != white[y, x]:
            yield swapped(white, (y, x), (v, u))


def naive_search(tone, white, sigma):
    """Direct binary search that computes every energy from scratch."""
    energy, moved = tone_energy(tone, white, sigma), True
    while moved:
        moved = False
        for y, x in itertools.product(*map(range, tone.shape)):
            best = min(moves(white, y, x), key=lambda other: tone_energy(tone, other, sigma))
            least = tone_energy(tone, best, sigma)
            if least < energy - 1e-12:
                white, energy, moved = best, least, True
    return white


@pytest.mark.parametrize(("size", "sigma"), [((9, 8), 1.5), ((5, 13), 0.8), ((1, 14), 2.0)])
def test_direct_binary_search_against_energies_from_scratch(size, sigma):
    gray = random_gray(1, 1, *size, seed=3)
    start = (white_noise(gray, 5)[0, 0].numpy() + 1) / 2
    expected = naive_search((gray[0, 0].numpy() + 1) / 2, start, sigma)
    found = direct_binary_search(gray, sigma, "white_noise", seed=5)
    np.testing.assert_array_equal((found[0, 0].numpy() + 1) / 2, expected)


@pytest.mark.parametrize("start", STARTS)
def test_direct_binary_search_ends_where_no_move_is_left(start):
    gray = random_gray(1, 1, 11, 12)
    tone = (gray[0, 0].numpy() + 1) / 2
    first, last = ((h[0, 0].numpy() + 1) / 2 for h in (STARTS[start](gray, 0), direct_binary_search(gray, start=start)))
    energy = tone_energy(tone, last, 1.5)
    assert energy < tone_energy(tone, first, 1.5)
    for y, x in itertools.product(range(11), range(12)):
        assert all(tone_energy(tone, other, 1.5) > energy - 1e-9 for other in moves(last, y, x))


def test_sweeps_end_early_if_told_and_a_second_search_changes_nothing():
    gray = random_gray(1, 1, 40, 40)
    start = white_noise(gray)
    assert torch.equal(direct_binary_search(gray, start="white_noise", max_sweeps=0), start)
    energies = [
        tone_energy((gray[0, 0].numpy() + 1) / 2, direct_binary_search(gray, max_sweeps=n)[0, 0].numpy() / 2 + 0.5, 1.5)
        for n in (0, 1, 2, 1000)
    ]
    assert energies == sorted(energies, reverse=True)
    assert len(set(energies)) == 4


def test_seeds_change_what_starts_at_random_only():
    gray = random_gray(1, 1, 20, 20)
    for start, differs in (("white_noise", True), ("void_and_cluster", True), ("ostromoukhov", False)):
        pair = [direct_binary_search(gray, start=start, seed=seed) for seed in (0, 1)]
        assert torch.equal(*pair) != differs
    assert not torch.equal(pang(gray, seed=0), pang(gray, seed=1))
    assert torch.equal(pang(gray, seed=1), pang(gray, seed=1))


def naive_structure(tone, white):
    """1 - MSSIM by a loop over windows, each cut at the border and scaled to sum 1."""
    height, width = tone.shape
    kernel, total = gaussian(1.5), 0.0
    for y, x in itertools.product(range(height), range(width)):
        rows, columns = slice(max(y - 5, 0), y + 6), slice(max(x - 5, 0), x + 6)
        w = kernel[max(5 - y, 0) : height - y + 5, max(5 - x, 0) : width - x + 5]
        w = w / w.sum()
        g, h = tone[rows, columns], white[rows, columns]
        mean_g, mean_h = (w * g).sum(), (w * h).sum()
        variances = (w * (g - mean_g) ** 2).sum() + (w * (h - mean_h) ** 2).sum()
        covariance = (w * (g - mean_g) * (h - mean_h)).sum()
        total += (
            (2 * mean_g * mean_h + 1e-4)
            * (2 * covariance + 9e-4)
            / ((mean_g**2 + mean_h**2 + 1e-4) * (variances + 9e-4))
        )
    return 1 - total / tone.size


def naive_energy(tone, white, tone_weight):
    return tone_weight * tone_energy(tone, white, 2.0) / tone.size + (1 - tone_weight) * naive_structure(tone, white)


def textured(height, width):
    """A tone with edges and texture."""
    y, x = np.mgrid[:height, :width]
    return 0.5 + 0.3 * np.sin(x / 2.0) * np.cos(y / 3.0) + 0.15 * ((x + y) % 9 < 4)


@pytest.mark.parametrize("size", [(2, 5), (3, 14), (17, 15)])
@pytest.mark.parametrize(("tone_weight", "steps"), [(0.98, 12), (0.5, 3), (0.0, 4), (1.0, 4)])
def test_the_changes_of_energy_add_up_to_the_energy_from_scratch(size, tone_weight, steps):
    tone = textured(*size)
    white = np.random.default_rng(2).random(size) < tone
    state = make_state(tone, white)
    before = naive_energy(tone, white, tone_weight)
    change = anneal(state, tone_weight, steps, np.random.default_rng(0)) / tone.size
    assert naive_energy(tone, white, tone_weight) - before == pytest.approx(change, rel=1e-9, abs=1e-12)


def test_the_state_after_annealing_is_that_made_from_scratch():
    tone = textured(19, 23)
    start = np.random.default_rng(2).random(tone.shape) < tone
    state = make_state(tone, start.copy())
    assert anneal(state, 0.98, 10, np.random.default_rng(0)) < 0
    assert (state.white != start).mean() > 0.1
    fresh = make_state(tone, state.white)
    np.testing.assert_allclose(state.pull, fresh.pull, atol=1e-12)
    np.testing.assert_allclose(state.windows, fresh.windows, atol=1e-10)
    mssim = fresh.windows[SSIM, 5:24, 5:28].mean()
    assert mssim == pytest.approx(1 - naive_structure(tone, state.white), abs=1e-12)


def test_the_last_step_only_lowers_the_energy():
    tone = textured(20, 20)
    white = np.random.default_rng(2).random(tone.shape) < tone
    energies = [naive_energy(tone, white, 0.98)]
    for _ in range(4):
        anneal(make_state(tone, white), 0.98, 1, np.random.default_rng(0))
        energies.append(naive_energy(tone, white, 0.98))
    assert energies == sorted(energies, reverse=True)
    assert energies[0] > energies[-1]


def test_swaps_keep_the_number_of_dots():
    gray = random_gray(1, 1, 30, 30)
    assert torch.equal(pang(gray, steps=0), ostromoukhov(gray))
    halftone = pang(gray)
    assert not torch.equal(halftone, ostromoukhov(gray))
    assert halftone.sum() == ostromoukhov(gray).sum()


def judge(halftone, gray):
    """PSNR at sigma 2.0 and SSIM."""
    ssim = HalftoneSSIM()
    ssim.update(halftone, gray)
    return float(filtered_psnr(halftone, gray, 2.0).mean()), float(ssim.compute())


def test_the_weight_of_tone_buys_structure_for_tone():
    gray = torch.from_numpy(textured(64, 64))[None, None] * 2 - 1
    gray = (gray + 0.1 * random_gray(1, 1, 64, 64)).clamp(-1, 1)
    psnr, ssim = zip(*(judge(pang(gray, weight, steps=10), gray) for weight in (0.999, 0.99, 0.9)), strict=True)
    assert psnr[0] > psnr[1] > psnr[2]
    assert ssim[0] < ssim[1] < ssim[2]
    assert judge(ostromoukhov(gray), gray)[1] < ssim[0]


def blue_noise_figures(method):
    """Low-frequency ratio, mean and worst, and mean anisotropy in dB over 16 grays."""
    levels = [level / 255 for level in range(13, 239, 15)]
    powers = [power_spectrum(method(torch.full((1, 1, 512, 512), 2 * level - 1))) for level in levels]
    ratios = [low_frequency_ratio(power, level) for power, level in zip(powers, levels, strict=True)]
    return np.mean(ratios), max(ratios), np.mean([anisotropy_db(power) for power in powers])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "mean", "worst", "anisotropy"),
    [
        (ostromoukhov, 0.047, 0.094, -2.7),
        (direct_binary_search, 0.043, 0.078, -4.9),
        (lambda gray: direct_binary_search(gray, 1.5, "white_noise"), 0.062, 0.091, -11.7),
        (lambda gray: direct_binary_search(gray, 2.0, "white_noise"), 0.215, 0.325, -11.5),
        (lambda gray: direct_binary_search(gray, 1.0, "white_noise"), 0.035, 0.040, -11.6),
    ],
    ids=["ostromoukhov", "dbs from ostromoukhov", "dbs 1.5", "dbs 2.0", "dbs 1.0"],
)
def test_blue_noise_as_other_implementations_have_it(method, mean, worst, anisotropy):
    found = blue_noise_figures(method)
    assert found[0] == pytest.approx(mean, abs=0.002)
    assert found[1] == pytest.approx(worst, abs=0.006)
    assert found[2] == pytest.approx(anisotropy, abs=0.2)
