"""Progress: a rich bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar

log = logging.getLogger(__name__)


class Lines(ProgressBar):
    """Prints a line every few seconds: for logs of jobs and pipes, where a bar would be noise.

    Args:
        seconds: between two lines.
    """

    def __init__(self, seconds: float = 15.0) -> None:
        super().__init__()
        self.seconds = seconds
        self._next = 0.0
        self._started = 0.0
        self._first_step = 0

    def disable(self) -> None:
        """Print nothing: called on all ranks but the first."""
        self.seconds = float("inf")

    def enable(self) -> None:
        """Print: the default."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._started, self._first_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Print steps, loss and the time left, now and then."""
        now = time.monotonic()
        if now < self._next or self.seconds == float("inf"):
            return
        self._next = now + self.seconds
        done, spent = trainer.global_step - self._first_step, now - self._started
        limit = trainer.estimated_stepping_batches
        left = f", {_clock(spent / done * (limit - trainer.global_step))} left" if done and limit < float("inf") else ""
        goal = f"/{limit}" if limit < float("inf") else ""
        value = self.get_metrics(trainer, pl_module).get("train/loss")
        loss = f"{value:.4f}" if isinstance(value, float) else "-"
        log.info("step %d%s  loss %s  %s spent%s", trainer.global_step, goal, loss, _clock(spent), left)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the objective."""
        objective = trainer.callback_metrics.get(getattr(pl_module, "objective", ""))
        if objective is not None and not trainer.sanity_checking and self.seconds < float("inf"):
            log.info("step %d  validated, %s %.5f", trainer.global_step, pl_module.objective, float(objective))

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say that the test runs."""
        if self.seconds < float("inf"):
            log.info("testing ...")


class Bar(RichProgressBar):
    """Lightning's rich bar, which says how many steps the run has where no number of epochs bounds it."""

    def _get_train_description(self, current_epoch: int) -> str:
        limit = f" of {self.trainer.max_steps} steps in all" if self.trainer.max_steps > 0 else ""
        return f"Epoch {current_epoch}{limit}"


def progress(seconds: float = 15.0) -> ProgressBar:
    """Return the progress display that fits where standard output goes.

    Args:
        seconds: between two lines, where it is no terminal.
    """
    return Bar() if sys.stdout.isatty() else Lines(seconds)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
