"""Losses of halftoning and dithering, one per file.

Each is a function of a halftone and its gray original, both in [-1, 1], beside its *flip gain*: what the
loss gains when a pixel turns from black to white, the exact gradient for binary pixels (see
:mod:`nibkit.estimators`).
"""

from nibkit.losses.base import HalftoneLoss
from nibkit.losses.binarization import Binarization
from nibkit.losses.blue_noise import BlueNoise
from nibkit.losses.structure import Structure
from nibkit.losses.tone import Tone

__all__ = ["Binarization", "BlueNoise", "HalftoneLoss", "Structure", "Tone"]
