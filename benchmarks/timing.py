"""Timing helpers: interleaved repeats, so that a drifting machine harms both sides alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

Times = dict[str, list[float]]


def interleave(cases: Mapping[str, Callable[[], object]], repeats: int, warmup: int = 2) -> Times:
    """Return seconds per call of each case, measured in turn ``repeats`` times."""
    for _ in range(warmup):
        for call in cases.values():
            call()
    times: Times = {name: [] for name in cases}
    for _ in range(repeats):
        for name, call in cases.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return times


def ratios(times: Times, top: str, bottom: str) -> list[float]:
    """Return the ratio of two cases of every round."""
    return [a / b for a, b in zip(times[top], times[bottom], strict=True)]


def now() -> float:
    """Return the time in seconds, once a GPU has done all that it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
