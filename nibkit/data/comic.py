"""Comic panels, drawn by rule: constant regions, black outlines, lettering, gradients.

They stand in for the paper's COMIC set, whose frames are mostly constant patches, and are made anew from
a seed, so that nothing has to be downloaded.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nibkit.data.images import Pixels

WORDS = ("BANG!", "NO!", "WAIT...", "AT LAST!", "RUN!", "HA HA", "HUM?", "OH!", "WHO GOES THERE?", "LATER THAT DAY")
Color = tuple[int, int, int]
Box = tuple[float, float, float, float]


def comic_page(seed: int, size: int = 512) -> Pixels:
    """Return a comic page ``[size, size, 3]`` in [0, 1], the same for the same seed.

    Args:
        seed: decides layout, colours and words.
        size: side of the page, pixels.
    """
    rng = np.random.default_rng([seed, 0xC0])
    page = Image.new("RGB", (2 * size, 2 * size), "white")
    for box in _layout(rng, 2 * size):
        _panel(page, rng, box)
    # drawn at twice the size and averaged 2x2: smooth lines, and constant regions stay constant
    return (np.asarray(page.reduce(2)) / 255).astype(np.float32)


def _layout(rng: np.random.Generator, side: int) -> list[Box]:
    """Return panel boxes: two or three rows of one or two panels between white gutters."""
    gutter, top = side // 40, 0
    boxes: list[Box] = []
    rows = int(rng.integers(1, 4))
    for row in range(rows):
        bottom = side if row == rows - 1 else round(side * (row + 1) / rows + rng.uniform(-0.06, 0.06) * side)
        cut = round(side * rng.uniform(0.35, 0.65)) if rng.random() < 0.7 else side
        for left, right in ((0, cut), (cut, side)) if cut < side else ((0, side),):
            boxes.append((left + gutter, top + gutter, right - gutter, bottom - gutter))
        top = bottom
    return boxes


def _panel(page: Image.Image, rng: np.random.Generator, box: Box) -> None:
    """Draw one panel: sky, ground, two to four things, a balloon, a frame."""
    width, height = round(box[2] - box[0]), round(box[3] - box[1])
    panel = Image.new("RGB", (width, height), _color(rng))
    if rng.random() < 0.35:
        panel.paste(_gradient(rng, width, height))
    draw = ImageDraw.Draw(panel)
    line = max(3, width // 120)
    horizon = height * rng.uniform(0.5, 0.85)
    draw.rectangle((0, horizon, width, height), fill=_color(rng), outline="black", width=line)
    things = (_house, _tree, _person, _sun)
    for _ in range(int(rng.integers(2, 5))):
        things[rng.integers(len(things))](draw, rng, width, horizon, line)
    if rng.random() < 0.7:
        _balloon(draw, rng, width, height, line)
    draw.rectangle((0, 0, width - 1, height - 1), outline="black", width=2 * line)
    page.paste(panel, (round(box[0]), round(box[1])))


def _color(rng: np.random.Generator) -> Color:
    """Return a flat ink; some are grays."""
    if rng.random() < 0.3:
        level = int(rng.integers(20, 250))
        return (level, level, level)
    red, green, blue = (int(c) for c in rng.integers(30, 256, 3))
    return (red, green, blue)


def _gradient(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Return a vertical gradient between two inks."""
    top, bottom = np.asarray(_color(rng)), np.asarray(_color(rng))
    mix = np.linspace(0, 1, height)[:, None, None]
    rows = (top * (1 - mix) + bottom * mix).round().astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(rows, (height, width, 3))))


def _house(draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, horizon: float, line: int) -> None:
    x, w, h = rng.uniform(0, 0.8) * width, rng.uniform(0.15, 0.4) * width, rng.uniform(0.3, 0.8) * horizon
    y = horizon - h * 0.7
    draw.rectangle((x, y, x + w, horizon + h * 0.1), fill=_color(rng), outline="black", width=line)
    roof = [(x - w * 0.1, y), (x + w / 2, y - h * 0.35), (x + w * 1.1, y)]
    draw.polygon(roof, fill=_color(rng), outline="black", width=line)
    pane = _color(rng)
    for column in (0.15, 0.6):
        corner = (x + w * column, y + h * 0.15)
        draw.rectangle((*corner, corner[0] + w * 0.25, corner[1] + h * 0.2), fill=pane, outline="black", width=line)


def _tree(draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, horizon: float, line: int) -> None:
    x, r = rng.uniform(0.1, 0.9) * width, rng.uniform(0.06, 0.16) * width
    draw.rectangle(
        (x - r * 0.2, horizon - 2 * r, x + r * 0.2, horizon + r * 0.3), fill=_color(rng), outline="black", width=line
    )
    draw.ellipse((x - r, horizon - 3.4 * r, x + r, horizon - 1.4 * r), fill=_color(rng), outline="black", width=line)


def _person(draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, horizon: float, line: int) -> None:
    x, r = rng.uniform(0.15, 0.85) * width, rng.uniform(0.04, 0.09) * width
    y = horizon - 4 * r
    coat = [(x - r, y + r), (x + r, y + r), (x + 1.8 * r, y + 5 * r), (x - 1.8 * r, y + 5 * r)]
    draw.polygon(coat, fill=_color(rng), outline="black", width=line)
    draw.ellipse((x - r, y - r, x + r, y + r), fill=_color(rng), outline="black", width=line)
    for side in (-0.4, 0.4):
        draw.ellipse((x + side * r - line, y - line, x + side * r + line, y + line), fill="black")
    draw.arc((x - r / 2, y - r / 4, x + r / 2, y + r / 2), 20, 160, fill="black", width=line)


def _sun(draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, horizon: float, line: int) -> None:
    x, y, r = rng.uniform(0.1, 0.9) * width, rng.uniform(0.15, 0.4) * horizon, rng.uniform(0.05, 0.1) * width
    for angle in np.linspace(0, 2 * math.pi, 12, endpoint=False):
        dx, dy = math.cos(angle), math.sin(angle)
        draw.line((x + 1.2 * r * dx, y + 1.2 * r * dy, x + 1.6 * r * dx, y + 1.6 * r * dy), fill="black", width=line)
    draw.ellipse((x - r, y - r, x + r, y + r), fill=_color(rng), outline="black", width=line)


def _balloon(draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, line: int) -> None:
    """Draw a speech balloon with words that fit into it."""
    text = WORDS[rng.integers(len(WORDS))]
    font = ImageFont.load_default(max(14, width // 16))
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    w, h = (right - left) * 0.75 + 10, (bottom - top) * 1.6 + 10
    x, y = rng.uniform(min(w, width / 2), max(width - w, width / 2 + 1)), h + rng.uniform(0, 0.12) * height
    tail = [(x - w * 0.2, y + h * 0.6), (x + w * 0.1, y + h * 0.7), (x - w * 0.3, y + h * 1.8)]
    draw.polygon(tail, fill="white", outline="black", width=line)
    draw.ellipse((x - w, y - h, x + w, y + h), fill="white", outline="black", width=line)
    draw.text((x, y), text, fill="black", font=font, anchor="mm")
