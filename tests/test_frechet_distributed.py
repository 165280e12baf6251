"""FID and KID of seven images are the same on one, two and three processes, and what they keep on disk is."""

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing, nn

from nibkit.metrics.frechet import DistributionMetrics

COUNT = 7


class Colours(nn.Module):
    """Three features: the mean of each channel; two more: of their products."""

    def forward(self, images):
        means = (images / 255).mean(dim=(2, 3))
        return torch.cat([means, means[:, :2] * means[:, 1:]], dim=1)


def photographs(seed):
    noise = torch.Generator().manual_seed(seed)
    return torch.rand(COUNT, 3, 8, 8, generator=noise) * torch.rand(COUNT, 3, 1, 1, generator=noise) * 2 - 1


def measure(indices, cache):
    """Return the figures of the images with these indices, and of all processes; of seven images and of two."""
    real, fake = photographs(0), photographs(1)
    figures = {}
    for count in (COUNT, 2):  # two images, so that a third process has none
        metrics = DistributionMetrics(Colours(), cache=cache)
        for i in (i for i in indices if i < count):
            metrics.update(real[i : i + 1], fake[i : i + 1])
        figures |= {f"{name} of {count}": float(value) for name, value in metrics.compute().items()}
    return figures


def work(rank, folder):
    """Measure with three processes, then with the first two of them, which saves starting them."""
    torch.set_num_threads(1)
    for ranks in (3, 2):
        if rank < ranks:
            place = Path(folder, f"{ranks} ranks")
            place.mkdir(exist_ok=True)
            distributed.init_process_group(
                "gloo", f"file://{place}/rendezvous", timedelta(seconds=60), world_size=ranks, rank=rank
            )
            figures = measure(range(rank, COUNT, ranks), place / f"cache {rank}")
            (place / f"{rank}.json").write_text(json.dumps(figures))
            distributed.destroy_process_group()


def test_several_processes_measure_what_one_does(tmp_path):
    multiprocessing.spawn(work, (str(tmp_path),), nprocs=3)
    alone = measure(range(COUNT), tmp_path / "cache alone")
    assert alone["fid_images of 7"] == 7
    assert alone["fid of 7"] > 0.01
    (kept,) = (tmp_path / "cache alone").iterdir()
    for ranks in (2, 3):
        place = tmp_path / f"{ranks} ranks"
        for rank in range(ranks):
            together = json.loads((place / f"{rank}.json").read_text())
            assert list(together) == list(alone)
            assert together == pytest.approx(alone, rel=1e-6)
        assert [folder.name for folder in place.glob("cache *")] == ["cache 0"]  # only the first rank writes
        assert_same_features(place / "cache 0" / kept.name, kept)


def assert_same_features(file, expected_file):
    found, expected = (
        {d.tobytes(): f for d, f in zip(*np.load(path).values(), strict=True)} for path in (file, expected_file)
    )
    assert len(found) == COUNT
    assert found.keys() == expected.keys()
    for digest, features in expected.items():
        np.testing.assert_allclose(found[digest], features, rtol=1e-6)
