"""Discriminators, one family per file. Importing this package registers them.

A discriminator maps condition and image side by side, ``[B, C, H, W]``, to a list over scales of lists of features;
the last of each are the logits ``[B, 1, h, w]``, one for each place.
"""

from nibkit.discriminators.multiscale import Multiscale
from nibkit.discriminators.patchgan import PatchGAN

__all__ = ["Multiscale", "PatchGAN"]
