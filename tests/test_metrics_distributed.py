"""Every metric has the same value on one process and on two, also where the images do not divide."""

import json
import math
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from nibkit.metrics import (
    Anisotropy,
    DottedLevels,
    FilteredPSNR,
    FlatStd,
    GrayscaleMetrics,
    HalftoneMetrics,
    HalftoneSSIM,
    LowFrequencyRatio,
    ToneError,
)

METRICS = {
    "psnr": (FilteredPSNR, 2.0),
    "ssim": (HalftoneSSIM,),
    "tone_error": (ToneError,),
    "flat_std": (FlatStd,),
    "dotted_levels": (DottedLevels,),
    "ratio": (LowFrequencyRatio,),
    "ratio_worst": (LowFrequencyRatio, "worst"),
    "anisotropy": (Anisotropy,),
    "anisotropy_worst": (Anisotropy, "worst"),
}
COUNT = 7


def samples():
    """Seven halftones of as many grays; the fourth has no dots."""
    levels = torch.linspace(0.1, 0.9, COUNT)
    draws = torch.rand(COUNT, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    halftones = torch.where(draws < levels[:, None, None, None], 1.0, -1.0)
    halftones[3] = -1
    return halftones, levels


def measure(indices):
    """Return all figures of the samples with these indices, and of all processes."""
    halftones, levels = samples()
    grays = (2 * levels - 1)[:, None, None, None].expand_as(halftones)
    figures = {}
    for name, (make, *options) in METRICS.items():
        metric = make(*options)
        target = grays if make in (FilteredPSNR, HalftoneSSIM) else levels
        for i in indices:
            metric.update(halftones[i : i + 1], target[i : i + 1])
        figures[name] = float(metric.compute())
    suite = HalftoneMetrics()
    for name, last in {"photo": COUNT, "comic": 1, "tone": 1, "spectrum": 1}.items():
        for i in indices:
            if i < last:  # one image, so that the second process has none
                target = levels if name in ("tone", "spectrum") else grays
                suite.update(name, halftones[i : i + 1], target[i : i + 1], [f"image {i}"])
    each = {f"{name} of {image}": value for image, values in suite.per_image()["photo"].items()
            for name, value in values.items()}  # fmt: skip
    figures |= dict(sorted(each.items()))
    figures |= {f"suite {name}": float(value) for name, value in suite.compute().items()}
    colour = {f"grayscale {name}": float(value) for name, value in grayscale(indices).compute().items()}
    return figures | colour


def grayscale(indices):
    """Return the metrics of invertible grayscale of seven images, of which the worst is the sixth."""
    images = torch.rand(COUNT, 3, 24, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    errors = torch.tensor([0.1, 0.2, 0.0, 0.3, 0.1, 0.9, 0.5])[:, None, None, None]
    outputs = {"gray": images[:, :1], "restored": images * (1 - errors), "rotated": images.flip(1)}
    suite = GrayscaleMetrics(("rotated",))
    for name, last in {"photo": COUNT, "comic": 1, "colour": COUNT}.items():
        for i in [i for i in indices if i < last]:
            names = [] if name == "colour" else [f"image {i}"]
            suite.update(name, {k: v[i : i + 1] for k, v in outputs.items()}, images[i : i + 1], names)
    return suite


def work(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", f"file://{folder}/rendezvous", timedelta(seconds=60), world_size=2, rank=rank
    )
    Path(folder, f"{rank}.json").write_text(json.dumps(measure(range(rank, COUNT, 2))))
    distributed.destroy_process_group()


def test_two_processes_measure_what_one_does(tmp_path):
    multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    alone = measure(range(COUNT))
    assert not any(math.isnan(value) for value in alone.values())
    for rank in range(2):
        together = json.loads((tmp_path / f"{rank}.json").read_text())
        assert list(together) == list(alone)
        assert together == pytest.approx(alone, rel=1e-6)
