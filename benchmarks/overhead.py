"""Framework overhead: a step under Lightning, callbacks and logging against the same step in a bare loop.

To reach: at most 2 % of a step.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from benchmarks.losses import weighted
from benchmarks.timing import ratio
from nibkit.config import load_config
from nibkit.make import make, make_trainer
from nibkit.run import quiet
from tasks.dithering import DitheringTask


class Clock(pl.Callback):
    """Notes the time at the start of every step."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def on_train_batch_start(self, *args: Any) -> None:
        """Note the time."""
        self.starts.append(time.perf_counter())


def measure(quick: bool = False) -> dict[str, object]:
    """Print and return the ratio of step times, in alternating stretches of one process."""
    quiet()
    rounds, steps = (3, 40) if quick else (8, 60)
    times: dict[str, list[float]] = {"lightning": [], "bare": []}
    for _ in range(rounds):
        times["bare"].append(bare_loop(steps))
        times["lightning"].append(lightning_loop(steps))
    low, median, high = ratio(times, "lightning", "bare")
    print(f"  step under Lightning / bare step   min {low:.3f}  median {median:.3f}  max {high:.3f}   (<= 1.02)")
    print(f"  bare step: {sorted(times['bare'])[rounds // 2] / steps * 1e3:.1f} ms, {rounds} rounds of {steps} steps")
    return {"ratio": (low, median, high), "rounds": rounds, "steps": steps}


def bare_loop(steps: int) -> float:
    """Return the seconds of ``steps`` default steps in a plain loop, its first five left out."""
    config = load_config(["task=dithering", "data.num_workers=0"])
    pl.seed_everything(0, verbose=False)
    task: DitheringTask = make("task", config.task)
    data = make("data", config.data)
    data.prepare()
    optimizer = torch.optim.Adam(task.parameters(), lr=1e-3)
    loader = iter(data.train_dataloader())
    start = 0.0
    for step in range(steps + 5):
        if step == 5:
            start = time.perf_counter()
        batch = next(loader)
        optimizer.zero_grad()
        torch.autograd.backward(weighted(task, task.losses(batch)))
        torch.nn.utils.clip_grad_norm_(task.parameters(), config.trainer.gradient_clip_val)
        optimizer.step()
    return time.perf_counter() - start


def lightning_loop(steps: int) -> float:
    """Return the seconds of the same steps under the default trainer, callbacks and loggers."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["task=dithering", "data.num_workers=0", "trainer.limit_val_batches=0"]
        options += ["callbacks.progress=null"]
        config = load_config([*options, f"trainer.max_steps={steps + 6}", f"run_dir={Path(folder) / 'run'}"])
        pl.seed_everything(0, verbose=False)
        task = make("task", config.task)
        clock, trainer = Clock(), make_trainer(config, task)
        trainer.callbacks.append(clock)  # type: ignore[attr-defined]
        trainer.fit(task, datamodule=make("data", config.data))
    return clock.starts[5 + steps] - clock.starts[5]
