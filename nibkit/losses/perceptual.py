"""Perceptual loss (Johnson et al. 2016): a generated photograph shows VGG what the real one shows it.

    L = sum over k of w_k mean |VGG_k(fake) - VGG_k(real)|,   w = 1/32, 1/16, 1/8, 1/4, 1 at relu1_1 ... relu5_1

As in SPADE (Park et al. 2019), which takes VGG19 and a weight of 10.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nibkit.precision import widened
from nibkit.vgg import VggStages

WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)


class Perceptual(nn.Module):
    """Weighted distance of VGG's features.

    Args:
        features: VGG up to ``conv5_1``, frozen; see :func:`nibkit.vgg.vgg_features`.
    """

    def __init__(self, features: nn.Sequential) -> None:
        super().__init__()
        self.stages = VggStages(features)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Return the loss, a scalar; its gradient reaches ``fake`` only.

        Args:
            fake: ``[B, 3, H, W]`` in [-1, 1], sides of at least 16 pixels.
            real: the same of the real photographs.
        """
        with torch.no_grad():
            wanted = self.stages(real)
        distances = [F.l1_loss(widened(f), widened(r)) for f, r in zip(self.stages(fake), wanted, strict=True)]
        return torch.stack([weight * distance for weight, distance in zip(WEIGHTS, distances, strict=True)]).sum()
