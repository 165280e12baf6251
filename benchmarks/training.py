"""A training run in alternating stretches: some of its own steps, under Lightning, then as many of something else.

All happens within one fit, at the start of a batch: both sides see the same machine, warm and with the same threads.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from omegaconf import DictConfig

from benchmarks.cases import case_config
from benchmarks.convolutions import Convolution, Recorder, run
from benchmarks.timing import Times, now
from nibkit.make import make, make_trainer
from nibkit.run import quiet

OURS, CONVOLUTIONS = "ours", "convolutions"
WARMUP = 4  # steps


class Alternate(pl.Callback):
    """Times stretches of the run's own steps, and after each as many calls of all ``others``; ends the run.

    Args:
        others: by name; each call is one step.
        rounds: to measure.
        seconds: that a stretch of our own steps shall last.
        record: note the convolutions of a step, and let them run alone as one of the others.
    """

    def __init__(
        self, others: Mapping[str, Callable[[], object]], rounds: int, seconds: float, record: bool = False
    ) -> None:
        self.others, self.rounds, self.seconds, self.record = dict(others), rounds, seconds, record
        self.times: Times = {}  # seconds per step
        self.steps = 1  # of a stretch
        self._batches, self._start, self._end = 0, 0.0, 0
        self._recording = ExitStack()
        self._convolutions: list[Convolution] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Begin and end stretches."""
        self._batches += 1
        if self._batches == 2 and self.record:
            self._convolutions = self._recording.enter_context(Recorder(pl_module))
        if self._batches == 3:
            self._recording.close()
            self._start = now()
        if self._batches == WARMUP:
            self._begin()
        elif self._batches == self._end:
            self._round(trainer)

    def _begin(self) -> None:
        """Choose the stretch's length by the last step, and warm up the others."""
        self.steps = max(1, math.ceil(self.seconds / (now() - self._start)))
        if self._convolutions:
            self.others[CONVOLUTIONS] = run(self._convolutions, backward=True)
        self.times = {name: [] for name in (OURS, *self.others)}
        for other in self.others.values():
            other()
            other()
        self._next()

    def _round(self, trainer: pl.Trainer) -> None:
        """End a stretch of our own, and take one of each other."""
        self.times[OURS].append((now() - self._start) / self.steps)
        for name, other in self.others.items():
            start = now()
            for _ in range(self.steps):
                other()
            self.times[name].append((now() - start) / self.steps)
        trainer.should_stop = len(self.times[OURS]) == self.rounds
        self._next()

    def _next(self) -> None:
        self._end, self._start = self._batches + self.steps, now()


def read_all(data: Any) -> None:
    """Read every image to train on once: whoever came first would else draw it or decode it for both."""
    source = data.train_pairs if hasattr(data, "num_classes") else data.train_images
    for index in range(len(source)):
        source.read(index)


def endless(loader: Any) -> Iterator[Any]:
    """Yield batches for ever."""
    while True:
        yield from loader


def alternate(
    name: str,
    options: list[str],
    others: Callable[[DictConfig, Any], Mapping[str, Callable[[], object]]],
    rounds: int,
    seconds: float,
    record: bool = False,
) -> Times:
    """Return the seconds per step of a case under Lightning and of the others, in rounds.

    Args:
        name: of the case.
        options: further settings.
        others: makes them from the config and the data module, which both sides read.
        rounds: to measure.
        seconds: see :class:`Alternate`.
        record: likewise.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = training_config(name, options, folder)
        task, data = make("task", config.task), make("data", config.data)
        data.prepare()
        read_all(data)
        callback, trainer = Alternate(others(config, data), rounds, seconds, record), make_trainer(config, task)
        trainer.callbacks.append(callback)  # type: ignore[attr-defined]
        trainer.fit(task, datamodule=data)
    return callback.times


def training_config(name: str, options: list[str], folder: str) -> DictConfig:
    """Return the config of a case that trains, without validations, for longer than is measured."""
    quiet()
    pl.seed_everything(0, verbose=False)
    common = ["trainer.limit_val_batches=0", "trainer.max_steps=1000000", "callbacks.progress=null"]
    return case_config(name, *common, *options, folder=str(Path(folder) / "run"))


def device() -> str:
    """Return where the training runs, ours by its default."""
    return "cuda" if torch.cuda.is_available() else "cpu"
