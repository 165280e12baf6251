"""Losses: their share of a training step of the default network, and against stock layers."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import kornia
import torch
from torch import Tensor

from benchmarks.cases import case_config
from benchmarks.figures import Figure
from benchmarks.timing import Times, interleave, ratios
from nibkit.estimators import ESTIMATORS, binarize
from nibkit.losses import Tone
from nibkit.make import make
from tasks.dithering import DitheringTask
from tasks.halftoning import HalftoningTask

GOAL = 15.0  # per cent of a step


def measure(quick: bool = False) -> Iterator[Figure]:
    """Yield the share of every estimator, and the tone loss against a stock blur."""
    repeats = 5 if quick else 30
    for name in ESTIMATORS:
        config = case_config("dithering", f"task.estimator={name}")
        task: DitheringTask = make("task", config.task)
        times = loss_times(task, config.data.batch_size, config.data.crop_size, repeats)
        shares = [100 * share for share in ratios(times, "losses", "step")]
        note = f"step {statistics.median(times['step']) * 1e3:.1f} ms"
        yield Figure(f"losses / step, {name}", shares, "%", GOAL, "low", note)
    times = against_stock(repeats)
    note = f"ours {statistics.median(times['ours']) * 1e3:.2f} ms"
    yield Figure("tone loss, stock blur / ours", ratios(times, "stock", "ours"), note=note)


def loss_times(task: DitheringTask, batch: int, crop: int, repeats: int) -> Times:
    """Return the times of a training step, and of its losses, forward and backward to the network's output."""
    sample = {
        "image": torch.rand(batch, 1, crop, crop) * 2 - 1,
        "origin": torch.randint(0, 2**20, (batch, 2)),
        "level": torch.rand(batch, 1),
    }
    optimizer = torch.optim.Adam(task.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(weighted(task, task.losses(sample)))
        optimizer.step()

    output = torch.randn(batch, 1, crop, crop, requires_grad=True)
    flat = (2 * sample["level"] - 1)[..., None, None].expand(batch, 1, crop, crop)

    def losses() -> None:
        terms = task.estimator(output, sample["image"], task.image_terms)  # type: ignore[arg-type]
        terms |= task.estimator(output, flat, task.flat_terms)  # type: ignore[arg-type]
        torch.autograd.backward(weighted(task, terms))

    return interleave({"losses": losses, "step": step}, repeats)


def weighted(task: HalftoningTask, terms: dict[str, Tensor]) -> Tensor:
    """Return the objective."""
    return torch.stack([task.weights[name] * term for name, term in terms.items()]).sum()


def against_stock(repeats: int) -> Times:
    """Return the times of the tone loss, ours and with kornia's Gaussian blur, on eight 64x64 crops."""
    gray = torch.rand(8, 1, 64, 64) * 2 - 1
    halftone = binarize(torch.randn(8, 1, 64, 64)).requires_grad_()
    ours, blur = Tone(2.0, "reflect"), kornia.filters.GaussianBlur2d((11, 11), (2.0, 2.0))

    def run(loss: Tensor) -> None:
        halftone.grad = None
        torch.autograd.backward(loss)

    cases = {
        "stock": lambda: run((blur(halftone) - blur(gray)).square().mean()),
        "ours": lambda: run(ours(halftone, gray)),
    }
    return interleave(cases, repeats)
