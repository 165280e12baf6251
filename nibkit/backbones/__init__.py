"""Backbones, one family per file. Importing this package registers them."""

from nibkit.backbones.autoencoder import Autoencoder
from nibkit.backbones.base import Backbone
from nibkit.backbones.resnet import ResNet
from nibkit.backbones.unet import UNet

__all__ = ["Autoencoder", "Backbone", "ResNet", "UNet"]
