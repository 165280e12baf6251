"""Reading large images as gray planes of 16 bits: two bytes a pixel are held, floats only strip by strip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nibkit.data.images import Pixels, open_upright, to_channels, to_float, white_level

GrayPlane = NDArray[np.uint16]  # [H, W]: 0 black, 65535 white

WHITE = 65535
STRIP = 2**20  # pixels that are floats at a time
LINEAR_LUMINANCE = (0.2126, 0.7152, 0.0722)  # of linear light, by the primaries of sRGB


def read_gray(path: str | Path, dot_size: int = 1, linear_light: bool = False) -> GrayPlane:
    """Read an image file, upright, as a gray plane ``[ceil(H / dot_size), ceil(W / dot_size)]``.

    As :func:`nibkit.data.images.read_image` reads it, to 16 bits: files of 8 or 16 bits gray are exact.

    Args:
        path: of the image.
        dot_size: each value is the mean of a square of so many pixels; at the right and lower border of those
            that are there.
        linear_light: gray is the luminance of linear light, the stored values taken as sRGB; else it is
            .299 R + .587 G + .114 B of the stored values. Transparency is laid on white before, means are after.

    Raises:
        UserError: the file cannot be read as an image.
    """
    with open_upright(path) as image:
        white = white_level(image)
        width, height = image.size
        plane = np.empty((-(-height // dot_size), -(-width // dot_size)), dtype=np.uint16)
        rows = max(1, STRIP // (width * dot_size))  # of the plane
        for top in range(0, len(plane), rows):
            bottom = min((top + rows) * dot_size, height)
            strip = image.crop((0, top * dot_size, width, bottom))
            plane[top : top + rows] = _sixteen_bits(_means(_gray(strip, white, linear_light), dot_size))
    return plane


def to_tone(plane: GrayPlane) -> Pixels:
    """Return 16-bit values in [-1, 1], float32."""
    tone: Pixels = plane.astype(np.float32)
    tone /= WHITE
    tone *= 2
    tone -= 1
    return tone


def _gray(strip: Image.Image, white: int, linear_light: bool) -> Pixels:
    """Return a strip's gray ``[H, W]`` in [0, 1]."""
    pixels = to_float(strip, white)
    if not linear_light:
        return to_channels(pixels, 1)[..., 0]
    linear = to_linear(pixels)
    return linear @ np.asarray(LINEAR_LUMINANCE, dtype=np.float32) if linear.shape[-1] == 3 else linear[..., 0]


def to_linear(values: Pixels) -> Pixels:
    """Return the linear light of sRGB values; both in [0, 1]."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _means(gray: Pixels, size: int) -> Pixels:
    """Return the means of squares of ``size`` pixels; at the end of a side, of the pixels left."""
    for axis in (0, 1) if size > 1 else ():
        starts = np.arange(0, gray.shape[axis], size)
        counts = np.diff(starts, append=gray.shape[axis])
        gray = (np.add.reduceat(gray, starts, axis=axis) / np.expand_dims(counts, 1 - axis)).astype(np.float32)
    return gray


def _sixteen_bits(gray: Pixels) -> GrayPlane:
    """Round [0, 1] to 0 .. 65535."""
    if not np.isfinite(gray).all():
        raise ValueError("it holds values that are no numbers")
    return np.rint(gray.clip(0, 1) * np.float32(WHITE)).astype(np.uint16)
