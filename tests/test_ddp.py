"""Two processes on the CPU, as ``trainer.strategy=ddp trainer.devices=2`` starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nibkit.cli import train

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven test images of unequal sizes, and some to train and validate on."""
    folder = tmp_path_factory.mktemp("split")
    for part, count in (("train", 4), ("val", 3), ("test", 7)):
        (folder / part).mkdir()
        for i in range(count):
            pixels = np.random.default_rng([len(part), i]).integers(0, 256, (33 + 3 * i, 48 - i), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / part / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def options(folder):
    # no limit on the test batches: the ranks share all of them
    return [
        "data=folder", f"data.root={folder}", "data.crop_size=32", "data.batch_size=2", "data.samples_per_epoch=8",
        "data.num_workers=0", "backbone.width=2", "backbone.blocks=1", "nib.scale=3", "trainer.accelerator=cpu",
        "trainer.max_steps=3", "task.optimizer.lr=0.02", "task.schedule.warmup=0", "logger=none",
        "callbacks.samples=null", "callbacks.spectrum=null", "callbacks.flatness=null",
    ]  # fmt: skip


def two_processes(options, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("NIBKIT_RUN_ID", None)
    command = [sys.executable, str(ROOT / "train.py"), "trainer.strategy=ddp", "trainer.devices=2", *options]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def figures(run):
    return json.loads((run / "metrics.json").read_text())


def test_two_processes_train_one_run_with_the_figures_of_one_process(options, tmp_path):
    done = two_processes(options, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Floyd-Steinberg") == 1  # one table
    (run,) = (tmp_path / "outputs" / "dithering").iterdir()
    assert {p.name for p in run.iterdir()} >= {"config.yaml", "metrics.json", "run.log", "environment.json"}
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3
    train([*options, "mode=test", f"ckpt_path={run}/checkpoints/best.ckpt", "run_dir=one"])
    one = figures(Path("one"))
    assert one["test/flat_std"] > 0
    assert figures(run) == pytest.approx(one, rel=1e-6, abs=1e-6)


@pytest.mark.slow
def test_bad_input_ends_both_processes(options, tmp_path):
    done = two_processes([*options, "data.batch_size=8", "run_dir=run"], tmp_path)
    assert done.returncode == 2
    assert "data.batch_size=8 is larger than the 4 samples per epoch of each of 2 processes" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_more_processes_than_images_of_a_set(tmp_path):
    """The embedded data validates on one comic page: the second process has none, and nothing is repeated."""
    done = two_processes(
        [
            "data=builtin", "data.crop_size=32", "backbone.width=2", "backbone.blocks=1", "trainer.accelerator=cpu",
            "trainer.max_steps=2", "data.val_crop=64", "data.test_crop=64", "trainer.limit_test_batches=1",
            "logger=none", "callbacks.spectrum=null", "callbacks.flatness=null", "run_dir=run",
        ],
        tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/checkpoints/best.ckpt").exists()
    assert (tmp_path / "run/samples/step_000002.png").exists()


@pytest.mark.slow
def test_photographs_are_judged_alike_by_one_process_and_two(tmp_path):
    """A generator and its discriminator train on two processes; 7 test scenes are judged once each."""
    options = [
        "task=semantic_synthesis", "backbone.width=1", "backbone.hidden=4", "discriminator.width=4",
        "data.size=[64,64]", "data.test_images=7", "trainer.accelerator=cpu", "trainer.max_steps=3",
        "trainer.val_check_interval=3", "logger=none", "callbacks.samples=null",
    ]  # fmt: skip
    done = two_processes([*options, "run_dir=two"], tmp_path)
    assert done.returncode == 0, done.stderr
    train([*options, "mode=test", "ckpt_path=two/checkpoints/best.ckpt", "run_dir=one"])
    two, one = figures(tmp_path / "two"), figures(tmp_path / "one")
    assert two.keys() == one.keys()
    assert two["test/texture_std_real"] > 1
    assert two == pytest.approx(one, rel=1e-6)
