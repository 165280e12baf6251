"""Blow-ups as in Figure 8: the same crops of whole halftones, every pixel a square."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nibkit.data.gray import WHITE, GrayPlane, to_tone
from nibkit.data.module import SPECTRUM_LEVELS
from nibkit.filters import gaussian_filter
from nibkit.reproduce.evaluate import kept_halftone
from nibkit.reproduce.judge import Input, constant_gray, drawn_input, to_halftone
from nibkit.reproduce.methods import Method
from nibkit.sheet import Cell, draw_sheet

SIDE, ENLARGED, COLUMNS = 72, 3, 6  # of a crop, pixels; times; pictures in a line at most
PHOTOS = 2
DETAIL, SMOOTH = 0.015, 1.5  # mean difference of neighbours, on [0, 1], that is something to show; of the filter

Box = tuple[slice, slice]


def draw_blowups(methods: Sequence[tuple[str, Method]], images: Sequence[Input], runs: Path) -> Image.Image:
    """Return the sheet of the original's and all methods' crops.

    Args:
        methods: title and method.
        images: the crops are of the first that have detail.
        runs: the folder where halftones are kept.
    """
    rows: list[list[Cell]] = []
    for item, box in (*_detailed(images), _patch(), _ramp()):
        original = torch.from_numpy(to_tone(item.read()))[None]
        cells = [(f"original: {item.name}", _enlarged(original, box))]
        for title, method in methods:
            cells.append((title, _enlarged(to_halftone(kept_halftone(method, item, runs))[0], box)))
        columns = -(-len(cells) // -(-len(cells) // COLUMNS))  # lines of about one length
        rows += [cells[first : first + columns] for first in range(0, len(cells), columns)]
    return draw_sheet(rows, f"Images halftoned whole; crops of {SIDE} pixels, enlarged {ENLARGED} times")


def _enlarged(image: Tensor, box: Box) -> Tensor:
    """Return a crop of an image ``[1, H, W]``, every pixel a square."""
    return image[:, *box].repeat_interleave(ENLARGED, dim=1).repeat_interleave(ENLARGED, dim=2)


def _detailed(images: Sequence[Input]) -> Iterator[tuple[Input, Box]]:
    """Yield the first images that have detail, and where they have most; if there are too few, the first others."""
    plain = []
    found = 0
    for item in images:
        box, detail = most_detailed(item.read())
        if detail >= DETAIL:
            yield item, box
            found += 1
        else:
            plain.append((item, box))
        if found == PHOTOS:
            return
    yield from plain[: PHOTOS - found]


def most_detailed(plane: GrayPlane) -> tuple[Box, float]:
    """Return the crop of a gray image ``[H, W]`` whose neighbours differ most, and by how much on [0, 1].

    Grain does not count: the image is smoothed before.
    """
    smooth = gaussian_filter(torch.from_numpy(to_tone(plane) / 2), SMOOTH).numpy().astype(np.float64)
    change = np.zeros_like(smooth)
    change[1:] += abs(np.diff(smooth, axis=0)) / 2
    change[:, 1:] += abs(np.diff(smooth, axis=1)) / 2
    height, width = (min(SIDE, side) for side in plane.shape)
    sums = np.pad(change, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    sums = sums[height:] - sums[:-height]
    means = (sums[:, width:] - sums[:, :-width]) / (height * width)
    y, x = np.unravel_index(means.argmax(), means.shape)
    return (slice(y, y + height), slice(x, x + width)), float(means.max())


def _patch() -> tuple[Input, Box]:
    """Return a light constant gray of the blue-noise protocol, and its middle."""
    item = constant_gray(SPECTRUM_LEVELS[-4])
    return item, _middle(item, SIDE, SIDE)


def _ramp() -> tuple[Input, Box]:
    """Return a ramp from black to white, and a strip of it."""
    levels = np.rint(np.linspace(0, WHITE, SIDE)).astype(np.uint16)
    item = drawn_input("ramp", np.repeat(levels[:, None], 3 * SIDE, axis=1))
    return item, _middle(item, SIDE, SIDE)


def _middle(item: Input, height: int, width: int) -> Box:
    top, left = (item.shape[0] - height) // 2, (item.shape[1] - width) // 2
    return slice(top, top + height), slice(left, left + width)
