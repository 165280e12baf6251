"""Backbones, one family per file. Importing this package registers them."""

from nibkit.backbones.autoencoder import Autoencoder
from nibkit.backbones.base import Backbone
from nibkit.backbones.invertible_grayscale import GrayscaleDecoder, GrayscaleEncoder, InvertibleGrayscale
from nibkit.backbones.pix2pix import Pix2Pix
from nibkit.backbones.resnet import ResNet
from nibkit.backbones.segmenter import SegmentationNetwork
from nibkit.backbones.spade import Spade
from nibkit.backbones.subpixel import Subpixel
from nibkit.backbones.unet import UNet

__all__ = [
    "Autoencoder", "Backbone", "GrayscaleDecoder", "GrayscaleEncoder", "InvertibleGrayscale", "Pix2Pix", "ResNet",
    "SegmentationNetwork", "Spade", "Subpixel", "UNet",
]  # fmt: skip
