"""Losses, one per file, on [-1, 1].

Those of halftoning and dithering are functions of a halftone and its gray original, beside their *flip gain*: what
the loss gains when a pixel turns from black to white, the exact gradient for binary pixels (see
:mod:`nibkit.estimators`). Those of invertible grayscale are plain functions of a gray image and the luminance, or the
colours, of its original, without flip gain. Those of semantic synthesis compare a generated photograph with the real
one, or are of a discriminator's judgement.
"""

from nibkit.losses.adversarial import GAN_LOSSES, discriminator_loss, generator_loss
from nibkit.losses.base import HalftoneLoss
from nibkit.losses.binarization import Binarization
from nibkit.losses.blue_noise import BlueNoise
from nibkit.losses.contrast import Contrast
from nibkit.losses.feature_matching import feature_matching_loss
from nibkit.losses.lightness import lightness_loss
from nibkit.losses.local_structure import local_structure_loss
from nibkit.losses.perceptual import Perceptual
from nibkit.losses.quantization import quantization_loss
from nibkit.losses.structure import Structure
from nibkit.losses.tone import Tone

__all__ = [
    "GAN_LOSSES",
    "Binarization",
    "BlueNoise",
    "Contrast",
    "HalftoneLoss",
    "Perceptual",
    "Structure",
    "Tone",
    "discriminator_loss",
    "feature_matching_loss",
    "generator_loss",
    "lightness_loss",
    "local_structure_loss",
    "quantization_loss",
]
