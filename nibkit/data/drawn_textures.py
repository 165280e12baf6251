"""Textures that fill the regions of drawn scenes: of scikit-image's photographs, and drawn ones.

All are a gray pattern, most of it between 0 and 1, on a ramp from a dark colour to a light one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nibkit.data.images import Pixels, read_image

Gray = NDArray[np.float64]
Colour = tuple[float, float, float]  # red, green, blue in [0, 1]
Pattern = Callable[[np.random.Generator, int, int, str], Gray]  # of height, width and split

TRAINED = 5 / 8  # share of the rows of a photograph that is trained on; the others are judged on
CONTRAST = 0.22  # of the ramp, per standard deviation of a pattern
JITTER = 0.06  # of colours, from scene to scene


def photographed(name: str) -> Pattern:
    """Return the pattern that crops a texture of scikit-image, mirrored every other time.

    Training and judging have different rows of it, so that no texture of a test scene was trained on.
    """

    def pattern(rng: np.random.Generator, height: int, width: int, split: str) -> Gray:
        image = photograph_part(name, split)
        missing = [(0, max(0, wanted - side)) for wanted, side in zip((height, width), image.shape, strict=True)]
        image = np.pad(image, missing, mode="symmetric")
        top, left = int(rng.integers(image.shape[0] - height + 1)), int(rng.integers(image.shape[1] - width + 1))
        crop = image[top : top + height, left : left + width]
        return 0.5 + CONTRAST * (crop[:, ::-1] if rng.random() < 0.5 else crop)

    return pattern


def photograph_part(name: str, split: str) -> Gray:
    """Return the rows of a texture that a split may use, ``[H, W]``, of mean 0 and deviation 1 as a whole."""
    image = _photograph(name)
    end = round(TRAINED * len(image))
    return image[:end] if split == "train" else image[end:]


@cache
def _photograph(name: str) -> Gray:
    """Return a texture; bricks at half the size and turned, so that they lie."""
    image: Gray = read_image(Path(str(files("skimage"))) / "data" / f"{name}.png")[..., 0].astype(np.float64)
    if name == "brick":
        image = np.rot90(image.reshape(256, 2, 256, 2).mean(axis=(1, 3)))
    standard: Gray = (image - image.mean()) / image.std()
    return standard


def noise(
    rng: np.random.Generator, height: int, width: int, slope: float, stretch: tuple[float, float] = (1, 1)
) -> Gray:
    """Return Gaussian noise ``[H, W]`` of mean 0 and deviation 1, its amplitude falling as frequency ** -slope.

    Args:
        rng: draws it.
        height: pixels.
        width: pixels.
        slope: 0 for white noise; natural textures have 1 to 2.
        stretch: how many times longer its grains are along y and x.
    """
    fy, fx = np.fft.fftfreq(height)[:, None] * stretch[0], np.fft.rfftfreq(width)[None] * stretch[1]
    frequency = np.hypot(fy, fx)
    frequency[0, 0] = np.inf
    field: Gray = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) * frequency**-slope, (height, width))
    return field / max(float(field.std()), 1e-9)  # a region of one pixel has none


def clouds(rng: np.random.Generator, height: int, width: int, split: str) -> Gray:
    """Return a sky: lighter towards the horizon, with clouds."""
    cover = rng.uniform(-0.6, 0.5)
    puffs = np.clip(0.6 * (noise(rng, height, width, 1.5, (1, 2)) + cover), 0, 1)
    return np.maximum(np.linspace(0.05, 0.6, height)[:, None] + 0.02 * noise(rng, height, width, 1), puffs)


def ripples(rng: np.random.Generator, height: int, width: int, split: str) -> Gray:
    """Return water: grains that lie along x."""
    return 0.45 + CONTRAST * noise(rng, height, width, 1.2, (1, 5))


def leaves(rng: np.random.Generator, height: int, width: int, split: str) -> Gray:
    """Return foliage: lit and dark leaves of a few pixels, in clumps."""
    tufts = np.tanh(1.5 * noise(rng, height, width, 0.9))
    return 0.45 + 0.3 * tufts + 0.15 * noise(rng, height, width, 1.8)


def planks(rng: np.random.Generator, height: int, width: int, split: str) -> Gray:
    """Return upright boards with grain and dark joints."""
    board, offset = int(rng.integers(9, 15)), int(rng.integers(0, 15))
    x = np.arange(width) + offset
    tone = rng.uniform(0.35, 0.75, width + offset)[x // board]
    grain = 0.1 * noise(rng, height, width, 1, (8, 1))
    return np.where(x % board == 0, 0.05, tone + grain)


def tiles(rng: np.random.Generator, height: int, width: int, split: str) -> Gray:
    """Return rows of roof tiles, each row moved by half a tile, each tile of its own tone."""
    high, wide = int(rng.integers(6, 10)), int(rng.integers(8, 13))
    y, x = np.arange(height)[:, None], np.arange(width)[None]
    row = y // high
    moved = x + row % 2 * (wide // 2)
    tone = rng.uniform(0.4, 0.75, (height // high + 1, width // wide + 2))[row, moved // wide]
    lit = tone + 0.25 * (0.5 - y % high / high) + 0.05 * noise(rng, height, width, 0.5)
    return np.where(moved % wide == 0, 0.1, lit)


def coloured(pattern: Gray, dark: Colour, light: Colour, rng: np.random.Generator) -> Pixels:
    """Return a pattern on a ramp of colours, which are drawn near those given, ``[H, W, 3]``; not clipped."""
    low, high = (np.asarray(colour) + rng.uniform(-JITTER, JITTER, 3) for colour in (dark, light))
    return (low + pattern[..., None] * (high - low)).astype(np.float32)
