"""A training step of every task as users have it, Lightning, callbacks and data included, against stock layers.

The stock side is a plain loop (``benchmarks/stock``) over the same batches. Beside it: our step in bfloat16 against the
same float32 loop, the largest memory of a process, and the step's own convolutions run alone.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from omegaconf import DictConfig

from benchmarks.cases import CASES
from benchmarks.figures import Figure
from benchmarks.stock.steps import make_stock
from benchmarks.timing import Times, ratios
from benchmarks.training import CONVOLUTIONS, OURS, alternate, device, endless, training_config
from nibkit.make import make, make_trainer

STOCK = "stock"
GOALS = {"dithering": 2.0, "halftoning": 2.0, "invertible grayscale": 1.3, "SPADE": 1.2, "Pix2Pix": 1.2}
FLOORS = ("dithering", "SPADE")  # whose convolutions are run alone
BF16 = "trainer.precision=bf16-mixed"
MEMORY_STEPS = 4
# SPADE as published but for the size of its images, on a GPU alone
PUBLISHED = [
    "backbone.width=64", "backbone.hidden=128", "discriminator.width=64", "data.size=[256,256]", "data.batch_size=4",
]  # fmt: skip
PUBLISHED_GOAL = 0.6  # of a step are its convolutions


def measure(quick: bool = False) -> Iterator[Figure]:
    """Yield the figures of every task."""
    rounds, seconds = (3, 0.2) if quick else (7, 1.0)
    for name in CASES:
        yield from _speed(name, False, rounds, seconds)
    for name in FLOORS if quick else CASES:
        yield from _speed(name, True, rounds, seconds)
    for name in FLOORS[:1] if quick else CASES:
        yield _memory(name)
    if torch.cuda.is_available():
        times = alternate("SPADE", [*PUBLISHED, BF16], lambda config, data: {}, rounds, seconds, record=True)
        yield _floor("SPADE, published width (bf16)", times, PUBLISHED_GOAL)


def _speed(name: str, bf16: bool, rounds: int, seconds: float) -> Iterator[Figure]:
    """Yield the ratio of stock time and ours, in bfloat16 against the same float32, and the share of convolutions."""
    times = alternate(name, [BF16] if bf16 else [], _stock, rounds, seconds, record=name in FLOORS)
    title = f"{name} (bf16)" if bf16 else name
    stock, ours = (1e3 * statistics.median(times[side]) for side in (STOCK, OURS))
    batch = training_config(name, [], "unused").data.batch_size
    note = f"{1e3 * batch / ours:.1f} images/s; step {ours:.1f} ms, stock {stock:.1f} ms"
    yield Figure(
        f"{title}: stock / ours", ratios(times, STOCK, OURS), "x", None if bf16 else GOALS.get(name), note=note
    )
    if CONVOLUTIONS in times:
        yield _floor(title, times)


def _floor(title: str, times: Times, goal: float | None = None) -> Figure:
    alone = 1e3 * statistics.median(times[CONVOLUTIONS])
    values = ratios(times, CONVOLUTIONS, OURS)
    return Figure(f"{title}: convolutions alone / our step", values, "x", goal, note=f"{alone:.1f} ms")


def _stock(config: DictConfig, data: Any) -> Mapping[str, Callable[[], object]]:
    """Return a step of the plain loop, its batch included."""
    _, step = make_stock(config, device())
    batches = endless(data.train_dataloader())
    return {STOCK: lambda: step(next(batches))}


def _memory(name: str) -> Figure:
    """Return the largest memory of a process that trains for some steps, ours / stock."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "tasks", "callbacks"])  # the same packages on both sides
    ours, stock = (_peak_of_process(context, name, side) for side in (OURS, STOCK))
    note = f"{ours:.0f} MiB, stock {stock:.0f} MiB"
    return Figure(f"{name}: memory, ours / stock", [ours / stock], "x", better="low", note=note)


def _peak_of_process(context: Any, name: str, side: str) -> float:
    with context.Pool(1) as pool:
        peak: float = pool.apply(peak_memory, (name, side))
    return peak


def peak_memory(name: str, side: str) -> float:
    """Return the MiB that this process has needed at most once it has trained for some steps on one side."""
    with tempfile.TemporaryDirectory() as folder:
        config = training_config(name, [f"trainer.max_steps={MEMORY_STEPS}"], folder)
        data = make("data", config.data)
        data.prepare()
        if side == OURS:
            task = make("task", config.task)
            make_trainer(config, task).fit(task, datamodule=data)
        else:
            step = _stock(config, data)[STOCK]
            for _ in range(MEMORY_STEPS):
                step()
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
