"""Picture sheets: rows of captioned pictures at one screen pixel per pixel.

Halftones are never resampled: scaling turns dots into moire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from nibkit.data.images import to_bytes
from nibkit.files import whole_file

GAP, CAPTION = 12, 22  # pixels
Cell = tuple[str, Tensor]


def draw_sheet(rows: Sequence[Sequence[Cell]], title: str, headings: Mapping[int, str] | None = None) -> Image.Image:
    """Return a sheet of rows of (caption, image ``[C, H, W]`` in [-1, 1]).

    Args:
        rows: cells of a row stand side by side.
        title: above all rows.
        headings: above some rows, by their number.
    """
    headings = headings or {}
    widths = [sum(image.shape[-1] + GAP for _, image in row) for row in rows]
    heights = [max(image.shape[-2] for _, image in row) + CAPTION + GAP for row in rows]
    size = (max(widths) + GAP, sum(heights) + CAPTION * (1 + len(headings)) + 2 * GAP)
    sheet = Image.new("RGB", size, "white")
    draw, font, large = ImageDraw.Draw(sheet), ImageFont.load_default(14), ImageFont.load_default(16)
    draw.text((GAP, GAP), title, fill="black", font=large)
    top = CAPTION + 2 * GAP
    for number, (row, height) in enumerate(zip(rows, heights, strict=True)):
        if number in headings:
            draw.text((GAP, top), headings[number], fill="black", font=large)
            top += CAPTION
        left = GAP
        for caption, image in row:
            draw.text((left, top), caption, fill="black", font=font)
            sheet.paste(Image.fromarray(to_bytes(image)), (left, top + CAPTION))
            frame = (left - 1, top + CAPTION - 1, left + image.shape[-1], top + CAPTION + image.shape[-2])
            draw.rectangle(frame, outline="#9a9a9a")  # a white picture ends somewhere, too
            left += image.shape[-1] + GAP
        top += height
    return sheet


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG, whole or not at all."""
    with whole_file(path) as partial:
        picture.save(partial, format="PNG")


def gray_ramp(height: int, width: int) -> Tensor:
    """Return a ramp from black to white, ``[1, height, width]`` in [-1, 1]."""
    return torch.linspace(-1, 1, width).expand(1, height, width)


def colorize(plane: Tensor) -> Tensor:
    """Return a plane ``[H, W]`` stretched to its own range in colours, ``[3, H, W]`` in [-1, 1].

    A plane without variance becomes one flat colour.
    """
    plane = plane.detach().float().cpu()
    low, high = plane.min(), plane.max()
    # rounding noise of a convolution is no texture
    stretched = (plane - low) / (high - low) if high - low > 1e-4 * (1 + plane.abs().max()) else plane * 0 + 0.5
    return _colors(stretched, "viridis")


def error_map(error: Tensor, limit: float) -> Tensor:
    """Return an error in colours of a fixed scale, so that pictures compare: ``[3, H, W]`` in [-1, 1].

    Args:
        error: absolute error as a share of the white range, ``[H, W]``, 0 for none.
        limit: the error of the brightest colour; larger ones have the same.
    """
    return _colors((error.detach().float().cpu() / limit).clamp(0, 1), "inferno")


def _colors(share: Tensor, colormap: str) -> Tensor:
    """Return a plane ``[H, W]`` in [0, 1] in the colours of a matplotlib colormap, ``[3, H, W]`` in [-1, 1]."""
    colors = np.asarray(matplotlib.colormaps[colormap](share.numpy()), dtype=np.float32)[..., :3]
    return torch.from_numpy(colors.transpose(2, 0, 1)) * 2 - 1
