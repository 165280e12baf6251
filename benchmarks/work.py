"""Cost against work: time that grows no faster than what there is to do, as slopes of log time over log work.

A step of the default network on drawn numbers, by image side, batch and width, and a validation by its images. Work is
counted in pixels and images; of the width in multiplications of the convolutions and matrix products.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cases import case_config
from benchmarks.figures import Figure
from benchmarks.losses import weighted
from benchmarks.timing import Times, interleave, now
from nibkit.data.sets import InMemory, WholeImages
from nibkit.make import make
from nibkit.optimizers import make_optimizer
from nibkit.run import quiet
from tasks.halftoning import HalftoningTask

GOAL = 1.1  # 1: time grows as work does; below, a part of it does not depend on the work
UPPER = 3  # sizes that the slope is taken of: small ones are all overhead
SIDE, BATCH = 64, 2
VALIDATED = 96  # side of the images that are validated, pixels

Case = tuple[float, Callable[[], object]]  # its work, and what does it


def measure(quick: bool = False) -> Iterator[Figure]:
    """Yield a slope per kind of work."""
    quiet()
    repeats = 3 if quick else 9
    for name in ("halftoning", "dithering"):
        sides = (32, 64, 128) if quick else (32, 64, 128, 256)
        yield _slope(f"{name} step by pixels", {s: (s * s, training(name, side=s)) for s in sides}, repeats)
        batches = (2, 4, 8) if quick else (1, 2, 4, 8, 16)
        yield _slope(f"{name} step by batch", {b: (b, training(name, batch=b)) for b in batches}, repeats)
    widths = {width: training("halftoning", width=width) for width in ((8, 16, 32) if quick else (8, 16, 32, 64))}
    cases = {width: (count_operations(step), step) for width, step in widths.items()}
    yield _slope("halftoning step by width", cases, repeats)
    images = (2, 4, 8) if quick else (4, 8, 16, 32)
    yield _slope("dithering validation by images", {n: (n, validation(n)) for n in images}, min(repeats, 5))


def _slope(title: str, cases: Mapping[int, Case], repeats: int) -> Figure:
    """Return the slope of every round; the note has the median time at every size."""
    times: Times = interleave({str(size): call for size, (_, call) in cases.items()}, repeats, warmup=1)
    work = [work for work, _ in cases.values()][-UPPER:]
    rounds = zip(*list(times.values())[-UPPER:], strict=True)
    note = ", ".join(f"{size}: {1e3 * statistics.median(values):.3g}" for size, values in times.items())
    return Figure(f"{title}: slope", [slope(work, seconds) for seconds in rounds], "x", GOAL, "low", f"{note} ms")


def slope(work: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the slope of log time over log work, by least squares."""
    fitted: list[float] = np.polyfit([math.log(w) for w in work], [math.log(s) for s in seconds], 1).tolist()
    return fitted[0]


def training(name: str, side: int = SIDE, batch: int = BATCH, width: int | None = None) -> Callable[[], object]:
    """Return a training step on images of drawn numbers."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options = [] if width is None else [f"backbone.width={width}"]
    task: HalftoningTask = make("task", case_config(name, *options).task).to(device)
    optimizer = make_optimizer(task.hparams["optimizer"], task.backbone.parameters())
    sample = {
        "image": torch.rand(batch, 1, side, side, device=device) * 2 - 1,
        "origin": torch.zeros(batch, 2, dtype=torch.int64, device=device),
        "level": torch.rand(batch, 1, device=device),
    }

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(weighted(task, task.losses(sample)))
        optimizer.step()
        now()

    return step


def count_operations(step: Callable[[], object]) -> int:
    """Return the operations of a step's convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def validation(count: int) -> Callable[[], object]:
    """Return a validation of so many drawn images under Lightning."""
    rng = np.random.default_rng(0)
    pixels = [rng.random((VALIDATED, VALIDATED, 1), dtype=np.float32) for _ in range(count)]
    source = InMemory([(f"image {number}", partial(np.copy, image)) for number, image in enumerate(pixels)])
    task = make("task", case_config("dithering").task)
    trainer = pl.Trainer(
        accelerator="cuda" if torch.cuda.is_available() else "cpu", devices=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    return partial(trainer.validate, task, DataLoader(WholeImages(source, "photo"), batch_size=1), verbose=False)
