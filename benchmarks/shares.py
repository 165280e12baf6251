"""What a training step spends its time on, for the default run of every task; the shares add up to 100 %.

Lightning tells its profiler when each of its parts begins and ends; the networks are hooked beside. Time belongs to the
innermost part that is running, so a training step less its forward passes is its losses. A validation, with the
checkpoints and pictures that come with it, is spread over the steps between two.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.profilers import Profiler
from torch import nn

from benchmarks.cases import CASES, case_config
from benchmarks.figures import Figure
from benchmarks.timing import now
from benchmarks.training import read_all
from nibkit.backbones import InvertibleGrayscale
from nibkit.make import make, make_trainer
from nibkit.run import quiet

FORWARD, REST, VALIDATION = "forward", "logging, callbacks, Lightning", "metrics, validation"
PARTS = {  # the last word of what Lightning calls an action; all others are the rest
    "train_dataloader_next": "data",
    "batch_to_device": "data",
    "transfer_batch_to_device": "data",
    "training_step": "losses",
    "backward": "backward",
    "optimizer_step": "optimizer",
    "optimizer_zero_grad": "optimizer",
    "configure_gradient_clipping": "optimizer",
    "lr_scheduler_step": "optimizer",
    FORWARD: FORWARD,
}
ORDER = ("data", FORWARD, "losses", "backward", "optimizer", VALIDATION, REST)
WARMUP = 11  # steps: the first line that is logged is among them
TAIL = 3  # steps after those that count: before the last, the run is saved
SILENT = ("callbacks.report=null", "callbacks.progress=null")


class Parts(Profiler):
    """Sums the seconds of each part, those of parts inside it left out."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = defaultdict(float)
        self._running = [REST]
        self._since = now()

    def start(self, action_name: str) -> None:
        """Begin an action, inside of that which is running."""
        self._note()
        self._running.append(PARTS.get(action_name.rpartition(".")[2], REST))

    def stop(self, action_name: str) -> None:
        """End the innermost action."""
        self._note()
        self._running.pop()

    def told(self, action_name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same and is noted as an action."""

        def noted(*args: Any, **kwargs: Any) -> Any:
            with self.profile(action_name):
                return call(*args, **kwargs)

        return noted

    def _note(self) -> None:
        moment = now()
        self.seconds[self._running[-1]] += moment - self._since
        self._since = moment

    def so_far(self) -> dict[str, float]:
        """Return the seconds up to now."""
        self._note()
        return dict(self.seconds)


class Marks(pl.Callback):
    """Reads the parts after the warm-up, so many steps later, and after the validation at the end.

    Args:
        parts: that are read.
        count: steps between the first two readings.
    """

    def __init__(self, parts: Parts, count: int) -> None:
        self.parts, self.count = parts, count
        self.marks: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Read before the first step that counts and after the last."""
        if trainer.global_step in (WARMUP, WARMUP + self.count):
            self.marks.append(self.parts.so_far())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read once the run has validated."""
        self.marks.append(self.parts.so_far())


def measure(quick: bool = False) -> Iterator[Figure]:
    """Yield a figure per task and part."""
    quiet()
    for name in CASES:
        step, shares = shares_of(name, 10 if quick else 40)
        for part in ORDER:
            note = f"step {1e3 * step:.1f} ms" if part == ORDER[0] else ""
            yield Figure(f"{name}: {part}", [100 * shares[part]], "%", better="low", note=note)


def shares_of(name: str, count: int) -> tuple[float, dict[str, float]]:
    """Return the seconds of a step, its part of the validations included, and the share of each part of it."""
    steps = WARMUP + count + TAIL
    with tempfile.TemporaryDirectory() as folder:
        config = case_config(name, f"trainer.max_steps={steps}", *SILENT, folder=f"{Path(folder) / 'run'}")
        pl.seed_everything(0, verbose=False)
        task, data, parts = make("task", config.task), make("data", config.data), Parts()
        data.prepare()
        read_all(data)
        trainer = make_trainer(config, task)
        marks = Marks(parts, count)
        _hook(task, trainer.strategy, parts)
        trainer.profiler = parts  # type: ignore[attr-defined]
        trainer.callbacks.append(marks)  # type: ignore[attr-defined]
        trainer.fit(task, datamodule=data)
    return _divide(marks.marks, count, config.trainer.val_check_interval)


def _hook(task: Any, strategy: Any, parts: Parts) -> None:
    """Tell the networks' forward passes, and what a task that steps its optimizers by hand does beyond the profiler."""
    pair = isinstance(task.backbone, InvertibleGrayscale)
    networks: list[nn.Module] = [task.backbone.encoder, task.backbone.decoder] if pair else [task.backbone]
    networks += [task.discriminator] if hasattr(task, "discriminator") else []
    for network in networks:
        network.register_forward_pre_hook(lambda *_: parts.start(FORWARD))
        network.register_forward_hook(lambda *_: parts.stop(FORWARD))
    for name in ("backward", "optimizer_step"):
        setattr(strategy, name, parts.told(name, getattr(strategy, name)))


def _divide(marks: Sequence[Mapping[str, float]], count: int, interval: int) -> tuple[float, dict[str, float]]:
    """Return the seconds of a step and the shares, from the readings of :class:`Marks`."""
    first, last, end = marks
    seconds = {part: (last.get(part, 0.0) - first.get(part, 0.0)) / count for part in ORDER}
    step = sum(seconds.values())
    seconds[VALIDATION] = max(0.0, sum(end.values()) - sum(last.values()) - TAIL * step) / interval
    total = sum(seconds.values())
    return total, {part: value / total for part, value in seconds.items()}
