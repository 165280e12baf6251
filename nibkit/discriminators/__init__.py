"""Discriminators, one family per file. Importing this package registers them.

A discriminator maps condition and image side by side, ``[B, C, H, W]``, to a list over scales of lists of features;
the last of each are the logits ``[B, 1, h, w]``, one for each place. One that sets ``independent = True`` promises that
what it makes of an image depends on no other image of the batch; true and generated ones then pass through it together.
"""

from nibkit.discriminators.multiscale import Multiscale
from nibkit.discriminators.patchgan import PatchGAN

__all__ = ["Multiscale", "PatchGAN"]
