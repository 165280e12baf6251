"""Backbones, one family per file. Importing this package registers them."""

from nibkit.backbones.autoencoder import Autoencoder
from nibkit.backbones.base import Backbone
from nibkit.backbones.invertible_grayscale import GrayscaleDecoder, GrayscaleEncoder, InvertibleGrayscale
from nibkit.backbones.resnet import ResNet
from nibkit.backbones.subpixel import Subpixel
from nibkit.backbones.unet import UNet

__all__ = [
    "Autoencoder", "Backbone", "GrayscaleDecoder", "GrayscaleEncoder", "InvertibleGrayscale", "ResNet", "Subpixel",
    "UNet",
]  # fmt: skip
