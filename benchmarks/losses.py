"""Losses: their share of a training step of the default network, and against stock layers.

To reach: all losses together at most 15 % of a step on a CPU.
"""

from __future__ import annotations

import kornia
import torch
from torch import Tensor

from benchmarks.timing import interleave, ratio
from nibkit.estimators import ESTIMATORS, binarize
from nibkit.losses import Tone
from nibkit.make import make
from tasks.dithering import DitheringTask


def measure(quick: bool = False) -> dict[str, object]:
    """Print and return the shares and ratios."""
    from nibkit.config import load_config

    repeats = 5 if quick else 30
    results: dict[str, object] = {}
    for name in ESTIMATORS:
        config = load_config(["task=dithering", f"task.estimator={name}"])
        task: DitheringTask = make("task", config.task)
        share = loss_share(task, config.data.batch_size, config.data.crop_size, repeats)
        print(f"  {name:17} losses / step   min {share[0]:.3f}  median {share[1]:.3f}  max {share[2]:.3f}   (<= 0.15)")
        results[f"share_{name}"] = share
    gain = against_stock(repeats)
    print(f"  tone loss, forward and backward: stock blur / ours   median {gain[1]:.1f}")
    results["stock_tone_ratio"] = gain
    return results


def loss_share(task: DitheringTask, batch: int, crop: int, repeats: int) -> tuple[float, float, float]:
    """Return the share of a training step that the losses take, forward and backward to the network's output."""
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

    return ratio(interleave({"losses": losses, "step": step}, repeats), "losses", "step")


def weighted(task: DitheringTask, terms: dict[str, Tensor]) -> Tensor:
    """Return the objective."""
    return torch.stack([task.weights[name] * term for name, term in terms.items()]).sum()


def against_stock(repeats: int) -> tuple[float, float, float]:
    """Return how much slower the tone loss is with kornia's Gaussian blur, on eight 64x64 crops."""
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
    return ratio(interleave(cases, repeats), "stock", "ours")
