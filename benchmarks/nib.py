"""The NIB's price: the default dithering network with it against the same with an ordinary first convolution.

To reach: at most 2 % of a training step.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.figures import Figure
from benchmarks.timing import interleave, ratios
from nibkit.config import load_config
from nibkit.draws import drawn_for
from nibkit.make import make
from nibkit.optimizers import make_optimizer
from tasks.base import Batch
from tasks.dithering import DitheringTask

GOAL = 1.02
NIBS = ("symmetric", "none")


def measure(quick: bool = False) -> Iterator[Figure]:
    """Yield the ratios of time, forward and of a whole training step, and of memory."""
    config = load_config(["task=dithering"])
    tasks = {nib: _task(nib) for nib in NIBS}
    batch = _batch(config.data.batch_size, config.data.crop_size)
    repeats = 15 if quick else 150
    for name, kind, goal in (("forward", _forward, None), ("training step", _step, GOAL)):
        times = interleave({nib: kind(task, batch) for nib, task in tasks.items()}, repeats, warmup=5)
        milliseconds = [1e3 * statistics.median(times[nib]) for nib in NIBS]
        note = "{:.1f} ms, without {:.1f} ms".format(*milliseconds)
        # single steps of the two vary more than they differ: each round is the median of a few
        rounds = {nib: [statistics.median(times[nib][i::10]) for i in range(10)] for nib in NIBS}
        yield Figure(f"{name}: with NIB / without", ratios(rounds, *NIBS), "x", goal, "low", note)
    kept = [kept_for_backward(task, batch) / 2**20 for task in tasks.values()]
    note = "{:.1f} MiB, without {:.1f} MiB".format(*kept)
    yield Figure("kept for backward: with NIB / without", [kept[0] / kept[1]], "x", None, "low", note)


def kept_for_backward(task: DitheringTask, batch: Batch) -> int:
    """Return the bytes that a step's forward pass keeps for its backward pass, weights aside."""
    weights = {weight.untyped_storage().data_ptr() for weight in task.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        _loss(task, batch)
    return sum(kept.values())


def _task(nib: str) -> DitheringTask:
    torch.manual_seed(0)
    task: DitheringTask = make("task", load_config(["task=dithering", f"nib={nib}"]).task)
    return task


def _batch(size: int, crop: int) -> Batch:
    drawn = torch.Generator().manual_seed(0)
    return {
        "image": torch.rand(size, 1, crop, crop, generator=drawn) * 2 - 1,
        "origin": torch.randint(0, 2**20, (size, 2), generator=drawn),
        "level": torch.rand(size, 1, generator=drawn),
        "draw": torch.arange(size),
    }


def _loss(task: DitheringTask, batch: Batch) -> Tensor:
    with drawn_for(batch):
        terms = task.losses(batch)
    return torch.stack([task.weights[name] * term for name, term in terms.items()]).sum()


def _forward(task: DitheringTask, batch: Batch) -> Callable[[], object]:
    return torch.no_grad()(partial(task, batch["image"], batch["origin"]))


def _step(task: DitheringTask, batch: Batch) -> Callable[[], object]:
    optimizer = make_optimizer(task.hparams["optimizer"], task.backbone.parameters())

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(_loss(task, batch))
        optimizer.step()

    return step
