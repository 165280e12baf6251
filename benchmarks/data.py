"""The data pipeline: what it gives by itself, how long a training step waits for it, what the decode cache is worth.

To reach: at most 3 % of a step is waiting, with one worker.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.figures import Figure, number
from benchmarks.timing import Times, interleave, ratios
from nibkit.config import load_config
from nibkit.data.folder import FolderData
from nibkit.data.module import TrainingData
from nibkit.draws import drawn_for
from nibkit.make import make
from nibkit.run import quiet
from tasks.adversarial import AdversarialTask
from tasks.base import Task

GOAL = 0.03  # of a step, with one worker
WORKERS = (0, 1)
TASKS = {"dithering": 60, "invertible_grayscale": 60, "semantic_synthesis": 8}  # steps in a round
IMAGES = 24  # JPEG files of 768x512 pixels

Batch = dict[str, Any]
Step = Callable[[Batch], None]


def measure(quick: bool) -> Iterator[Figure]:
    """Yield images per second, shares of waiting, and the gain by the cache."""
    quiet()
    yield from alone(rounds=3 if quick else 9)
    for task, steps in TASKS.items():
        yield from waiting(task, *((2, -(-steps // 4)) if quick else (5, steps)))
    for channels in (1, 3):
        yield cached(channels, rounds=2 if quick else 5)


def alone(rounds: int, batches: int = 200) -> Iterator[Figure]:
    """Yield the images per second of the default pipeline without a network."""
    with Loaders("dithering") as loaders:
        cases = {str(count): lambda count=count: loaders.take(count, batches) for count in WORKERS}
        times = interleave(cases, rounds, warmup=1)
        size = loaders.data.batch_size
    for count in WORKERS:
        values = [batches * size / seconds for seconds in times[str(count)]]
        yield Figure(f"pipeline alone, {_workers(count)}", values, "im/s", note=f"batches of {size}")


def waiting(task: str, rounds: int, steps: int) -> Iterator[Figure]:
    """Yield the share of a training step that is spent waiting for data, without workers and with one."""
    step = make_step(task)
    waits: Times = {str(count): [] for count in WORKERS}
    whole: Times = {str(count): [] for count in WORKERS}
    with Loaders(task) as loaders:
        for count in WORKERS:  # every image was read once
            loaders.take(count, -(-loaders.data.training_images() // loaders.data.batch_size))
        for _ in range(rounds):
            for count in WORKERS:
                waited, took = timed(loaders.batches[count], step, steps)
                waits[str(count)].append(waited)
                whole[str(count)].append(took)
    for count in WORKERS:
        note = f"{_ms(waits[str(count)])} of {_ms(whole[str(count)])} ms a step"
        shares = [a / b for a, b in zip(waits[str(count)], whole[str(count)], strict=True)]
        name = f"waiting, {task}, {_workers(count)}"
        yield Figure(name, shares, goal=GOAL if count else None, better="low", note=note)


def timed(batches: Iterator[Batch], step: Step, steps: int) -> tuple[float, float]:
    """Return the mean seconds of a step's waiting, and of all of it; the first two steps are left out."""
    waited = 0.0
    for number_of_step in range(steps + 2):
        if number_of_step == 2:
            begin, waited = time.perf_counter(), 0.0
        start = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - start
        step(batch)
    return waited / steps, (time.perf_counter() - begin) / steps


def make_step(name: str) -> Step:
    """Return a plain step of the default config of a task: loss, gradient, optimizer, without Lightning."""
    config = load_config([f"task={name}"])
    torch.manual_seed(0)
    task: Task = make("task", config.task)
    generator = torch.optim.Adam(task.backbone.parameters(), lr=1e-4)
    if isinstance(task, AdversarialTask):
        return _game(task, generator)

    def step(batch: Batch) -> None:
        with drawn_for(batch):
            terms = task.losses(batch)
        torch.autograd.backward(torch.stack([task.weights[key] * term for key, term in terms.items()]).sum())
        generator.step()
        generator.zero_grad()

    return step


def _game(task: AdversarialTask, generator: torch.optim.Optimizer) -> Step:
    """Return the step of a generator and its discriminator."""
    discriminator = torch.optim.Adam(task.discriminator.parameters(), lr=1e-4)
    task._backward = torch.autograd.backward  # type: ignore[method-assign, assignment]  # Lightning's asks a trainer

    def step(batch: Batch) -> None:
        with drawn_for(batch):
            fake = task.generate(batch)
        task._learn_discriminator(batch, fake.detach())
        discriminator.step()
        discriminator.zero_grad()
        with task._frozen(task.discriminator):
            task._learn_generator(batch, fake)
        generator.step()
        generator.zero_grad()

    return step


class Loaders:
    """Endless batches of a task's default data, by number of workers, until they are closed."""

    def __init__(self, task: str) -> None:
        self.batches: dict[int, Iterator[Batch]] = {}
        for count in WORKERS:
            self.data: TrainingData = make("data", load_config([f"task={task}", f"data.num_workers={count}"]).data)
            self.data.prepare()
            self.batches[count] = endless(self.data.train_dataloader())

    def __enter__(self) -> Loaders:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers."""
        self.batches.clear()

    def take(self, workers: int, batches: int) -> None:
        """Ask for batches."""
        for _ in range(batches):
            next(self.batches[workers])


def endless(loader: DataLoader[Any]) -> Iterator[Batch]:
    """Yield the batches of all epochs."""
    while True:
        yield from loader


def cached(channels: int, rounds: int) -> Figure:
    """Return how much faster crops of JPEG files come with the decode cache than without."""
    with tempfile.TemporaryDirectory() as folder:
        for index in range(IMAGES):
            picture(index).save(Path(folder) / f"{index}.jpg", quality=90)
        options: dict[str, Any] = {"channels": channels, "crop_size": 64, "batch_size": 8, "samples_per_epoch": 96}
        loaders = {}
        for name, megabytes in (("on", 1024), ("off", 0)):
            data = FolderData(folder, cache_mb=megabytes, **options)
            data.prepare()
            loaders[name] = data.train_dataloader()
        times = interleave({name: partial(list, loader) for name, loader in loaders.items()}, rounds, 1)
    rates = {name: 96 / statistics.median(seconds) for name, seconds in times.items()}
    note = f"{number(rates['on'])} against {number(rates['off'])} images/s, no workers"
    kind = "gray" if channels == 1 else "colour"
    return Figure(f"decode cache, {kind} crops of JPEGs", ratios(times, "off", "on"), note=note)


def picture(index: int) -> Image.Image:
    """Return a smooth picture with some noise, 768x512."""
    rng = np.random.default_rng(index)
    smooth = Image.fromarray(rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)).resize(
        (768, 512), Image.Resampling.BICUBIC
    )
    noisy = np.asarray(smooth) + rng.normal(0, 6, (512, 768, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _workers(count: int) -> str:
    return f"{count} worker" if count == 1 else f"{count} workers"


def _ms(seconds: list[float]) -> str:
    return number(1e3 * statistics.median(seconds))
