"""What a benchmark yields: a figure of several rounds, beside the figure to reach."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """A measured figure.

    Args:
        name: what was measured, the same in every run.
        values: one per round, in the order they were taken.
        unit: ``x`` for a ratio, else ``s``, ``ms``, ``MiB``, ``MP/s``, ``%`` and the like.
        goal: the figure to reach; None where there is none.
        better: whether a ``high`` or a ``low`` value is.
        note: the absolute figures behind a ratio, in a few words.
    """

    name: str
    values: Sequence[float]
    unit: str = "x"
    goal: float | None = None
    better: Literal["high", "low"] = "high"
    note: str = ""

    @property
    def median(self) -> float:
        """The median of all rounds."""
        return statistics.median(self.values)

    @property
    def reached(self) -> bool | None:
        """Whether the median reaches the goal; None where there is none."""
        if self.goal is None:
            return None
        return self.median >= self.goal if self.better == "high" else self.median <= self.goal

    def row(self) -> str:
        """Return the figure as one line of text."""
        line = f"  {self.name:44} {number(self.median):>8} {self.unit:4} "
        line += f"[{number(min(self.values))} .. {number(max(self.values))}]" if len(self.values) > 1 else ""
        if self.goal is not None:
            line = f"{line:82} goal {'>=' if self.better == 'high' else '<='} {number(self.goal)}"
            line += "" if self.reached else "  not reached"
        return f"{line:112}  {self.note}".rstrip()

    def record(self) -> dict[str, object]:
        """Return all of it as plain values, for a file."""
        return {
            "name": self.name, "median": self.median, "values": list(self.values), "unit": self.unit,
            "goal": self.goal, "better": self.better, "reached": self.reached, "note": self.note,
        }  # fmt: skip


def number(value: float) -> str:
    """Return a number with three digits that tell something."""
    return (
        f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"
    )
