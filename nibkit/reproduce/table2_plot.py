"""The plot of Table 2: what it asks for, a panel per figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nibkit.reproduce.study_plot import COLORS, SEED_OFFSET, YELLOW, limits
from nibkit.reproduce.study_text import find
from nibkit.reproduce.table2_answers import TARGETS
from nibkit.reproduce.table2_figures import FIGURES, distance, title

SHOWN = ("miou", "texture_ratio", "texture_flat_share", "texture_spectrum_db")  # beside the distance
WIDTH, HEIGHT = 3.1, 3.6  # inches, of a panel


def plot(content: Mapping[str, Any]) -> Figure:
    """Return means, standard deviations and seeds; dashed the test photos' own figure, or the training photos'.

    Variant ``i`` stands at x = ``i``, its seeds to the right of it.
    """
    names = [name for name in (distance(content), *SHOWN) if name in content["figures"]]
    count = max(1, len(names))
    figure = Figure(figsize=(WIDTH * count, HEIGHT), layout="constrained")
    panels: list[Axes] = list(figure.subplots(1, count, squeeze=False)[0])
    for axes, name in zip(panels, names, strict=False):
        _panel(axes, content, str(name))
    figure.suptitle(content["title"], fontsize=11)
    return figure


def bound(content: Mapping[str, Any], name: str) -> float | None:
    """Return what photos have of a figure, in its own unit; None if that was not measured."""
    if name == distance(content):
        return find(content["training_photos"], name)  # type: ignore[no-any-return]
    target = TARGETS.get(name, name)
    return content["photos"].get(target) if isinstance(target, str) else target


def _panel(axes: Axes, content: Mapping[str, Any], name: str) -> None:
    """Draw one figure of all variants."""
    rows, times = content["rows"], FIGURES[name].times
    groups = list(dict.fromkeys(row["group"] for row in rows))
    values: list[float] = []
    for x, row in enumerate(rows):
        values += _draw_seeds(axes, x, row, name, COLORS[groups.index(row["group"]) % len(COLORS)])
    wanted = bound(content, name)
    if wanted is not None:
        axes.axhline(wanted * times, linestyle="--", color=YELLOW, linewidth=1.8, zorder=1.5)
        values.append(wanted * times)
    axes.set_ylim(*limits(values))
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.set_title(f"{title(name)}\n(dashed: photos)" if wanted is not None else title(name), fontsize=9)
    axes.set_xticks(range(len(rows)), [row["title"] for row in rows], fontsize=8, rotation=30, ha="right")
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)


def _draw_seeds(axes: Axes, x: int, row: Mapping[str, Any], name: str, color: str) -> list[float]:
    """Draw a variant's mean, standard deviation and seeds; return all that has to be seen."""
    times = FIGURES[name].times
    seeds = [find(seed, "figures", name) for seed in row["seeds"]]
    seeds = [seed * times for seed in seeds if seed is not None]
    if not seeds:
        return []
    mean, sd = row["figures"][name]["mean"] * times, (row["figures"][name]["sd"] or 0.0) * times
    axes.errorbar(x, mean, yerr=sd or None, fmt="o", markersize=7, capsize=5, color=color)
    axes.plot([x + SEED_OFFSET] * len(seeds), seeds, ".", markersize=6, color=color, alpha=0.7)
    return [mean - sd, mean + sd, *seeds]
