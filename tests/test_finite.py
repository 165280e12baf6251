"""A loss that is no number ends the run before it spoils what is kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import BARE, TINY

from nibkit import registry
from nibkit.cli import train

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = [*TINY, *BARE, "data.samples_per_epoch=20", "trainer.max_steps=9", "callbacks.last.steps=2", "run_dir=run"]
# a network of a user's whose fifth answer is no number
BAD = """
import torch

from nibkit.backbones import ResNet
from nibkit.registry import register_backbone

@register_backbone("bad")
class Bad(ResNet):
    calls = 0

    def forward(self, image, origin=None):
        answer = super().forward(image, origin)
        Bad.calls += self.training
        return answer * float("nan") if self.training and Bad.calls == 5 and {where} else answer
"""


def settings(folder, images, where="True"):
    (folder / "bad_network.py").write_text(BAD.format(where=where))
    return [*SETTINGS, f"data.root={images}", "imports=[bad_network]", "backbone.name=bad", "task=halftoning"]


def run(options, folder):
    command = [sys.executable, "-m", "nibkit", "train", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("NIBKIT_RUN_ID", None)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=200
    )


def test_the_step_is_not_applied_and_the_terms_are_named(images, tmp_path):
    done = run([*settings(tmp_path, images), "task.estimator=relaxed"], tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "the loss is not finite at step 5 (tone " in done.stderr
    assert "go on from last.ckpt (ckpt_path=auto)" in done.stderr
    kept = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert kept["global_step"] == 4
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


def test_an_infinite_loss_is_none_either(images):
    with pytest.raises(SystemExit) as error:
        train([*SETTINGS, f"data.root={images}", "task.tone_weight=1e39"])  # beyond float32
    assert error.value.code == 1


@pytest.fixture
def no_trace():
    """Let the network be known in this test alone."""
    yield
    registry._BACKBONES.classes.pop("bad")


@pytest.mark.usefixtures("no_trace")
def test_it_goes_on_from_there(images, tmp_path, monkeypatch):
    """Where the fifth answer was bad by chance."""
    options = settings(tmp_path, images, where="False")
    monkeypatch.syspath_prepend(tmp_path)
    train([*options, "trainer.max_steps=4"])
    train([*options, "ckpt_path=auto"])
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 9


@pytest.mark.slow
def test_it_ends_all_ranks_and_names_the_one(images, tmp_path):
    options = settings(tmp_path, images, where="torch.distributed.get_rank() == 1")
    done = run([*options, "trainer=ddp_sim", "data.batch_size=1"], tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("the loss of rank 1 is not finite at step 5 (tone ") == 1
    kept = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert kept["global_step"] == 4
