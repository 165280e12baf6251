"""Texture figures against naive loops, and on images whose texture is known."""

import json
import math
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

from nibkit.errors import UserError
from nibkit.metrics.duplicates import autocorrelation, repetition
from nibkit.metrics.texture import TextureMetrics, repeats, spectrum

SIZE = 64
NAMES = {
    "texture_std", "texture_std_real", "texture_ratio", "texture_flat_share", "texture_flat_share_real",
    "texture_spectrum_db", "texture_repeat", "texture_repeat_real",
}  # fmt: skip


def gray(levels):
    """Return ``[B, 3, H, W]`` in [-1, 1] of gray levels 0..255 ``[B, H, W]``."""
    return (levels / 127.5 - 1)[:, None].expand(-1, 3, -1, -1).float()


def noise(std, count=1, size=SIZE, seed=0):
    draws = torch.randn(count, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 128 + std * draws


def constant(count=1, level=128.0):
    return torch.full((count, SIZE, SIZE), level, dtype=torch.float64)


def one_class(count=1, size=SIZE):
    return torch.zeros(count, size, size, dtype=torch.int64)


def figures(generated, real, label=None, void=None, **options):
    metric = TextureMetrics(**{"classes": 4} | options)
    metric.update(gray(generated), gray(real), one_class(len(real)) if label is None else label, void)
    return {name: float(value) for name, value in metric.compute().items()}


def mixed():
    """Return three images with two large regions each and a small one, and their label maps."""
    label = one_class(3)
    label[0, :, 30:] = 1
    label[1, 20:] = 2
    label[2, 10:50, 10:50] = 1
    label[:, :3, :3] = 3
    return noise(6, 3, seed=1) + 40 * (label == 1), noise(12, 3, seed=2) - 30 * (label == 2), label


# --- the figures against naive loops -------------------------------------------------------------------------------


def naive_regions(images, label, side, measure, min_share=0.01):
    """Return the mean measure of each (image, class), by loops."""
    found = {}
    for i, image in enumerate(images.numpy()):
        for y in range(0, image.shape[0] - side + 1, side // 2):
            for x in range(0, image.shape[1] - side + 1, side // 2):
                ids = label[i, y : y + side, x : x + side].unique()
                if len(ids) == 1:
                    found.setdefault((i, int(ids)), []).append(measure(image[y : y + side, x : x + side]))
    least = min_share * images[0].numel() / (side // 2) ** 2
    return {key: np.mean(values, axis=0) for key, values in found.items() if len(values) >= least}


def naive_detrended(patch):
    y, x = np.mgrid[: len(patch), : len(patch)]
    design = np.stack([np.ones(patch.size), y.ravel(), x.ravel()], axis=1)
    return patch - (design @ np.linalg.lstsq(design, patch.ravel(), rcond=None)[0]).reshape(patch.shape)


def naive_spectrum(patch):
    side = len(patch)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(side) / side)
    window = hann[:, None] * hann
    power = np.abs(np.fft.fft2(naive_detrended(patch) * window)) ** 2 / (window**2).sum()
    rings = [[] for _ in range(side // 2 + 1)]
    for y in range(side):
        for x in range(side):
            distance = math.hypot(min(y, side - y), min(x, side - x))
            rings[min(round(distance), side // 2)].append(power[y, x])
    return np.array([np.mean(ring) for ring in rings[1:]])


def test_deviation_is_that_of_naive_loops():
    generated, real, label = mixed()
    stds = [naive_regions(images, label, 8, lambda p: naive_detrended(p).std()) for images in (generated, real)]
    logs = [
        naive_regions(images, label, 8, lambda p: np.log(naive_detrended(p).std() + 1 / math.sqrt(12)))
        for images in (generated, real)
    ]
    assert len(stds[0]) == 6
    got = figures(generated, real, label)
    assert got["texture_std"] == pytest.approx(np.mean(list(stds[0].values())), rel=1e-5)
    assert got["texture_std_real"] == pytest.approx(np.mean(list(stds[1].values())), rel=1e-5)
    ratio = np.exp(np.mean(list(logs[0].values())) - np.mean(list(logs[1].values())))
    assert got["texture_ratio"] == pytest.approx(ratio, rel=1e-5)


def test_spectrum_is_that_of_naive_loops():
    generated, real, label = mixed()
    regions = [naive_regions(images, label, 16, naive_spectrum) for images in (generated, real)]
    total = 0.0
    for c in range(3):
        powers = [np.mean([v for (_, k), v in found.items() if k == c], axis=0) for found in regions]
        gain = 10 * np.log10((powers[0] + 1 / 12) / (powers[1] + 1 / 12))
        total += np.abs(gain).mean() * sum(k == c for _, k in regions[0])
    assert figures(generated, real, label)["texture_spectrum_db"] == pytest.approx(total / len(regions[0]), rel=1e-4)


def test_autocorrelation_is_that_of_naive_loops():
    patch = torch.randn(1, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    got = autocorrelation(patch)[0]
    a = patch[0].numpy()
    for y in range(7):
        for x in range(-6, 7):
            one = a[: 12 - y, max(0, -x) : 12 - max(0, x)]
            two = a[y:, max(0, x) : 12 - max(0, -x)]
            expected = (one * two).sum() / (math.sqrt((one**2).sum() * (two**2).sum()) + one.size / 12)
            assert float(got[y, x % 18]) == pytest.approx(expected, abs=1e-9)


# --- images whose texture is known ---------------------------------------------------------------------------------


def test_equal_images_differ_in_nothing():
    got = figures(noise(10), noise(10))
    assert set(got) == NAMES
    assert got["texture_ratio"] == 1
    assert got["texture_spectrum_db"] == 0
    assert got["texture_std"] == got["texture_std_real"] == pytest.approx(10, rel=0.05)
    assert got["texture_repeat"] == got["texture_repeat_real"]


def test_flat_images_beside_textured_photos():
    got = figures(constant(), noise(10))
    assert got["texture_std"] == pytest.approx(0, abs=1e-4)
    assert got["texture_ratio"] < 0.04
    assert (got["texture_flat_share"], got["texture_flat_share_real"]) == (1, 0)
    # white noise of variance 100 against that of rounding
    assert got["texture_spectrum_db"] == pytest.approx(10 * math.log10(100 * 12), abs=0.5)
    assert got["texture_repeat"] == pytest.approx(0, abs=1e-6)


def test_other_noise_of_the_same_kind_is_the_same_texture():
    got = figures(noise(10, 8, seed=1), noise(10, 8, seed=2))
    assert got["texture_ratio"] == pytest.approx(1, abs=0.02)
    assert got["texture_spectrum_db"] < 0.3


def test_a_spectrum_tells_grains_of_equal_deviation_apart():
    fine = noise(10, 4)
    coarse = fine[:, ::2, ::2].repeat_interleave(2, 1).repeat_interleave(2, 2)
    got = figures(coarse, fine)
    assert got["texture_std"] == pytest.approx(got["texture_std_real"], rel=0.15)
    assert got["texture_spectrum_db"] > 3


def test_white_noise_has_its_variance_at_every_frequency():
    powers = spectrum(noise(5, 400, size=16)).mean(dim=0)
    assert powers[1:].numpy() == pytest.approx(np.full(7, 25), rel=0.06)


def test_a_checkerboard_shows_in_the_last_ring():
    board = 10 * (torch.arange(16)[:, None] + torch.arange(16)).remainder(2).double()
    powers = spectrum(board[None])[0]
    assert int(powers.argmax()) == 7


def tiling(period, size=24, seed=0):
    tile = torch.randn(period, period, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    count = -(-size // period)
    return 10 * tile.repeat(count, count)[None, :size, :size]


@pytest.mark.parametrize("period", [2, 3, 5, 8, 11])
def test_a_tiling_repeats(period):
    assert float(repeats(tiling(period))) > 0.85


def test_white_noise_hardly_repeats():
    values = repeats(noise(10, 100, size=24))
    assert float(values.mean()) < 0.25
    assert float(values.max()) < 0.4


def test_stripes_repeat_one_edge_hardly_and_shading_not():
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    stripes = 10 * torch.sin(2 * math.pi * (x + y) / 7)
    edge = 50 * (x + 0.5 * y > 17.3)
    shading = 3 * x + 0.1 * (y - 9) ** 2
    values = repeats(torch.stack([stripes, edge, shading]).double())[:, 0]
    assert values[0] > 0.9
    assert values[1] < 0.5
    assert values[2] < 1e-6


def test_a_pattern_fainter_than_rounding_hardly_repeats():
    faint = tiling(8) / 10 * 0.05
    assert float(repeats(faint)) < 0.1 < 0.85 < float(repeats(tiling(8)))


def test_repetition_is_the_same_mirrored_and_turned():
    patches = noise(10, 5, size=24) - 128
    for other in (patches.flip(1), patches.flip(2), patches.mT):
        assert repetition(other).numpy() == pytest.approx(repetition(patches).numpy())


def test_shading_is_no_texture():
    shaded = constant() + torch.arange(SIZE) - 0.5 * torch.arange(SIZE)[:, None]
    got = figures(shaded, noise(10))
    assert got["texture_std"] == pytest.approx(0, abs=1e-4)
    assert got["texture_repeat"] == pytest.approx(0, abs=1e-6)


# --- regions -------------------------------------------------------------------------------------------------------


def test_borders_between_classes_are_no_texture():
    label = one_class()
    label[:, 13:41, 9:] = 1
    got = figures(constant() + 100 * label, noise(10), label)
    assert got["texture_std"] == pytest.approx(0, abs=1e-4)
    assert got["texture_flat_share"] == 1
    assert got["texture_spectrum_db"] == pytest.approx(10 * math.log10(100 * 12), abs=0.6)


def test_void_is_left_out():
    label = one_class()
    label[:, 32:] = 3
    half = torch.where(label == 3, constant(), noise(10))
    assert figures(half, noise(10), label, void=3)["texture_ratio"] == 1
    assert figures(half, noise(10), label)["texture_ratio"] < 0.3


def test_small_regions_are_left_out():
    label = one_class()
    label[:, :16, :16] = 1  # nine windows, sixteen pixels each: 3.5 % of the image
    generated = torch.where(label == 1, constant(), noise(10))
    assert figures(generated, noise(10), label, min_share=0.04)["texture_ratio"] == 1
    assert figures(generated, noise(10), label, min_share=0.03)["texture_ratio"] < 0.3


def test_every_region_counts_once_whatever_its_area():
    label = one_class()
    label[:, 24:] = 1
    metric = TextureMetrics(classes=4)
    metric.update(gray(torch.where(label == 1, noise(20), constant())), gray(noise(10)), label)
    by_class = {name: values.tolist() for name, values in metric.by_class().items()}
    assert by_class["texture_flat_share"][:2] == [1, 0]
    assert float(metric.compute()["texture_flat_share"]) == 0.5
    assert by_class["texture_ratio"][1] == pytest.approx(2, abs=0.1)
    assert float(metric.compute()["texture_ratio"]) == pytest.approx(math.prod(by_class["texture_ratio"][:2]) ** 0.5)
    assert all(math.isnan(value) for values in by_class.values() for value in values[2:])


def test_without_a_large_region_there_is_no_figure():
    label = torch.arange(SIZE * SIZE).view(1, SIZE, SIZE) % 2
    got = figures(noise(10), noise(10), label)
    assert set(got) == NAMES
    assert all(math.isnan(value) for value in got.values())


def test_an_image_smaller_than_a_patch_still_has_the_other_figures():
    got = figures(noise(10, size=20), noise(10, size=20), one_class(size=20))
    assert math.isnan(got["texture_repeat"])
    assert got["texture_ratio"] == 1


def test_luminance_decides_and_values_beyond_the_range_are_clamped():
    red = torch.zeros(1, 3, SIZE, SIZE)
    red[:, 0] = gray(noise(10))[:, 0]
    metric = TextureMetrics(classes=1)
    metric.update(red, torch.full_like(red, 3) + red, one_class())
    got = metric.compute()
    assert float(got["texture_std"]) == pytest.approx(0.299 * 10, rel=0.05)
    assert float(got["texture_std_real"]) == pytest.approx(0, abs=1e-6)


def test_reset_starts_anew():
    metric = TextureMetrics(classes=1)
    metric.update(gray(constant()), gray(noise(10)), one_class())
    metric.reset()
    metric.update(gray(noise(10)), gray(noise(10)), one_class())
    assert float(metric.compute()["texture_ratio"]) == 1


def test_bad_input():
    with pytest.raises(UserError, match="class id 5; texture counts 4 classes"):
        figures(noise(1), noise(1), one_class() + 5)
    for options in ({"window": 3}, {"patch": 2}, {"tile": 7}, {"classes": 0}):
        with pytest.raises(UserError, match=next(iter(options))):
            TextureMetrics(**options)


# --- several processes ---------------------------------------------------------------------------------------------


def measure(indices):
    """Return all figures of some of the mixed images, and of all processes."""
    generated, real, label = mixed()
    metric = TextureMetrics(classes=4)
    for i in indices:
        metric.update(gray(generated[i : i + 1]), gray(real[i : i + 1]), label[i : i + 1])
    by_class = {f"{name} of {c}": float(v[c]) for name, v in metric.by_class().items() for c in range(3)}
    return {name: float(value) for name, value in metric.compute().items()} | by_class


def work(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", f"file://{folder}/rendezvous", timedelta(seconds=60), world_size=3, rank=rank
    )
    Path(folder, f"{rank}.json").write_text(json.dumps(measure([[0, 2], [1], []][rank])))
    distributed.destroy_process_group()


def test_three_processes_measure_what_one_does(tmp_path):
    multiprocessing.spawn(work, (str(tmp_path),), nprocs=3)
    alone = measure(range(3))
    assert sum(not math.isnan(value) for value in alone.values()) > len(NAMES)
    for rank in range(3):
        together = json.loads(Path(tmp_path, f"{rank}.json").read_text())
        assert together == pytest.approx(alone, rel=1e-9, nan_ok=True)
