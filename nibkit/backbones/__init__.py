"""Backbones, one family per file. Importing this package registers them."""

from nibkit.backbones.base import Backbone
from nibkit.backbones.resnet import ResNet
from nibkit.backbones.unet import UNet

__all__ = ["Backbone", "ResNet", "UNet"]
