"""Contrast: a gray image shows a network what the colour image shows it (Xia et al. 2018).

    L_contrast = mean (VGG(g, g, g) - VGG(x))^2,   VGG up to conv4_1, weight 1e-7 as published

The published weight is meant for a VGG that takes BGR of 0 to 255 less the mean, as Caffe's does, so its features are
large. Torchvision's takes RGB divided by ImageNet's standard deviation as well. Without biases, the former's input
would make features 255 * .226 = 57.6 times as large as the latter's, .226 being the mean of the three standard
deviations. We scale by that, so that the published weight keeps its meaning; this is our reading, not the authors'.
"""

from __future__ import annotations

from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nibkit.precision import widened
from nibkit.vgg import STD

SCALE = 255 * fmean(STD)  # from features of torchvision's input to those of 0 to 255
SIZE = 224  # pixels, what VGG was trained with


class Contrast(nn.Module):
    """Mean squared error between the features of a gray and of a colour image.

    Args:
        features: from images ``[B, 3, H, W]`` in [-1, 1] to features, frozen; see :func:`nibkit.vgg.vgg_features`.
        size: that both are resized to, pixels, square, as published; None: as they are.
    """

    def __init__(self, features: nn.Module, size: int | None = SIZE) -> None:
        super().__init__()
        self.features, self.size = features, size

    def forward(self, gray: Tensor, image: Tensor) -> Tensor:
        """Return the loss; its gradient reaches ``gray`` only.

        Args:
            gray: ``[B, 1, H, W]`` in [-1, 1].
            image: ``[B, 3, H, W]`` in [-1, 1].
        """
        with torch.no_grad():
            wanted = self._features_of(image)
        return SCALE**2 * F.mse_loss(self._features_of(gray.expand(-1, 3, -1, -1)), wanted)

    def _features_of(self, image: Tensor) -> Tensor:
        """Return the features ``[B, C, H', W']`` of the resized image, float32 at any precision."""
        if self.size is not None:
            image = F.interpolate(image, (self.size, self.size), mode="bilinear", antialias=False)
        features: Tensor = self.features(image)
        return widened(features)
