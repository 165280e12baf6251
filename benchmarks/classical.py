"""Classical halftoning: seconds per image after compilation, one thread.

To reach: Ostromoukhov 1024x1024 in 30 ms, direct binary search 256x256 in 0.5 s, structure-aware swaps 256x256 in 2 s.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.timing import interleave
from nibkit.classical import METHODS, blue_noise_mask

SIDES = {"dbs": 256, "pang": 256}  # pixels; 1024 for all others
LIMITS = {"ostromoukhov": 0.03, "dbs": 0.5, "pang": 2.0}  # seconds


def measure(quick: bool = False) -> dict[str, object]:
    """Print and return the median milliseconds of every method, and of making a mask."""
    results: dict[str, object] = {}
    cases: dict[str, Callable[[], object]] = {
        name: partial(method, _picture(SIDES.get(name, 1024))) for name, method in METHODS.items()
    }
    cases["mask 64x64"] = blue_noise_mask.__wrapped__  # without its cache
    for name, times in interleave(cases, 3 if quick else 15, warmup=1).items():
        median = statistics.median(times)
        goal = f"   (<= {LIMITS[name] * 1e3:.0f} ms)" if name in LIMITS else ""
        size = f" {SIDES.get(name, 1024)}x{SIDES.get(name, 1024)}" if name in METHODS else ""
        print(f"  {name + size:27} median {median * 1e3:6.1f} ms  max {max(times) * 1e3:6.1f} ms{goal}")
        results[name] = {"median": median, "max": max(times)}
    return results


def _picture(side: int) -> torch.Tensor:
    """Return a gray image ``[1, 1, side, side]`` in [-1, 1] with smooth tones, waves and grain."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    grain = torch.randn(side, side, generator=generator)
    return (1.6 * x - 0.8 + 0.3 * torch.sin(60 * x * y) + 0.05 * grain).clamp(-1, 1)[None, None]
