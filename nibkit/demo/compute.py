"""Image files to the files and figures that the page shows; nothing here knows of the page.

Every function writes into a folder of the caller's and gives back where the pictures are.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nibkit.color import luminance
from nibkit.data.gray import WHITE, GrayPlane, read_gray
from nibkit.data.images import read_image, save_png, to_tensor
from nibkit.demo.uploads import check_upload, named
from nibkit.dither import neural
from nibkit.hide import Pair, hide_file, read_color, restore_file
from nibkit.metrics.psnr import filtered_psnr
from nibkit.metrics.reconstruction import psnr
from nibkit.metrics.spectrum import CROP, low_frequency_ratio, power_spectrum, radial_average, ring_anisotropy
from nibkit.plots import spectrum_figure
from nibkit.png import write_bits

SIGMA = 2.0  # of the filter behind the PSNR of halftones, pixels
FLAT_SIDE = 512  # of a constant gray, pixels: the size of the project's spectra
BLOW_UP = 512  # side of an enlarged region, pixels


@dataclass(frozen=True)
class Settings:
    """What a visitor sets for halftoning.

    Args:
        weights: as :func:`nibkit.dither.neural` takes them.
        seed: moves the noise field.
        strength: of the noise, times what the network was trained with.
        sweeps: of the refinement; 0 for the network alone.
    """

    weights: str = "dithering"
    seed: int = 0
    strength: float = 1.0
    sweeps: int = 0


@dataclass(frozen=True)
class Halftones:
    """Where the gray image, the halftone with the noise switched off and that of the NIB are, and the seconds taken."""

    gray: Path
    off: Path
    on: Path
    seconds: float


@dataclass(frozen=True)
class Colors:
    """Where the original (None if unknown), the gray that hides its colours and the restored image are."""

    original: Path | None
    gray: Path
    restored: Path
    seconds: float


def dither_image(source: Path, folder: Path, settings: Settings) -> Halftones:
    """Halftone an image file by the same network, its noise switched off and on, into 1-bit PNGs.

    Raises:
        UserError: too large, no image, or weights that cannot be used.
    """
    check_upload(source)
    with named(source):
        plane = read_gray(source)
    return _halftones(plane, folder, settings)


def dither_constant(level: float, folder: Path, settings: Settings) -> Halftones:
    """Halftone a constant gray of 512x512 pixels; ``level`` in [0, 1] is the share of white."""
    return _halftones(np.full((FLAT_SIDE, FLAT_SIDE), round(level * WHITE), np.uint16), folder, settings)


def _halftones(plane: GrayPlane, folder: Path, settings: Settings) -> Halftones:
    start = time.perf_counter()
    height, width = plane.shape
    paths = folder / "gray.png", folder / "noise-off.png", folder / "halftone.png"
    for strength, path in zip((0.0, settings.strength), paths[1:], strict=True):
        halftone = neural(settings.weights, None, settings.seed, settings.sweeps, strength)
        write_bits(path, width, height, halftone(plane, None))
    Image.fromarray((plane // 257).astype(np.uint8)).save(paths[0])
    return Halftones(*paths, time.perf_counter() - start)


def halftone_psnr(pictures: Halftones) -> tuple[float, float]:
    """Return the PSNR in dB, sigma 2.0, of the halftone with the noise off and of the NIB's."""
    gray = _tensor(pictures.gray, 1)
    off, on = (float(filtered_psnr(_tensor(path, 1), gray, SIGMA)) for path in (pictures.off, pictures.on))
    return off, on


def share_of_white(halftone: Path) -> float:
    """Return the share of white dots of a halftone file, in [0, 1]."""
    return float(_tensor(halftone, 1).add(1).div(2).mean())


def spectrum(halftone: Path, level: float) -> tuple[Figure, float]:
    """Return the plot of the spectrum of a constant gray's halftone, and its low-frequency ratio, NaN without dots."""
    dots = _tensor(halftone, 1)
    power = power_spectrum(dots)
    scale = level * (1 - level)
    curves = {level: (radial_average(power) / scale, ring_anisotropy(power))}
    crops = math.prod(side // CROP for side in dots.shape[-2:])
    return spectrum_figure(curves, crops), low_frequency_ratio(power, level)


def blow_up(picture: Path, place: tuple[float, float], side: int) -> NDArray[np.uint8]:
    """Return a square region of an image file, each of its pixels a square of many.

    Args:
        picture: the file.
        place: (x, y) of the region's middle, each as a share of the image's side, in [0, 1].
        side: of the region, pixels; less where the image is smaller.
    """
    with Image.open(picture) as file:
        side = min(side, *file.size)
        left, top = (min(max(round(p * n - side / 2), 0), n - side) for p, n in zip(place, file.size, strict=True))
        region = file.crop((left, top, left + side, top + side))
        region = region.convert("L" if file.mode == "1" else file.mode)
    times = max(1, BLOW_UP // side)
    return np.asarray(region).repeat(times, axis=0).repeat(times, axis=1)


def hide_colors(source: Path, folder: Path, pair: Pair) -> Colors:
    """Hide the colours of an image file in a gray PNG, and restore them from that file.

    Raises:
        UserError: too large, or no image.
    """
    check_upload(source)
    start = time.perf_counter()
    colors = Colors(folder / "original.png", folder / "gray.png", folder / "colour.png", 0)
    with named(source):
        hide_file(source, colors.gray, pair)
        Image.fromarray(read_color(source)).save(folder / "original.png")
    restore_file(colors.gray, colors.restored, pair)
    return Colors(colors.original, colors.gray, colors.restored, time.perf_counter() - start)


def restore_colors(source: Path, folder: Path, pair: Pair) -> Colors:
    """Restore the colours that a gray PNG hides.

    Raises:
        UserError: too large, or no file that could hide colours of this pair.
    """
    check_upload(source)
    start = time.perf_counter()
    with named(source):
        restore_file(source, folder / "colour.png", pair)
    return Colors(None, source, folder / "colour.png", time.perf_counter() - start)


def color_psnr(colors: Colors) -> tuple[float, float]:
    """Return the PSNR in dB of the restored colours, and of the gray against luminance; both against the original."""
    if colors.original is None:
        return math.nan, math.nan
    original = _tensor(colors.original, 3)
    gray = _tensor(colors.gray, 1)
    return float(psnr(_tensor(colors.restored, 3), original)), float(psnr(gray, luminance(original)))


def _tensor(path: Path, channels: int) -> Tensor:
    """Return an image file as ``[1, channels, H, W]`` in [-1, 1]."""
    return to_tensor(read_image(path, channels))[None]


def save_example(name: str, folder: Path) -> Path:
    """Write one of the built-in test images, ``comic``, ``chelsea`` or ``coffee``, as an RGB PNG; return where."""
    from nibkit.data.builtin import COMICS, photos, read_comic

    examples = {
        "comic": lambda: read_comic(COMICS["test"][0], 3),
        **dict(photos("test", 3)),
    }
    path = folder / f"{name}.png"
    save_png(to_tensor(examples[name]()), path)
    return path


def draw_blank(side: int = 512) -> NDArray[np.uint8]:
    """Return what a drawing begins with: light gray ``[side, side, 3]``."""
    return np.full((side, side, 3), 200, np.uint8)
