"""Checkpoints of every task load by themselves, and what cannot be read is refused in one sentence."""

import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from conftest import BARE, TINY
from PIL import Image

from nibkit.checkpoint import FORMAT, newest_checkpoint, read_checkpoint
from nibkit.cli import train
from nibkit.config import load_config
from nibkit.data.sets import EpochSampler
from nibkit.draws import training_key
from nibkit.errors import UserError
from nibkit.make import make
from tasks.halftoning import HalftoningTask

ROOT = Path(__file__).resolve().parent.parent
TASKS = sorted(path.stem for path in (ROOT / "nibkit" / "configs" / "task").glob("*.yaml"))


@pytest.mark.parametrize("name", TASKS)
def test_load_from_checkpoint_gives_the_task_back(name, tmp_path):
    task = make("task", load_config([f"task={name}"]).task)
    checkpoint = {
        "state_dict": task.state_dict(),
        "hyper_parameters": dict(task.hparams),
        "pytorch-lightning_version": "2.6",
    }
    task.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "a.ckpt")
    read = read_checkpoint(tmp_path / "a.ckpt")  # plain values only
    assert read["nibkit_format"] == FORMAT
    again = type(task).load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert dict(again.hparams) == dict(task.hparams)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in task.state_dict().items())


def save(path, step, **further):
    torch.save({"state_dict": {}, "hyper_parameters": {}, "global_step": step, **further}, path)


def test_a_checkpoint_of_a_newer_nibkit_is_refused(tmp_path):
    save(tmp_path / "new.ckpt", 1, nibkit_format=FORMAT + 1)
    with pytest.raises(UserError, match=rf"has the format {FORMAT + 1} of a newer nibkit, .* up to {FORMAT}"):
        read_checkpoint(tmp_path / "new.ckpt")


def test_the_newest_is_that_of_the_most_steps(tmp_path):
    assert newest_checkpoint(tmp_path / "none") is None
    for name, step in (("a", 5), ("b", 12), ("c", 7)):
        save(tmp_path / f"{name}.ckpt", step)
    (tmp_path / "last.ckpt").write_bytes(b"broken")
    (tmp_path / "e.ckpt.123.part").write_bytes(b"half")
    assert newest_checkpoint(tmp_path) == tmp_path / "b.ckpt"
    save(tmp_path / "last.ckpt", 11)  # others may have been saved amidst a step
    assert newest_checkpoint(tmp_path) == tmp_path / "last.ckpt"
    save(tmp_path / "last.ckpt", 13, nibkit_format=99)  # to begin anew would write over it
    with pytest.raises(UserError, match="of a newer nibkit"):
        newest_checkpoint(tmp_path)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_breaks_amidst_the_training_is_named(tmp_path, workers):
    """Its header is whole when the run begins, and its file was decoded before."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom PIL import Image\nfrom nibkit.data import folder\n"
        "whole = folder.ImageFiles._decode\n"
        "def read(self, index):\n"
        "    if Path('break').exists():\n"
        "        self.files[index].path.write_bytes(b'no image any more')\n"
        "    return whole(self, index)\n"
        "folder.ImageFiles._decode = read\n"
        "import callbacks.seeding as seeding\n"
        "start = seeding.StepSeeds.on_train_batch_start\n"
        "def started(self, trainer, *args):\n"
        "    Path('break').touch() if trainer.global_step == 4 else None\n"
        "    start(self, trainer, *args)\n"
        "seeding.StepSeeds.on_train_batch_start = started\n"
        "from nibkit.cli import train\ntrain(sys.argv[1:])\n"
    )
    for part in ("train", "val"):
        (tmp_path / "photos" / part).mkdir(parents=True)
        for number in range(4):
            Image.linear_gradient("L").resize((40, 40 + number)).save(tmp_path / "photos" / part / f"{number}.png")
    command = [sys.executable, "-c", code, *TINY, *BARE, "data.root=photos",
               f"data.num_workers={workers}", "data.cache_mb=0", "data.samples_per_epoch=100", "trainer.max_steps=50",
               "callbacks.last.steps=2", "run_dir=run"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot read image" in done.stderr
    assert "not an image" in done.stderr
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] >= 4


def test_a_run_goes_on_with_another_batch_size(images, monkeypatch):
    """At the next sample of the same epoch, again and again."""
    settings = [*TINY, *BARE, f"data.root={images}", "data.samples_per_epoch=24", "run_dir=run", "ckpt_path=auto"]
    drawn, compute = [], HalftoningTask.losses

    def note(task, batch):
        drawn.extend(batch["draw"].tolist())
        return compute(task, batch)

    monkeypatch.setattr(HalftoningTask, "losses", note)
    train([*settings, "trainer.max_steps=4"])
    train([*settings, "trainer.max_steps=6", "data.batch_size=4"])
    train([*settings, "trainer.max_steps=8", "data.batch_size=2"])
    order = [training_key(0, *key) for key in EpochSampler(24, 0)]
    assert drawn == order[: 4 * 2 + 2 * 4 + 2 * 2]


def test_a_checkpoint_without_a_training(images):
    trainer = pl.Trainer(logger=False, enable_progress_bar=False, enable_checkpointing=False, accelerator="cpu")
    config = load_config([*TINY, f"data.root={images}"])
    trainer.test(make("task", config.task), datamodule=make("data", config.data), verbose=False)
    trainer.save_checkpoint("tested.ckpt")
    assert torch.load("tested.ckpt", weights_only=True)["global_step"] == 0
