"""The checkpoint that a run goes on from: saved now and then, around validations, and when it is told to stop."""

from __future__ import annotations

import logging
import signal
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint, Timer

from nibkit.errors import Stopped, UserError
from nibkit.loggers import CSVLog
from nibkit.signals import Signals, Vote, requeue, slurm_job

log = logging.getLogger(__name__)


class LastCheckpoint(Checkpoint):
    """Saves ``last.ckpt`` between two steps, after all other callbacks, so that a run goes on exactly from there.

    Args:
        dirpath: its folder.
        minutes: of training between two, at most; None for no limit.
        steps: likewise.

    Raises:
        UserError: a limit that is not above 0.
    """

    def __init__(self, dirpath: str, minutes: float | None = 10.0, steps: int | None = None) -> None:
        for name, value in (("minutes", minutes), ("steps", steps)):
            if value is not None and value <= 0:
                raise UserError(f"callbacks.last.{name}={value} is out of range; give one above 0, or null")
        self.path = Path(dirpath) / "last.ckpt"
        self.minutes, self.steps = minutes, steps
        self.signals = Signals()
        self._saved_step, self._saved_time = -1, 0.0
        self._validation_due = False
        self._ended_at: list[Any] | None = None  # the limits at which the training has ended
        self._asked = False
        self._told = 0  # the signal that ends the run, on all ranks at the same step

    def state_dict(self) -> dict[str, Any]:
        """Return whether a validation was due when the run was saved, and whether the training has ended."""
        return {"validation_due": self._validation_due, "ended_at": self._ended_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Note both."""
        self._validation_due, self._ended_at = state_dict["validation_due"], state_dict.get("ended_at")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to signals; make up for the validation before which the run was stopped."""
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()
        self._steps = trainer.estimated_stepping_batches
        self._vote = Vote()
        self.signals.listen()
        # SIGTERM is ours; Lightning's own question to all ranks would make each step wait for the GPU
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
        if self._ended_at == _limits(trainer):
            trainer.should_stop = True
            return
        self._ended_at = None
        if self._validation_due:
            _forget_validation(trainer)
            _validate(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Save if it is time; where several batches make a step, only after the last of them."""
        if not _between_steps(trainer):
            return
        self._told, timely = self._vote.largest(self.signals.noted, self._asks())
        self._validation_due = _validation_due(trainer)
        if self._validation_due and trainer.should_stop:
            return  # a run that has all its steps would not go on: its closing validation would be missed
        # before the last step: what is stopped in its closing validation makes one step again
        before_last = trainer.global_step == self._steps - 1
        if self._told or timely or self._validation_due or before_last or self._are_steps(trainer):
            self.save(trainer)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Stop before the next step, now that the loggers have all of the one before."""
        self._stop_if(trainer, self._told)
        _number_rows(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop before a validation, which the run makes up for when it goes on."""
        self._stop_if(trainer, self._told)
        self._validation_due = False  # what this validation saves has it behind it

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Stop amidst a validation, before which the run was saved."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._stop_amidst(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what the validation has changed: which checkpoint is the best, a schedule that follows it."""
        if not trainer.sanity_checking and trainer.state.fn == "fit" and _between_steps(trainer):
            self._note_end(trainer)
            self.save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the end of the training, where no validation did."""
        if self._saved_step != trainer.global_step:
            self._note_end(trainer)
            self.save(trainer)
        self._stop_if(trainer, self._told)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to signals in the test of a run, which it makes again when it goes on."""
        if self.path.exists():
            self._saved_step = trainer.global_step
            self.signals.listen()
            _number_rows(trainer)

    def on_test_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Stop amidst the test."""
        self._stop_amidst(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """End quietly where the first rank has stopped amidst a validation, and this one missed it."""
        if self.signals.noted and not trainer.is_global_zero and not isinstance(exception, Stopped):
            raise Stopped("", 128 + self.signals.noted) from exception

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave signals alone."""
        self.signals.ignore()

    def save(self, trainer: pl.Trainer) -> None:
        """Save on all ranks; one writes."""
        trainer.save_checkpoint(self.path)
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()

    def _asks(self) -> int:
        """Ask all ranks to save, if it is time; once, since the answer may come a step later."""
        is_time = self.minutes is not None and time.monotonic() - self._saved_time >= 60 * self.minutes
        self._asked = is_time and not self._asked
        return int(self._asked)

    def _are_steps(self, trainer: pl.Trainer) -> bool:
        return self.steps is not None and trainer.global_step - self._saved_step >= self.steps

    def _note_end(self, trainer: pl.Trainer) -> None:
        """Note whether the training is at its end; it shall not go on when it is started again with these limits."""
        ended = trainer.should_stop and trainer.fit_loop._can_stop_early
        self._ended_at = _limits(trainer) if ended else None

    def _stop_amidst(self, trainer: pl.Trainer) -> None:
        """Stop if the first rank is told to; it never has fewer batches than others, who would wait for it."""
        if trainer.is_global_zero:
            self._stop_if(trainer, self.signals.noted)

    def _stop_if(self, trainer: pl.Trainer, told: int) -> None:
        """Raise, and put a Slurm job back into its queue, if a signal says so."""
        if not told:
            return
        if not trainer.is_global_zero:
            raise Stopped("", 128 + told)
        name, step, job = signal.Signals(told).name, trainer.global_step, slurm_job()
        saved = "which is saved" if self._saved_step == step else f"step {self._saved_step} is saved"
        saved = saved if self.path.exists() else "before anything is saved"
        if told == signal.SIGUSR1 and job is not None:
            # said first: once it is in the queue, Slurm may kill this process at any moment
            log.info("%s at step %d, %s, and job %s goes back into Slurm's queue", name, step, saved, job)
            requeue(job)
            raise Stopped("", 128 + told)
        go_on = f"go on with run_dir={self.path.parent.parent} ckpt_path=auto"
        raise Stopped(f"stopped by {name} at step {step}, {saved}; {go_on}", 128 + told)


def _limits(trainer: pl.Trainer) -> list[Any]:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return [trainer.max_steps, trainer.max_epochs, *(c._duration for c in callbacks if isinstance(c, Timer))]


def _forget_validation(trainer: pl.Trainer) -> None:
    """Take it out of the log: it may have been there before the run was killed, and saved only after."""
    for logger in trainer.loggers if trainer.is_global_zero else ():
        if isinstance(logger, CSVLog):
            logger.forget_validation(trainer.fit_loop.epoch_loop._batches_that_stepped)


def _validate(trainer: pl.Trainer) -> None:
    """Validate from the beginning, as Lightning does after a batch."""
    loop = trainer.fit_loop.epoch_loop.val_loop
    loop.restarting = False
    trainer.validating = True
    loop.run()
    trainer.training = True


def _number_rows(trainer: pl.Trainer) -> None:
    """Tell loggers the step; Lightning is one short where a run goes on from the end of a training."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step


def _between_steps(trainer: pl.Trainer) -> bool:
    progress = trainer.fit_loop.epoch_loop.batch_progress
    return progress.is_last_batch or progress.current.ready % trainer.accumulate_grad_batches == 0


def _validation_due(trainer: pl.Trainer) -> bool:
    """Say whether Lightning validates after this batch."""
    fetcher = trainer.fit_loop._data_fetcher
    return fetcher is not None and trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)
