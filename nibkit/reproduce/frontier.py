"""The plot of tone against structure: all methods, and the frontier that Pang's weights trace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

PSNR = ("psnr_sigma1.5", "psnr_sigma2.0")
COLORS = {"classical": "#31688e", "shipped": "#c23b22", "given": "#8e44ad", "trained": "#d98200"}
MARKERS = {"classical": "o", "shipped": "*", "given": "D", "trained": "s"}
FRONTIER = "#2a9d5c"
DPI = 110  # as plots are saved: labels are placed in pixels
OUTSIDE = "white_noise"  # far from all others: it would press them together
SIZE, NEAR = 8, 8  # of a label in points; of a point's own room to each side in pixels
RADII, ANGLES = range(NEAR + 2, 160, 5), (0, 180, 90, -90, 30, -30, 150, -150, 60, -60, 120, -120)  # of labels


class Label(NamedTuple):
    """A point's text."""

    x: float
    y: float
    text: str
    color: str


def draw_frontier(content: dict[str, Any]) -> Figure:
    """Return SSIM over PSNR, one panel per filter width, every method a labelled point."""
    figure = Figure(figsize=(14, 6.6), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    rows = [row for row in content["rows"] if "figures" in row and row["name"] != OUTSIDE]
    panels = figure.subplots(1, 2)
    labels = [_draw_panel(axes, rows, name) for axes, name in zip(panels, PSNR, strict=True)]
    panels[1].legend(*_legend(panels[1]), loc="best", fontsize=8)
    images = content["images"]
    figure.suptitle(f"Tone and structure: {images['count']} image(s) of '{images['folder']}'{_left_out(content)}")
    figure.draw_without_rendering()  # the layout must stand before labels are placed
    for axes, texts in zip(panels, labels, strict=True):
        _place(axes, texts)
    return figure


def _left_out(content: dict[str, Any]) -> str:
    """Say where the point lies that is not drawn."""
    row = next((row for row in content["rows"] if row["name"] == OUTSIDE and "images" in row), None)
    if row is None:
        return ""
    psnr, ssim = (row["images"][name]["mean"] for name in ("psnr_sigma2.0", "ssim"))
    return f" (not drawn: white noise, {psnr:.1f} dB at sigma 2.0, SSIM {ssim:.3f})"


def _draw_panel(axes: Axes, rows: Sequence[dict[str, Any]], name: str) -> list[Label]:
    """Draw one panel's points and frontier; return its labels."""
    points = [(row, row["images"][name]["mean"], row["images"]["ssim"]["mean"]) for row in rows]
    curve = sorted((row["tone_weight"], x, y) for row, x, y in points if "tone_weight" in row)
    axes.plot([x for _, x, _ in curve], [y for _, _, y in curve], "-o", color=FRONTIER, markersize=5)
    labels = [Label(x, y, f"{weight:g}".lstrip("0"), FRONTIER) for weight, x, y in curve]
    for row, x, y in points:
        if "tone_weight" not in row:
            kind = row["kind"]
            axes.plot([x], [y], MARKERS[kind], color=COLORS[kind], markersize=11 if kind == "shipped" else 7)
            labels.append(Label(x, y, row["title"].rpartition(": ")[2], COLORS[kind]))
    axes.set(xlabel=f"PSNR, filter of sigma {name[-3:]}, dB", ylabel="SSIM")
    axes.margins(0.12)
    axes.grid(color="#e6e6e6")
    axes.set_axisbelow(True)
    return labels


def _legend(axes: Axes) -> tuple[list[Any], list[str]]:
    """Return the handles and names of the kinds that are drawn."""
    drawn = {line.get_color() for line in axes.lines}
    frontier = Line2D([], [], color=FRONTIER, marker="o", markersize=5)
    kinds = {"classical": "classical", "shipped": "shipped network", "given": "given network",
             "trained": "trained network"}  # fmt: skip
    handles = {name: Line2D([], [], color=COLORS[kind], marker=MARKERS[kind], linestyle="")
               for kind, name in kinds.items() if COLORS[kind] in drawn}  # fmt: skip
    every = {"Pang, by tone weight": frontier, **handles}
    return list(every.values()), list(every)


def _place(axes: Axes, labels: Sequence[Label]) -> None:
    """Write each label at the nearest free place around its point, a line leading there from farther off."""
    points = [_pixels(axes, label.x, label.y) for label in labels]
    taken = [_around(x, y, 2 * NEAR, 2 * NEAR) for x, y in points]
    taken += [_around(x, y, 2, 2) for line in axes.lines for x, y in _along(axes, line.get_xydata())]
    if legend := axes.get_legend():
        taken.append(legend.get_window_extent())
    for label, (x, y) in zip(labels, points, strict=True):
        text = axes.annotate(
            label.text, (label.x, label.y), (0, 0), textcoords="offset pixels", ha="center", va="center",
            fontsize=SIZE, color=label.color,
        )  # fmt: skip
        size = text.get_window_extent()
        box = _free(axes.get_window_extent(), x, y, size.width, size.height, taken)
        text.set_position(((box.x0 + box.x1) / 2 - x, (box.y0 + box.y1) / 2 - y))
        taken.append(box)
        _lead(axes, x, y, box, label.color)


def _lead(axes: Axes, x: float, y: float, box: Bbox, color: str) -> None:
    """Draw a line from a point (pixels) to a label's box, unless they are side by side."""
    end = min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1)
    if math.dist((x, y), end) > 2 * NEAR:
        ends = axes.transData.inverted().transform([(x, y), end])
        axes.plot(*ends.T, color=color, linewidth=0.5, scalex=False, scaley=False)


def _free(inside: Bbox, x: float, y: float, width: float, height: float, taken: Sequence[Bbox]) -> Bbox:
    """Return the nearest box beside a point that lies ``inside`` and overlaps nothing; all in pixels."""
    places = []
    for radius, angle in product(RADII, ANGLES):
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        box = _around(x + (radius + width / 2) * cos, y + (radius + height / 2) * sin, width, height)
        places.append(box)
        whole = inside.x0 < box.x0 and box.x1 < inside.x1 and inside.y0 < box.y0 and box.y1 < inside.y1
        if whole and not any(box.overlaps(other) for other in taken):
            return box
    return places[0]


def _pixels(axes: Axes, x: float, y: float) -> tuple[float, float]:
    """Return where a point of the data lies."""
    across, up = axes.transData.transform((x, y))
    return float(across), float(up)


def _around(x: float, y: float, width: float, height: float) -> Bbox:
    """Return a box by its centre and size, pixels."""
    return Bbox.from_extents(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _along(axes: Axes, points: Any) -> np.ndarray[Any, Any]:
    """Return pixels along a line, close enough that no label fits between."""
    ends = axes.transData.transform(points)
    steps = np.linspace(0, 1, 40)[:, None]
    return np.concatenate([ends, *(a + (b - a) * steps for a, b in pairwise(ends))])
