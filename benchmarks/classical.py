"""Classical halftoning: time per image after compilation, one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.figures import Figure
from benchmarks.timing import interleave
from nibkit.classical import METHODS, blue_noise_mask

SIDES = {"dbs": 256, "pang": 256}  # pixels; 1024 for all others
LIMITS = {"ostromoukhov": 30.0, "dbs": 500.0, "pang": 2000.0}  # ms


def measure(quick: bool = False) -> Iterator[Figure]:
    """Yield the milliseconds of every method, and of making a mask."""
    cases: dict[str, Callable[[], object]] = {
        name: partial(method, _picture(SIDES.get(name, 1024))) for name, method in METHODS.items()
    }
    cases["mask 64x64"] = blue_noise_mask.__wrapped__  # without its cache
    for name, times in interleave(cases, 3 if quick else 15, warmup=1).items():
        side = SIDES.get(name, 1024)
        title = f"{name} {side}x{side}" if name in METHODS else name
        yield Figure(title, [1e3 * seconds for seconds in times], "ms", LIMITS.get(name), "low")


def _picture(side: int) -> torch.Tensor:
    """Return a gray image ``[1, 1, side, side]`` in [-1, 1] with smooth tones, waves and grain."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    grain = torch.randn(side, side, generator=generator)
    return (1.6 * x - 0.8 + 0.3 * torch.sin(60 * x * y) + 0.05 * grain).clamp(-1, 1)[None, None]
