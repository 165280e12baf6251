"""The blue-noise protocol against the same written in numpy, bin by bin."""

import math

import numpy as np
import pytest
import torch

from nibkit.classical import floyd_steinberg
from nibkit.errors import UserError
from nibkit.metrics import Anisotropy, LowFrequencyRatio
from nibkit.metrics.spectrum import anisotropy_db, low_frequency_ratio, power_spectrum, radial_average, ring_anisotropy


def white(level, size=512, seed=0):
    draws = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(seed))
    return torch.where(draws < level, 1.0, -1.0)


def diffused(level, size=512):
    return floyd_steinberg(torch.full((1, 1, size, size), 2 * level - 1))


def naive_power(halftone):
    dots = (halftone[0, 0].double().numpy() + 1) / 2
    powers = []
    for y in range(0, dots.shape[0] - 127, 128):
        for x in range(0, dots.shape[1] - 127, 128):
            crop = dots[y : y + 128, x : x + 128]
            powers.append(np.abs(np.fft.fft2(crop - crop.mean())) ** 2 / 128**2)
    return np.mean(powers, axis=0)


def naive_ratio(power, level):
    limit = min(math.sqrt(min(level, 1 - level)), 0.5) / 2
    f = np.fft.fftfreq(128)
    low = [power[i, j] for i in range(128) for j in range(128) if 0 < math.hypot(f[i], f[j]) < limit]
    return np.mean(low) / (level * (1 - level))


def naive_rings(power):
    k = np.rint(np.fft.fftfreq(128) * 128)
    rings = [[] for _ in range(92)]
    for i in range(128):
        for j in range(128):
            rings[round(math.hypot(k[i], k[j]))].append(power[i, j])
    return rings[:64]


def naive_anisotropy(power):
    return 10 * math.log10(np.mean([np.var(ring, ddof=1) / np.mean(ring) ** 2 for ring in naive_rings(power)[2:]]))


@pytest.mark.parametrize(("make", "level"), [(white, 0.3), (diffused, 58 / 255), (diffused, 0.9)])
@pytest.mark.parametrize("size", [128, 300])
def test_figures_against_numpy(make, level, size):
    halftone = make(level, size)
    power, reference = power_spectrum(halftone), naive_power(halftone)
    np.testing.assert_allclose(power.numpy(), reference, rtol=1e-9, atol=1e-12)
    assert low_frequency_ratio(power, level) == pytest.approx(naive_ratio(reference, level), rel=1e-9)
    assert anisotropy_db(power) == pytest.approx(naive_anisotropy(reference), rel=1e-6)
    rings = naive_rings(reference)
    np.testing.assert_allclose(radial_average(power).numpy(), [np.mean(ring) for ring in rings], rtol=1e-9, atol=1e-12)
    variation = [np.var(ring, ddof=1) / np.mean(ring) ** 2 for ring in rings[2:]]
    np.testing.assert_allclose(ring_anisotropy(power).numpy(), variation, rtol=1e-9)


@pytest.mark.parametrize("level", [0.2, 0.5, 0.75])
def test_white_noise_has_ratio_1_and_minus_12_db(level):
    power = power_spectrum(white(level))
    assert low_frequency_ratio(power, level) == pytest.approx(1, abs=0.08)
    assert anisotropy_db(power) == pytest.approx(10 * math.log10(1 / 16), abs=0.4)
    assert radial_average(power)[1:].mean() == pytest.approx(level * (1 - level), rel=0.05)


@pytest.mark.parametrize("level", [28 / 255, 88 / 255, 208 / 255])
def test_error_diffusion_is_blue_but_directed(level):
    power = power_spectrum(diffused(level))
    assert low_frequency_ratio(power, level) < 0.15
    assert anisotropy_db(power) > -9


@pytest.mark.parametrize("metric", [LowFrequencyRatio(), LowFrequencyRatio("worst"), Anisotropy(), Anisotropy("worst")])
def test_a_halftone_without_dots_is_kept_out(metric):
    blank = torch.full((2, 1, 128, 128), -1.0)
    blank[1] = 1
    metric.update(blank, torch.tensor([0.05, 0.95]))
    assert math.isnan(metric.compute())
    metric.update(torch.cat((white(0.3, 128), white(0.5, 128))), torch.tensor([0.3, 0.5]))
    figures = []
    for level in (0.3, 0.5):
        power = naive_power(white(level, 128))
        figures.append(naive_ratio(power, level) if isinstance(metric, LowFrequencyRatio) else naive_anisotropy(power))
    expected = max(figures) if metric.reduction == "worst" else np.mean(figures)
    # exactly white noise in one crop, so compare with the figures of its spectrum
    assert float(metric.compute()) == pytest.approx(expected, rel=1e-6)
    metric.reset()
    metric.update(blank, torch.tensor([0.05, 0.95]))
    assert math.isnan(metric.compute())


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_black_and_white_have_no_ratio(level):
    assert math.isnan(low_frequency_ratio(power_spectrum(white(0.5, 128)), level))


@pytest.mark.parametrize("size", [(127, 512), (512, 100)])
def test_a_small_halftone_is_refused(size):
    with pytest.raises(UserError, match=f"128x128 pixels, not {size[1]}x{size[0]}"):
        power_spectrum(torch.ones(1, 1, *size))
