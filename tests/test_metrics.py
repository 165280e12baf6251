"""Metrics of halftones against scikit-image, scipy and plain formulas."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity

from nibkit.metrics import DottedLevels, FilteredPSNR, FlatStd, HalftoneMetrics, HalftoneSSIM, ToneError
from nibkit.metrics.psnr import filtered_psnr

IMAGE_NAMES = {"psnr_sigma1.5", "psnr_sigma2.0", "ssim"}
TONE_NAMES = {"tone_error", "flat_std", "dotted_levels"}
SPECTRUM_NAMES = {
    "low_frequency_ratio",
    "low_frequency_ratio_worst",
    "anisotropy_db",
    "anisotropy_db_worst",
}


def grays(batch, height=40, width=33):
    """Smooth images in [-1, 1], each of another contrast."""
    noise = np.random.default_rng(0).normal(size=(batch, 1, height, width))
    smooth = ndimage.gaussian_filter(noise, 3, axes=(2, 3)) * np.linspace(1, 6, batch)[:, None, None, None]
    return torch.from_numpy(smooth).clamp(-1, 1).float()


def white_dots(gray):
    return torch.where(torch.rand(gray.shape, generator=torch.Generator().manual_seed(0)) < (gray + 1) / 2, 1.0, -1.0)


def unit(x):
    return (x[0].double().numpy() + 1) / 2


def naive_psnr(h, g, sigma):
    far = [ndimage.gaussian_filter(unit(x), sigma, mode="mirror", radius=5) for x in (h, g)]
    return -10 * np.log10(np.mean((far[0] - far[1]) ** 2))


def naive_ssim(h, g):
    """SSIM with the border mirrored, windows of every pixel."""

    def window(x):
        return ndimage.gaussian_filter(x, 1.5, mode="mirror", radius=5)

    a, b, c1, c2 = unit(h), unit(g), 0.01**2, 0.03**2
    ma, mb = window(a), window(b)
    va, vb, cov = window(a * a) - ma**2, window(b * b) - mb**2, window(a * b) - ma * mb
    return np.mean((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))


@pytest.mark.parametrize("sigma", [1.5, 2.0])
def test_filtered_psnr_is_the_mean_over_images(sigma):
    g = grays(5)
    h = torch.cat((white_dots(g[:4]), g[4:] * 0.99))  # one image is far better than the others
    expected = [naive_psnr(a, b, sigma) for a, b in zip(h, g, strict=True)]
    torch.testing.assert_close(filtered_psnr(h, g, sigma).double(), torch.tensor(expected), rtol=0, atol=2e-3)
    metric = FilteredPSNR(sigma)
    metric.update(h[:3], g[:3])
    metric.update(h[3:], g[3:])
    assert float(metric.compute()) == pytest.approx(np.mean(expected), abs=2e-3)
    pooled = -10 * np.log10(np.mean([10 ** (-e / 10) for e in expected]))
    assert abs(float(metric.compute()) - pooled) > 1


def test_filtered_psnr_of_an_exact_match_is_100_db():
    g = grays(2)
    metric = FilteredPSNR(2.0)
    metric.update(g, g)
    assert float(metric.compute()) == 100


def test_filtered_psnr_accepts_half_precision():
    g = grays(1)
    assert filtered_psnr(white_dots(g).bfloat16(), g, 1.5).dtype == torch.float32


def test_halftone_ssim_against_a_plain_formula():
    g, metric = grays(4), HalftoneSSIM()
    h = white_dots(g)
    metric.update(h[:1], g[:1])
    metric.update(h[1:], g[1:])
    assert float(metric.compute()) == pytest.approx(
        np.mean([naive_ssim(a, b) for a, b in zip(h, g, strict=True)]), abs=1e-5
    )


def test_halftone_ssim_is_near_that_of_skimage():
    # skimage leaves the border out
    g, metric = grays(1, 200, 180), HalftoneSSIM()
    h = white_dots(g)
    metric.update(h, g)
    expected = structural_similarity(
        unit(h)[0], unit(g)[0], gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1
    )
    assert float(metric.compute()) == pytest.approx(expected, abs=0.003)


def flat_halftones():
    """Halftones of 20 x 20 with 100, 320, 0 and 400 white dots of 400, of nominal levels beside those."""
    shares = [100, 320, 0, 400]
    dots = torch.stack([torch.where(torch.arange(400) < share, 1.0, -1.0) for share in shares])
    return dots.reshape(4, 1, 20, 20), torch.tensor([0.3, 0.75, 0.1, 1.0])


@pytest.mark.parametrize(
    ("metric", "figures"),
    [
        (ToneError(), [0.05, 0.05, 0.1, 0.0]),
        (FlatStd(), [2 * (0.25 * 0.75) ** 0.5, 2 * (0.8 * 0.2) ** 0.5, 0.0, 0.0]),
        (DottedLevels(), [1, 1, 0, 0]),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, list) else "",
)
def test_figures_of_constant_grays(metric, figures):
    halftone, level = flat_halftones()
    for i in range(4):
        metric.reset()
        metric.update(halftone[i : i + 1], level[i : i + 1])
        assert float(metric.compute()) == pytest.approx(figures[i], abs=1e-6)
    metric.reset()
    metric.update(halftone[:3], level[:3])
    metric.update(halftone[3:], level[3:])
    assert float(metric.compute()) == pytest.approx(np.mean(figures), abs=1e-6)


def test_the_suite_names_its_figures_by_set():
    suite, g = HalftoneMetrics(), grays(1, 128, 128)
    level = torch.tensor([0.5])
    suite.update("photo", white_dots(g), g)
    suite.update("comic", white_dots(-g), -g)
    suite.update("tone", white_dots(0 * g), level)
    suite.update("spectrum", white_dots(0 * g), level)
    figures = suite.compute()
    comic = {f"comic/{name}" for name in IMAGE_NAMES}
    assert set(figures) == IMAGE_NAMES | comic | TONE_NAMES | SPECTRUM_NAMES
    assert all(value.shape == () and value.isfinite() for value in figures.values())
    assert float(figures["psnr_sigma2.0"]) == pytest.approx(naive_psnr(white_dots(g)[0], g[0], 2.0), abs=2e-3)
    assert float(figures["comic/psnr_sigma1.5"]) == pytest.approx(naive_psnr(white_dots(-g)[0], -g[0], 1.5), abs=2e-3)
    assert float(figures["tone_error"]) == pytest.approx(abs(float((white_dots(0 * g) > 0).float().mean()) - 0.5))


def test_the_suite_starts_anew():
    suite, g = HalftoneMetrics(), grays(2)
    suite.update("photo", g, g)
    suite.reset()
    assert suite.compute() == {}
    suite.update("photo", white_dots(g), g)
    assert float(suite.compute()["psnr_sigma2.0"]) < 50


def test_figures_of_each_image_are_kept():
    suite, g = HalftoneMetrics(), grays(3)
    for index in range(2):
        one = g[index : index + 1]
        suite.update("photo", white_dots(g)[index : index + 1], one, [f"image {index}"])
    suite.update("photo", white_dots(g)[2:], g[2:])  # nameless: counts, but is not kept
    kept = suite.per_image()
    assert list(kept) == ["photo"]
    assert list(kept["photo"]) == ["image 0", "image 1"]
    for index in range(2):
        figure = kept["photo"][f"image {index}"]["psnr_sigma2.0"]
        assert figure == pytest.approx(naive_psnr(white_dots(g)[index], g[index], 2.0), abs=2e-3)
    wanted = np.mean([naive_psnr(white_dots(g)[index], g[index], 2.0) for index in range(3)])
    assert float(suite.compute()["psnr_sigma2.0"]) == pytest.approx(wanted, abs=2e-3)
    suite.reset()
    assert suite.per_image() == {}
