"""Frechet and kernel distances against torchmetrics and the formulas; one pass of the network; remembered features."""

import logging
import math

import numpy as np
import pytest
import scipy.linalg
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance
from torchvision.transforms.functional import normalize

from nibkit.errors import UserError
from nibkit.metrics.frechet import (
    DistributionMetrics,
    frechet_distance,
    kernel_distance,
    to_uint8,
    vgg_metrics,
)


class Patches(nn.Module):
    """Six features of 8-bit images; counts the images it has seen."""

    def __init__(self, seed=0):
        super().__init__()
        noise = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(6, 3, 4, 4, generator=noise))
        self.seen, self.num_features = 0, 6

    def forward(self, images):
        assert images.dtype == torch.uint8
        self.seen += len(images)
        return nn.functional.conv2d(images / 255, self.weight, stride=2).relu().mean(dim=(2, 3))


def photographs(count=12, seed=0, size=16, brightness=0.0):
    noise = torch.Generator().manual_seed(seed)
    spread = torch.rand(count, 3, 1, 1, generator=noise)
    return ((torch.rand(count, 3, size, size, generator=noise) * 2 - 1) * spread + brightness).clamp(-1, 1)


def judge(metrics, real, fake, batch=5):
    metrics.reset()
    for one, other in zip(real.split(batch), fake.split(batch), strict=True):
        metrics.update(one, other)
    return {name: float(value) for name, value in metrics.compute().items()}


def test_figures_are_those_of_torchmetrics_with_its_own_passes():
    real, fake, network = photographs(), photographs(seed=1, brightness=0.3), Patches()
    figures = judge(DistributionMetrics(network), real, fake)
    fid = FrechetInceptionDistance(feature=network)
    kid = KernelInceptionDistance(feature=network, subsets=1, subset_size=12)
    with torch.no_grad():
        for metric in (fid, kid):
            metric.update(to_uint8(real), real=True)
            metric.update(to_uint8(fake), real=False)
    assert list(figures) == ["fid", "kid", "fid_images"]
    assert figures["fid_images"] == 12
    assert figures["fid"] == pytest.approx(float(fid.compute()), rel=1e-5)
    assert figures["kid"] == pytest.approx(float(kid.compute()[0]), rel=1e-3)
    assert figures["fid"] > 0.01


def test_frechet_distance_is_the_formula_with_the_root_of_a_matrix():
    noise = np.random.default_rng(0)
    real, fake = noise.normal(size=(50, 7)), noise.normal(size=(40, 7)) @ noise.normal(size=(7, 7)) + 0.5
    one, other = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    root = scipy.linalg.sqrtm(one @ other).real
    expected = ((real.mean(0) - fake.mean(0)) ** 2).sum() + np.trace(one + other - 2 * root)
    found = frechet_distance(torch.from_numpy(real), torch.from_numpy(fake))
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_fewer_images_than_features_have_the_same_formula():
    noise = torch.Generator().manual_seed(0)
    real, fake = torch.rand(7, 64, generator=noise), torch.rand(5, 64, generator=noise) ** 2
    one, other = ((x - x.mean(0)).double().numpy() / (len(x) - 1) ** 0.5 for x in (real, fake))
    # the root's trace is the sum of these singular values, whatever the ranks of the covariances are
    root = np.linalg.svd(one @ other.T, compute_uv=False).sum()
    expected = (real.mean(0) - fake.mean(0)).square().sum().item() + (one**2).sum() + (other**2).sum() - 2 * root
    assert frechet_distance(real, fake).item() == pytest.approx(expected, rel=1e-6)


def test_kernel_distance_is_the_mean_over_all_pairs():
    noise = np.random.default_rng(0)
    real, fake = noise.normal(size=(6, 4)), noise.normal(size=(6, 4)) + 0.5

    def mean(left, right, skip_same):
        pairs = [(i, j) for i in range(6) for j in range(6) if not (skip_same and i == j)]
        return sum((left[i] @ right[j] / 4 + 1) ** 3 for i, j in pairs) / len(pairs)

    expected = mean(real, real, True) + mean(fake, fake, True) - 2 * mean(real, fake, False)
    found = kernel_distance(torch.from_numpy(real), torch.from_numpy(fake))
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_order_and_batches_change_nothing_and_chance_is_left_alone():
    real, fake, metrics = photographs(), photographs(seed=1), DistributionMetrics(Patches())
    state = torch.get_rng_state()
    figures = judge(metrics, real, fake)
    assert judge(metrics, real.flip(0), fake.roll(3, 0), batch=1) == pytest.approx(figures, rel=1e-5)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_images_have_no_distance():
    figures = judge(DistributionMetrics(Patches()), photographs(), photographs())
    assert figures["fid"] == pytest.approx(0, abs=1e-6)
    assert figures["kid"] < 0  # unbiased: around 0, below it for the very same images


def test_images_are_clamped_and_rounded_as_files_are():
    values = torch.tensor([-2.0, -1.0, -1 + 0.9 / 127.5, 0.0, 1.0, 1.008])
    assert to_uint8(values).tolist() == [0, 0, 1, 128, 255, 255]


def test_one_pass_serves_both_figures_and_real_images_pass_once_for_ever():
    network = Patches()
    metrics = DistributionMetrics(network)
    first = judge(metrics, photographs(), photographs(seed=1))
    assert network.seen == 12 + 12
    assert judge(metrics, photographs(), photographs(seed=1)) == first
    assert network.seen == 24 + 12


def test_another_run_finds_the_features_of_real_images(tmp_path):
    real, fake = photographs(), photographs(seed=1)
    first = judge(DistributionMetrics(Patches(), cache=tmp_path / "new"), real, fake)
    network = Patches()
    assert judge(DistributionMetrics(network, cache=tmp_path / "new"), real, fake) == first
    assert network.seen == 12
    half = judge(DistributionMetrics(network, cache=tmp_path / "new"), real[::2], fake[::2])
    assert network.seen == 12 + 6
    assert half == judge(DistributionMetrics(Patches()), real[::2], fake[::2], batch=5)


@pytest.mark.parametrize("change", ["pixel", "size", "network", "name"])
def test_other_images_and_networks_are_never_mistaken(change, tmp_path):
    real = photographs()
    judge(DistributionMetrics(Patches(), cache=tmp_path), real, real)
    if change == "pixel":
        real[:, 0, 3, 4] = -real[:, 0, 3, 4] + 0.1
    elif change == "size":  # of the same pixels
        real = real.reshape(12, 3, 8, 32)
    network = Patches(seed=1 if change == "network" else 0)
    name = "frechet_other" if change == "name" else "fid"
    judge(DistributionMetrics(network, name, cache=tmp_path), real, real)
    assert network.seen == 12 + 12


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty"])
def test_a_damaged_memory_is_made_anew(damage, tmp_path):
    real, fake = photographs(), photographs(seed=1)
    first = judge(DistributionMetrics(Patches(), cache=tmp_path), real, fake)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    whole = bytes(content)
    if damage == "flipped":
        with np.load(file) as parts:
            content[content.index(parts["features"][5].tobytes())] ^= 1
    file.write_bytes({"cut": content[:500], "flipped": content, "text": b"features", "empty": b""}[damage])
    network = Patches()
    assert judge(DistributionMetrics(network, cache=tmp_path), real, fake) == first
    assert network.seen == 12 + 12
    assert file.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path):
    (tmp_path / "file").touch()
    metrics = DistributionMetrics(Patches(), cache=tmp_path / "file" / "cache")
    assert judge(metrics, photographs(), photographs(seed=1))["fid"] > 0


def test_two_runs_at_once_keep_what_both_have_seen(tmp_path):
    real, fake = photographs(), photographs(seed=1)
    one, other = (DistributionMetrics(Patches(), cache=tmp_path) for _ in range(2))
    for metrics, part in ((one, slice(6)), (other, slice(6, 12))):
        metrics.update(real[part], fake[part])
    one.compute()
    other.compute()
    network = Patches()
    judge(DistributionMetrics(network, cache=tmp_path), real, fake)
    assert network.seen == 12


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_have_no_figure_and_say_so(count, caplog):
    metrics = DistributionMetrics(Patches())
    if count:
        metrics.update(photographs(1), photographs(1, seed=1))
    with caplog.at_level(logging.WARNING):
        figures = metrics.compute()
    assert figures["fid_images"] == count
    assert math.isnan(figures["fid"])
    assert math.isnan(figures["kid"])
    assert f"of {count} image(s)" in caplog.text


def test_broken_generated_images_make_the_figures_nan():
    fake = photographs(seed=1)
    fake[3, 0, 0, 0] = torch.nan
    figures = judge(DistributionMetrics(Patches()), photographs(), fake)
    assert math.isnan(figures["fid"])
    assert math.isnan(figures["kid"])


def test_unequal_numbers_are_refused():
    with pytest.raises(ValueError, match="3 real images but 2"):
        DistributionMetrics(Patches()).update(photographs(3), photographs(2))


def test_the_precision_of_the_run_changes_nothing():
    real, fake = photographs(), photographs(seed=1)
    expected = judge(DistributionMetrics(Patches()), real, fake)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert judge(DistributionMetrics(Patches()), real, fake) == expected


def test_no_module_holds_the_network():
    task = nn.Linear(1, 1)
    task.metrics = DistributionMetrics(Patches())
    assert list(task.state_dict()) == ["weight", "bias"]


@pytest.fixture(scope="module")
def vgg16():
    """Torchvision's VGG16 with random weights; only its convolutions get memory."""
    with torch.device("meta"):
        features = torchvision.models.vgg16().features
    features.to_empty(device="cpu")
    noise = torch.Generator().manual_seed(0)
    for weight in features.parameters():
        weight.data.normal_(0, (2 / weight[0].numel()) ** 0.5 if weight.dim() > 1 else 0.1, generator=noise)
    return features


def test_vgg_gives_figures_of_its_own_names(vgg16, tmp_path):
    save_file({f"features.{key}": value for key, value in vgg16.state_dict().items()}, tmp_path / "vgg.safetensors")
    real, fake = photographs(4, size=32), photographs(4, seed=1, size=32)
    figures = judge(vgg_metrics(str(tmp_path / "vgg.safetensors")), real, fake)
    assert list(figures) == ["frechet_vgg16", "kernel_vgg16", "frechet_vgg16_images"]
    with torch.no_grad():
        sets = [
            vgg16[:26](normalize(to_uint8(images) / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])).mean((2, 3))
            for images in (real, fake)
        ]
    assert figures["kernel_vgg16"] == pytest.approx(kernel_distance(*sets).item(), rel=1e-3)
    assert figures["frechet_vgg16"] == pytest.approx(frechet_distance(*sets).item(), rel=1e-3)


def test_vgg_files_that_end_too_early_are_told_by_their_key(vgg16, tmp_path):
    save_file(vgg16[:20].state_dict(), tmp_path / "short.safetensors")
    with pytest.raises(UserError, match=r"metrics\.frechet\.weights_path: .* end with conv4_2, but conv5_1"):
        vgg_metrics(str(tmp_path / "short.safetensors"))
