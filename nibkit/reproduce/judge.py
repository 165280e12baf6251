"""The figures of one halftone: of an image, or of a constant gray by the blue-noise protocol.

Networks go the way of ``nibkit dither``, the whole image block by block; what is judged is what it would write.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from nibkit.data.gray import WHITE, GrayPlane, read_gray, to_tone
from nibkit.data.module import SPECTRUM_LEVELS
from nibkit.dither import Halftoner
from nibkit.metrics.flat import DottedLevels, ToneError
from nibkit.metrics.spectrum import Anisotropy, LowFrequencyRatio
from nibkit.metrics.suite import image_metrics
from nibkit.png import Bits
from nibkit.reproduce.methods import digest

GRAY_SIDE = 512  # of constant grays, pixels: 16 crops of the blue-noise protocol
WARM_UP = 64  # side of the part that is halftoned before the clock runs

Values = dict[str, float | None]  # by figure; None where it does not exist


@dataclass(frozen=True)
class Input:
    """An image to halftone.

    Args:
        name: for people.
        read: returns its gray plane ``[H, W]``.
        key: hash of its size and pixels, and of what is measured.
        shape: (height, width).
        level: of a constant gray, in [0, 1]; None for an image.
    """

    name: str
    read: Callable[[], GrayPlane]
    key: str
    shape: tuple[int, ...]
    level: float | None = None


def image_input(path: Path) -> Input:
    """Return an image file as input; it is read anew whenever needed, so that a folder may be larger than memory.

    Raises:
        UserError: the file cannot be read as an image.
    """
    plane = read_gray(path)
    return Input(path.stem, lambda: read_gray(path), plane_key(plane, "image"), plane.shape)


def drawn_input(name: str, plane: GrayPlane, level: float | None = None) -> Input:
    """Return a plane ``[H, W]`` as input; ``level`` in [0, 1] if it is constant."""
    kind = "image" if level is None else "gray"
    return Input(name, lambda: plane, plane_key(plane, kind), plane.shape, level)


def gray_inputs() -> list[Input]:
    """Return the constant grays of the blue-noise protocol."""
    return [constant_gray(level) for level in SPECTRUM_LEVELS]


def constant_gray(level: float) -> Input:
    """Return a constant gray of 512x512 pixels; ``level`` in [0, 1]."""
    plane = np.full((GRAY_SIDE, GRAY_SIDE), round(level * WHITE), dtype=np.uint16)
    return drawn_input(f"gray {level:.3f}", plane, level)


def plane_key(plane: GrayPlane, kind: str) -> str:
    """Return the hash of a plane's size and pixels; ``kind`` tells a constant image from a constant gray."""
    return digest([kind.encode(), repr(plane.shape).encode(), plane.tobytes()])


def warm(halftoner: Halftoner, item: Input) -> Halftoner:
    """Halftone a small part of the input, so that compiling and first calls are not timed."""
    list(halftoner(item.read()[:WARM_UP, :WARM_UP], None))
    return halftoner


def measure(halftoner: Halftoner, item: Input) -> Values:
    """Halftone an input as a whole and return its figures."""
    plane = item.read()
    start = time.perf_counter()
    white = np.concatenate(list(halftoner(plane, None)))
    seconds = time.perf_counter() - start
    judged = judge_image(white, plane) if item.level is None else judge_gray(white, item.level)
    return judged | {"seconds_per_megapixel": seconds / plane.size * 1e6}


def judge_image(white: Bits, plane: GrayPlane) -> Values:
    """Return PSNR at both filter widths and SSIM of a halftone ``[H, W]`` and its gray ``[H, W]``."""
    gray = torch.from_numpy(to_tone(plane))[None, None]
    return _values(image_metrics(), to_halftone(white), gray)


def judge_gray(white: Bits, level: float) -> Values:
    """Return the figures of the halftone ``[H, W]`` of a constant gray; None for a spectrum that does not exist."""
    metrics: dict[str, Metric] = {
        "tone_error": ToneError(),
        "dotted_levels": DottedLevels(),
        "low_frequency_ratio": LowFrequencyRatio(),
        "anisotropy_db": Anisotropy(),
    }
    return _values(metrics, to_halftone(white), torch.tensor([level], dtype=torch.float64))


def to_halftone(white: Bits) -> Tensor:
    """Return white pixels ``[H, W]`` as ``[1, 1, H, W]`` of -1 and 1."""
    return torch.from_numpy(np.where(white, np.float32(1), np.float32(-1)))[None, None]


def _values(metrics: dict[str, Metric], *arguments: Tensor) -> Values:
    values = {}
    for name, metric in metrics.items():
        metric.update(*arguments)
        value = float(metric.compute())
        values[name] = value if math.isfinite(value) else None
    return values
