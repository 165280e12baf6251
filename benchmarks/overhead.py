"""Framework overhead: a step under Lightning, callbacks and logging against the same step in a bare loop."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from benchmarks.cases import case_config
from benchmarks.figures import Figure
from benchmarks.losses import weighted
from benchmarks.timing import ratios
from nibkit.draws import drawn_for
from nibkit.make import make, make_trainer
from nibkit.optimizers import make_optimizer
from nibkit.run import quiet
from tasks.dithering import DitheringTask

GOAL = 1.02


class Clock(pl.Callback):
    """Notes the time at the start of every step."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def on_train_batch_start(self, *args: Any) -> None:
        """Note the time."""
        self.starts.append(time.perf_counter())


def measure(quick: bool = False) -> Iterator[Figure]:
    """Yield the ratio of step times, in alternating stretches of one process."""
    quiet()
    rounds, steps = (3, 40) if quick else (8, 100)
    times: dict[str, list[float]] = {"lightning": [], "bare": []}
    for _ in range(rounds):
        times["bare"].append(bare_loop(steps))
        times["lightning"].append(lightning_loop(steps))
    note = f"bare step {statistics.median(times['bare']) / steps * 1e3:.1f} ms, {steps} steps a round"
    yield Figure("step under Lightning / bare step", ratios(times, "lightning", "bare"), "x", GOAL, "low", note)


def bare_loop(steps: int) -> float:
    """Return the seconds of ``steps`` default steps in a plain loop, its first five left out."""
    config = case_config("dithering", "data.num_workers=0")
    pl.seed_everything(0, verbose=False)
    task: DitheringTask = make("task", config.task)
    data = make("data", config.data)
    data.prepare()
    optimizer = make_optimizer(task.hparams["optimizer"], task.backbone.parameters())
    loader = iter(data.train_dataloader())
    start = 0.0
    for step in range(steps + 5):
        if step == 5:
            start = time.perf_counter()
        batch = next(loader)
        optimizer.zero_grad()
        with drawn_for(batch):
            loss = weighted(task, task.losses(batch))
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(task.parameters(), config.trainer.gradient_clip_val)
        optimizer.step()
    return time.perf_counter() - start


def lightning_loop(steps: int) -> float:
    """Return the seconds of the same steps under the default trainer, callbacks and loggers."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["data.num_workers=0", "trainer.limit_val_batches=0", "callbacks.progress=null"]
        options += ["trainer.accelerator=cpu", f"trainer.max_steps={steps + 6}"]
        config = case_config("dithering", *options, folder=str(Path(folder) / "run"))
        pl.seed_everything(0, verbose=False)
        task = make("task", config.task)
        clock, trainer = Clock(), make_trainer(config, task)
        trainer.callbacks.append(clock)  # type: ignore[attr-defined]
        trainer.fit(task, datamodule=make("data", config.data))
    return clock.starts[5 + steps] - clock.starts[5]
