"""Losses, one per file, on [-1, 1].

Those of halftoning and dithering are functions of a halftone and its gray original, beside their *flip gain*: what
the loss gains when a pixel turns from black to white, the exact gradient for binary pixels (see
:mod:`nibkit.estimators`). Those of invertible grayscale are plain functions of a gray image and the luminance, or the
colours, of its original, without flip gain.
"""

from nibkit.losses.base import HalftoneLoss
from nibkit.losses.binarization import Binarization
from nibkit.losses.blue_noise import BlueNoise
from nibkit.losses.contrast import Contrast
from nibkit.losses.lightness import lightness_loss
from nibkit.losses.local_structure import local_structure_loss
from nibkit.losses.quantization import quantization_loss
from nibkit.losses.structure import Structure
from nibkit.losses.tone import Tone

__all__ = [
    "Binarization",
    "BlueNoise",
    "Contrast",
    "HalftoneLoss",
    "Structure",
    "Tone",
    "lightness_loss",
    "local_structure_loss",
    "quantization_loss",
]
