"""Shared fixtures: a clean process per test, small images, one tiny trained run."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import hydra
import numpy as np
import pytest
import torch
from PIL import Image

import nibkit
from nibkit.cli import train

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # before a test imports it: it looks for updates on the network

TINY = [
    "data=folder", "data.crop_size=32", "data.batch_size=2", "data.num_workers=0", "data.val_crop=64",
    "data.test_crop=64", "backbone.width=2", "backbone.blocks=1", "trainer.accelerator=cpu", "trainer.max_steps=2",
    "trainer.limit_val_batches=1", "trainer.limit_test_batches=1",
]  # fmt: skip
STRONG_NOISE = "nib.scale=3"
BARE = ["logger=none", "callbacks.spectrum=null", "callbacks.flatness=null", "callbacks.samples=null"]


@contextlib.contextmanager
def clean_process(folder):
    """Work in ``folder``; put back what a run changes in this process: environment, folder, log files."""
    before = Path.cwd()
    os.chdir(folder)
    with mock.patch.dict(os.environ, {"NIBKIT_CACHE": str(folder / "cache")}):
        # the run id of one run must not become that of the next
        os.environ.pop("NIBKIT_RUN_ID", None)
        yield
    os.chdir(before)
    for logger in (logging.getLogger(), logging.getLogger("lightning.pytorch")):
        for handler in [h for h in logger.handlers if type(h) is logging.FileHandler]:
            logger.removeHandler(handler)
            handler.close()


def trainer_of(rank, world_size):
    """Stand in for the trainer of a process, before its first batch."""
    loop = SimpleNamespace(batch_progress=SimpleNamespace(total=SimpleNamespace(processed=0)))
    return SimpleNamespace(
        global_rank=rank, world_size=world_size, fit_loop=SimpleNamespace(epoch_loop=loop), num_training_batches=1
    )


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _clean(tmp_path):
    with clean_process(tmp_path):
        yield


def draw(seed, height, width, channels=None):
    """Return a smooth 8-bit picture with edges, repeatable."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = [127 + 90 * np.sin(x / rng.uniform(5, 15) + y / rng.uniform(5, 15)) for _ in range(channels or 1)]
    picture = np.stack(planes, axis=-1) + 30 * (x > width / 2)[..., None]
    picture = picture.clip(0, 255).astype(np.uint8)
    return picture if channels else picture[..., 0]


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """A folder of seven small images, gray and RGB, some in sub-folders; read only."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "sub" / "deep").mkdir(parents=True)
    for i, name in enumerate(["a.png", "b.jpg", "c.tif", "d.webp", "sub/e.png", "sub/f.JPG", "sub/deep/g.png"]):
        Image.fromarray(draw(i, 40 + i, 52 - i, 3 if i % 2 else None)).save(folder / name)
    return folder


@pytest.fixture(scope="session")
def tiny(images):
    """Options of a run of two steps that leaves out the slow pictures."""
    return [*TINY, *BARE, f"data.root={images}"]


@pytest.fixture(scope="session")
def tiny_run(images, tmp_path_factory):
    """The folder of a finished tiny run with all callbacks and loggers; read only."""
    home = tmp_path_factory.mktemp("tiny")
    with clean_process(home):
        # trained with strong noise until it makes dots: an all-white answer would make many tests blind
        train([
            *TINY, f"data.root={images}", "task.optimizer.lr=0.005", "task.schedule.warmup=0", STRONG_NOISE,
            "trainer.gradient_clip_val=null", "seed=2", "trainer.max_steps=30", "trainer.val_check_interval=15",
            "run_dir=run",
        ])  # fmt: skip
    return home / "run"


@contextlib.contextmanager
def as_nobody():
    """Lose root's rights for a while, so that permission bits bind."""
    root = os.geteuid() == 0
    if root:
        os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        if root:
            os.setresuid(0, 0, 0)


@pytest.fixture
def nobody():
    """The context manager :func:`as_nobody`, where the packages can be read without root's rights."""
    with as_nobody():
        readable = all(os.access(path, os.R_OK) for path in (os.__file__, hydra.__file__, nibkit.__file__))
    if not readable:
        pytest.skip("the installed packages cannot be read without root's rights here")
    return as_nobody


@pytest.fixture
def public():
    """A folder that a user without rights can reach, unlike ``tmp_path``."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        for path in [p for p in Path(folder).iterdir() if p.is_dir()]:
            path.chmod(0o700)


@pytest.fixture
def refused(capsys, tmp_path):
    """Call the command line with bad input; return its one sentence."""

    def call(*arguments, rights=contextlib.nullcontext):
        before = sorted(tmp_path.rglob("*"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop, rights():
            train(list(arguments))
        error = capsys.readouterr().err
        assert stop.value.code == 2
        assert error.startswith("train.py: error: ")
        assert error.count("\n") == 1, error
        assert "Traceback" not in error
        left = [p for p in sorted(tmp_path.rglob("*")) if p not in before and "cache" not in p.parts]
        assert not left, f"left behind: {left}"
        return error.removeprefix("train.py: error: ").strip()

    return call
