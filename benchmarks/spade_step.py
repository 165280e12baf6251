"""Memory and time of one training step of SPADE at its published width: batch 1, 256x512, 36 planes of labels.

Both networks, both optimizers, feature matching; with ``--quick`` a quarter as wide. The perceptual loss joins where a
file of VGG16 or VGG19 is named by the environment variable NIBKIT_VGG.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.figures import Figure

GOAL = 24.0  # GiB


def measure(quick: bool = False) -> Iterator[Figure]:
    """Yield the largest memory of a process that makes one step, and the step's seconds."""
    context = multiprocessing.get_context("spawn")  # a process of its own: memory only ever grows
    with context.Pool(1) as pool:
        gigabytes, seconds, parameters = pool.apply(one_step, (quick,))
    note = f"generator of {parameters / 1e6:.2f} M weights"
    yield Figure("memory of a step", [gigabytes], "GiB", GOAL, "low", note)
    yield Figure("seconds of the first step", [seconds], "s", better="low")


def one_step(quick: bool) -> tuple[float, float, int]:
    """Make a step; return the process's largest memory in GiB, the seconds, and the generator's weights."""
    import torch

    from nibkit.config import load_config
    from nibkit.make import make
    from nibkit.run import quiet

    quiet()
    vgg = os.environ.get("NIBKIT_VGG")
    width = 16 if quick else 64
    perceptual = [f"task.vgg_weights='{vgg}'", "task.perceptual_weight=10"] if vgg else []
    config = load_config([
        "task=semantic_synthesis", "data=cityscapes", "backbone.ups=6", f"backbone.width={width}",
        f"backbone.hidden={2 * width}", f"discriminator.width={width}", *perceptual,
    ])  # fmt: skip
    torch.manual_seed(0)
    task = make("task", config.task)
    task.setup("fit")
    batch = _batch()
    start = time.perf_counter()
    _step(task, batch)
    seconds = time.perf_counter() - start
    weights = sum(weight.numel() for weight in task.backbone.parameters())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, seconds, weights


def _batch() -> Mapping[str, Any]:
    import torch

    label = torch.randint(0, 35, (1, 16, 32)).repeat_interleave(16, 1).repeat_interleave(16, 2)
    return {
        "image": torch.rand(1, 3, 256, 512) * 2 - 1,
        "label": label,
        "edges": torch.zeros(1, 1, 256, 512),
        "origin": torch.zeros(1, 2, dtype=torch.int64),
    }


def _step(task: Any, batch: Mapping[str, Any]) -> None:
    """Make the step of the task's own training, by a trainer of one batch."""
    import lightning.pytorch as pl
    from torch.utils.data import DataLoader

    trainer = pl.Trainer(
        accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task, train_dataloaders=DataLoader([batch], batch_size=None))  # type: ignore[arg-type]
