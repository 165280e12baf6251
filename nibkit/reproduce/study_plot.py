"""The plot of a study: its primary figure, one panel per set of images."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nibkit.reproduce.study_text import figure_title, find, has_published, number, row_title, set_title

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#5b4a9c")
YELLOW = "#e3b505"
COLUMN, PANEL, LABELS = 0.75, 2.8, 2.6  # inches: width of a variant, heights of a panel and of all that surrounds them
SEED_OFFSET, PAPER_OFFSET = 0.2, -0.2  # of a column
LABEL_CHARACTERS, LABEL_LINES = 20, 3  # of a slanted label; it grows longer where it would have more lines
LEVEL_LABELS = 4  # up to so many variants have upright labels


def plot(content: Mapping[str, Any]) -> Figure:
    """Return means, standard deviations and seeds of the primary figure, with the references and the paper's values.

    Variant ``i`` stands at x = ``i``, its seeds to the right of it, the paper's value to the left.
    """
    rows, sets = content["rows"], content["sets"]
    width = max(5.5, COLUMN * len(rows) + 1)
    figure = Figure(figsize=(width, PANEL * len(sets) + LABELS), layout="constrained")
    panels: list[Axes] = list(figure.subplots(len(sets), 1, sharex=True, squeeze=False)[:, 0])
    for axes, images in zip(panels, sets, strict=True):
        _panel(axes, content, images)
    _label_variants(panels[-1], rows, width)
    figure.suptitle(_plain(textwrap.fill(content["title"], int(width * 10))), fontsize=11)
    _legend(figure, panels)
    return figure


def _panel(axes: Axes, content: Mapping[str, Any], images: Mapping[str, Any]) -> None:
    """Draw one set of images."""
    label, name, rows = images["label"], content["primary"], content["rows"]
    groups = list(dict.fromkeys(row["group"] for row in rows))
    values = _draw_references(axes, rows, label, name)
    for x, row in enumerate(rows):
        color = COLORS[groups.index(row["group"]) % len(COLORS)]
        values += _draw_seeds(axes, x, row, label, name, color)
        if has_published(content):
            values += _draw_paper(axes, x, find(row, "paper", label))
    axes.set_ylim(*limits(values))
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.set_ylabel(figure_title(name))
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    axes.set_axisbelow(True)
    axes.set_title(_plain(set_title(images)), fontsize=10, pad=30 if len(groups) > 1 else 18)
    _write_above(axes, rows, label, name)


def limits(values: Sequence[float]) -> tuple[float, float]:
    """Return an axis' limits around all values, with a margin; 0 and 1 for no values."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.01 * abs(high) or 1.0
    return low - margin, high + margin


def _draw_seeds(axes: Axes, x: int, row: Mapping[str, Any], label: str, name: str, color: str) -> list[float]:
    """Draw a variant's mean, standard deviation and seeds; return all that has to be seen."""
    over = find(row, "images", label, name)
    if find(over, "mean") is None:
        return []
    mean, sd = over["mean"], over["sd"]
    legend = "one seed" if sd is None else "mean over seeds, ± standard deviation"
    axes.errorbar(x, mean, yerr=sd, fmt="o", markersize=7, capsize=5, color=color, label=legend)
    seeds = [find(seed, "images", label, name) for seed in row["seeds"]]
    seeds = [seed for seed in seeds if seed is not None]
    axes.plot([x + SEED_OFFSET] * len(seeds), seeds, ".", markersize=6, color=color, alpha=0.7, label="each seed")
    return [mean - (sd or 0), mean + (sd or 0), *seeds]


def _draw_paper(axes: Axes, x: int, value: float | None) -> list[float]:
    """Draw the paper's value of a variant, if there is one."""
    if value is None:
        return []
    axes.plot([x + PAPER_OFFSET], [value], "D", markersize=6, markerfacecolor="none", color="#444444",
              label="the paper's value, of its own images")  # fmt: skip
    return [value]


def _draw_references(axes: Axes, rows: Sequence[Mapping[str, Any]], label: str, name: str) -> list[float]:
    """Draw every reference's mean over the width of the groups that are compared with it."""
    means = {row["name"]: find(row, "images", label, name, "mean") for row in rows}
    compared = dict.fromkeys((row["group"], row["reference"]) for row in rows)
    lines = [(group, means[reference]) for group, reference in compared if means.get(reference) is not None]
    for group, mean in lines:
        columns = [x for x, row in enumerate(rows) if row["group"] == group]
        ends = [min(columns) - 0.45, max(columns) + 0.45]
        axes.plot(ends, [mean, mean], "--", color=YELLOW, linewidth=1.8, zorder=1.5, label="reference")
    return [mean for _, mean in lines]


def _write_above(axes: Axes, rows: Sequence[Mapping[str, Any]], label: str, name: str) -> None:
    """Write each variant's mean above the panel and, if there are several groups, their names above that."""
    for x, row in enumerate(rows):
        mean = number(find(row, "images", label, name, "mean"), name)
        _write(axes, mean, x, 3)
    groups = list(dict.fromkeys(row["group"] for row in rows))
    for group in groups if len(groups) > 1 else ():
        columns = [x for x, row in enumerate(rows) if row["group"] == group]
        _write(axes, textwrap.shorten(group, 12 * len(columns), placeholder="…"), sum(columns) / len(columns), 15)


def _write(axes: Axes, text: str, x: float, points: float) -> None:
    axes.annotate(_plain(text), (x, 1), xycoords=("data", "axes fraction"), xytext=(0, points),
                  textcoords="offset points", ha="center", fontsize=8)  # fmt: skip


def _label_variants(axes: Axes, rows: Sequence[Mapping[str, Any]], width: float) -> None:
    """Write the variants below the lowest panel, slanted where there are many."""
    level = len(rows) <= LEVEL_LABELS
    wrap = partial(textwrap.fill, width=int(width * 10 / len(rows))) if level else _few_lines
    texts = [_plain(wrap(row_title(row))) for row in rows]
    slant: dict[str, Any] = {} if level else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(rows)), texts, fontsize=8, **slant)


def _few_lines(text: str) -> str:
    """Return a slanted label: the next one is only so far away."""
    characters = LABEL_CHARACTERS
    while len(textwrap.wrap(text, characters)) > LABEL_LINES:
        characters += 1
    return textwrap.fill(text, characters)


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """Explain each kind of mark once, below the panels."""
    marks: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            marks.setdefault(label, handle)
    if marks:
        figure.legend(marks.values(), marks.keys(), loc="outside lower center", ncols=2, fontsize=8, frameon=False)


def _plain(text: str) -> str:
    """Return text in which matplotlib sees no formulas."""
    return text.replace("$", r"\$")
