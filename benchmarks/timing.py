"""Timing helpers: interleaved repeats, so that a drifting machine harms both sides alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

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


def ratio(times: Times, top: str, bottom: str) -> tuple[float, float, float]:
    """Return the minimum, median and maximum of the pairwise ratio of two cases."""
    pairs = sorted(a / b for a, b in zip(times[top], times[bottom], strict=True))
    return pairs[0], statistics.median(pairs), pairs[-1]
