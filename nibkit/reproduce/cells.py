"""Networks that are trained for an experiment: one process per cell and seed, by ``python -m nibkit train``.

A process of its own keeps what fails in one cell from the others, and can be killed. A cell lies in
``RUNS/CELL/seed0-HASH``, HASH being that of its configuration, so that a folder never holds another training than it
says. It is finished once ``metrics.json`` is there, goes on from its last checkpoint where there is one, and is begun
anew where there is none.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from nibkit.config import load_config, quoted
from nibkit.errors import UserError
from nibkit.reproduce.methods import digest

DECIDING = ("task", "backbone", "nib", "data", "trainer", "seed")  # sections of the configuration
# a reader of the run folder keeps its figures and curves; pictures are drawn by the experiment
QUIET = ("logger=csv", "callbacks.samples=null", "callbacks.spectrum=null", "callbacks.flatness=null",
         "callbacks.report.baselines=false")  # fmt: skip


class BusyError(UserError):
    """A cell is being trained by another process."""


@dataclass(frozen=True)
class Cell:
    """A network to train.

    Args:
        name: of the cell.
        seed: of the training.
        folder: its run folder.
        settings: overrides of the configuration.
    """

    name: str
    seed: int
    folder: Path
    settings: tuple[str, ...]

    @property
    def finished(self) -> bool:
        """Whether it was trained and tested to the end."""
        return (self.folder / "metrics.json").is_file() and self.checkpoint.is_file()

    @property
    def checkpoint(self) -> Path:
        """The network to judge."""
        return self.folder / "checkpoints" / "best.ckpt"

    def overrides(self) -> list[str]:
        """Return the overrides that begin its run, or resume it; what was killed before its first checkpoint goes."""
        overrides = [*self.settings, f"run_dir={quoted(self.folder)}"]
        last = self.folder / "checkpoints" / "last.ckpt"
        if last.is_file():
            return [*overrides, f"ckpt_path={quoted(last)}"]
        if self.folder.exists():
            shutil.rmtree(self.folder)
        return overrides

    @property
    def title(self) -> str:
        """Name and seed for messages."""
        return f"{self.name}, seed {self.seed}"


def make_cell(name: str, seed: int, settings: Sequence[str], runs: Path) -> Cell:
    """Return a cell; nothing is written.

    Raises:
        UserError: a setting is wrong.
    """
    settings = (*settings, *QUIET, f"seed={seed}", f"run_id={name}-{seed}")  # an id of its own: none is inherited
    config = load_config(settings)
    deciding = {key: OmegaConf.to_container(config[key], resolve=True) if key != "seed" else seed for key in DECIDING}
    code = digest([json.dumps(deciding, sort_keys=True).encode()])[:8]
    return Cell(name, seed, runs / name / f"seed{seed}-{code}", settings)


def data_settings(folder: Path | None) -> tuple[str, ...]:
    """Return the settings that train on the images of a folder; None for the embedded data."""
    return ("data=folder", f"data.root={quoted(folder)}") if folder else ("data=builtin",)


def check_data(cell: Cell) -> None:
    """Check the training images as training will.

    Raises:
        UserError: there are too few, or some cannot be used.
    """
    from nibkit.make import make

    make("data", load_config(cell.settings).data).prepare()


def train(cell: Cell) -> str | None:
    """Train a cell to its end, or go on with it; return what went wrong, if anything.

    Raises:
        BusyError: another process is training it.
    """
    with claim(cell) as lock:
        if cell.finished:  # by the process that had it
            return None
        code = _run([sys.executable, "-m", "nibkit", "train", *cell.overrides()], lock)
    if code == 0 and cell.finished:
        return None
    return f"{cell.title}: training ended with code {code}, see '{cell.folder / 'run.log'}'"


def _run(command: Sequence[str], lock: int) -> int:
    """Run a training and return its exit code; it shows its progress on standard error.

    It inherits the lock: should this process be killed and the training live on, no other takes its folder.
    """
    with subprocess.Popen(command, stdout=2, pass_fds=(lock,)) as process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            raise


@contextmanager
def claim(cell: Cell) -> Iterator[int]:
    """Hold the cell's lock file and yield its descriptor.

    Raises:
        BusyError: another process holds it.
    """
    path = cell.folder.with_suffix(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file.fileno()
    except BlockingIOError as error:
        raise BusyError(f"'{cell.folder}' is being trained by another process; wait for it or stop it") from error
