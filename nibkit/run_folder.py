"""The run folder: claimed before training, with the resolved config, the environment and the log."""

from __future__ import annotations

import importlib.metadata
import logging
import logging.handlers
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from nibkit import __version__
from nibkit.errors import Stopped, UserError
from nibkit.files import check_writable, whole_file, write_json
from nibkit.ranks import own_rank

VERSIONED = ("torch", "lightning", "torchmetrics", "kornia", "albumentations", "hydra-core", "numpy", "scikit-image")


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Lose a line rather than the run: a full disk is told by the checkpoint that it stops."""


class RunLog(logging.handlers.MemoryHandler):
    """Keeps what is logged until the run folder exists, then writes it and all that follows to ``run.log``."""

    def __init__(self) -> None:
        super().__init__(capacity=100_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)

    def open(self, path: Path) -> None:
        """Write to ``path`` from now on."""
        file = _LogFile(path)
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self.setTarget(file)
        self.flush()
        self.capacity = 1


@contextmanager
def run_log() -> Iterator[RunLog]:
    """Collect the log of a run, and the error that ends it."""
    handler = RunLog()
    logging.getLogger().addHandler(handler)
    try:
        yield handler
    except (UserError, Stopped) as error:
        if str(error):
            handler.handle(
                logging.makeLogRecord({"levelno": 40, "levelname": "ERROR", "name": "nibkit", "msg": str(error)})
            )
        raise
    finally:
        logging.getLogger().removeHandler(handler)
        if handler.target:
            handler.target.close()
        handler.close()


def check_run_dir(config: DictConfig, again: bool = False) -> None:
    """Raise if the run folder cannot be written, or holds a run already and is not to be used ``again``."""
    folder = Path(config.run_dir)
    check_writable(folder, "run_dir")
    if (folder / "checkpoints").exists() and not again and own_rank() == 0:
        raise UserError(f"run_dir='{folder}' already holds a run; choose another, or go on with it by ckpt_path=auto")


@rank_zero_only
def open_run_dir(config: DictConfig, run_log: RunLog) -> None:
    """Make the run folder: config, versions, log; what a run that was killed was just writing goes."""
    folder = Path(config.run_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.rglob("*.part"):
            left.unlink()
        with whole_file(folder / "config.yaml") as partial:
            partial.write_text(OmegaConf.to_yaml(config, resolve=True))
        run_log.open(folder / "run.log")
    except OSError as error:
        raise UserError(
            f"run_dir='{folder}' cannot be written: {error.strerror}; set run_dir= to another folder"
        ) from error
    write_json(folder / "environment.json", environment(config))


def environment(config: DictConfig) -> dict[str, Any]:
    """Return what a reader needs to repeat the run."""
    versions = {"nibkit": __version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in VERSIONED}
    return {"command": sys.argv, "seed": config.seed, "platform": platform.platform(), "versions": versions}
