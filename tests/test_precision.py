"""Training in bfloat16: only the network computes in it; losses and metrics are those of full precision."""

import lightning.pytorch as pl
import pytest
import torch

from nibkit import precision
from nibkit.config import load_config
from nibkit.filters import _copied, gaussian_filter, gaussian_matrix, separable
from nibkit.make import make, make_trainer
from nibkit.metrics.sets import MetricSets
from nibkit.metrics.suite import HalftoneMetrics
from nibkit.precision import fast_precision, full_precision

TASKS = ("dithering", "halftoning", "autoencoder", "invertible_grayscale")


def autocast():
    return torch.autocast("cpu", torch.bfloat16)


def halftones():
    generator = torch.Generator().manual_seed(0)
    gray = torch.rand(1, 1, 40, 40, generator=generator) * 2 - 1
    return torch.where(gray > torch.rand(1, 1, 40, 40, generator=generator) * 2 - 1, 1.0, -1.0), gray


def test_filters_are_exact_under_autocast():
    halftone, _ = halftones()
    with autocast():
        found = gaussian_filter(halftone, 2.0)
    assert found.dtype == torch.float32
    assert torch.equal(found, gaussian_filter(halftone, 2.0))


def test_metrics_are_exact_under_autocast():
    halftone, gray = halftones()
    found = []
    for enabled in (False, True):
        metrics = HalftoneMetrics()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            metrics.update("photo", halftone, gray)
        found.append(metrics.compute())
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    assert issubclass(HalftoneMetrics, MetricSets)


def test_the_losses_of_a_halftone_are_exact_under_autocast():
    task = make("task", load_config(["task=dithering"]).task)
    halftone, gray = halftones()
    for term in (*task.image_terms.values(), *task.flat_terms.values()):
        with autocast():
            found = term(halftone, gray), term.flip_gain(halftone, gray)
        assert torch.equal(found[0], term(halftone, gray))
        assert torch.equal(found[1], term.flip_gain(halftone, gray))


def test_leaving_autocast_is_for_a_while():
    x = torch.ones(2, 2)
    with autocast():
        with full_precision(x.device):
            assert (x @ x).dtype == torch.float32
        assert (x @ x).dtype == torch.bfloat16


def test_a_matrix_is_copied_to_another_device_once():
    image = torch.zeros(1, 1, 16, 16, device="meta")
    matrix = gaussian_matrix(16, 2.0)
    assert separable(image, matrix, matrix).device.type == "meta"
    hits = _copied.cache_info().hits
    separable(image, matrix, matrix)
    assert _copied.cache_info().hits == hits + 2


@pytest.mark.parametrize(
    ("flags", "expected"),
    [(["avx2"], "32-true"), (["avx2", "avx512_bf16"], "bf16-mixed"), (["amx_bf16"], "bf16-mixed"), ([], "32-true")],
)
def test_a_processor_that_multiplies_bfloat16_is_used_so(monkeypatch, flags, expected):
    monkeypatch.setattr(precision, "_instructions", lambda: flags)
    assert fast_precision("cpu") == expected


def test_other_devices_keep_full_precision():
    assert fast_precision("mps") == "32-true"
    assert fast_precision("cuda") == ("bf16-mixed" if torch.cuda.is_available() else "32-true")


def test_auto_is_told_and_used(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(precision, "_instructions", lambda: ["amx_bf16"])
    options = ["task=dithering", "trainer.precision=auto", "trainer.accelerator=cpu", f"run_dir={tmp_path / 'run'}"]
    config = load_config(options)
    with caplog.at_level("INFO"):
        trainer = make_trainer(config, make("task", config.task))
    assert trainer.precision == "bf16-mixed"
    assert "precision: bf16-mixed" in caplog.text


@pytest.mark.parametrize("name", TASKS)
def test_every_task_learns_in_bfloat16(name, tmp_path):
    options = [f"task={name}", "trainer.precision=bf16-mixed", "trainer.max_steps=3", "trainer.accelerator=cpu"]
    small = ["data.crop_size=32", "data.batch_size=2", "logger=none", "trainer.limit_val_batches=1"]
    config = load_config([*options, *small, f"run_dir={tmp_path / 'run'}", "callbacks.progress=null"])
    pl.seed_everything(0, verbose=False)
    task = make("task", config.task)
    trainer = make_trainer(config, task)
    trainer.fit(task, datamodule=make("data", config.data))
    assert trainer.global_step == 3
    assert all(weight.isfinite().all() and weight.dtype == torch.float32 for weight in task.parameters())
    assert all(float(term) == float(term) for term in task.last_terms.values())
