"""The discriminator of Pix2Pix (Isola et al. 2017): each logit sees a patch of 70x70 pixels."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from nibkit.errors import UserError
from nibkit.registry import register_discriminator

LEAK = 0.2  # slope of the leaky ReLU
STD = 0.02  # of the first weights


@register_discriminator("patchgan")
class PatchGAN(nn.Module):
    """Strided 4x4 convolutions with batch norm; 2.77 M weights as published, for 6 channels.

    Args:
        in_channels: of condition and image.
        width: 64 as published; doubles with every layer, up to 8 times.
        layers: that halve the image, 3 as published.
    """

    def __init__(self, in_channels: int, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        if layers < 1:
            raise UserError(f"discriminator.layers={layers} is too few; use at least 1 (3 as published)")
        self.in_channels = in_channels
        widths = [width * min(2**number, 8) for number in range(layers + 1)]
        parts = [nn.Sequential(nn.Conv2d(in_channels, width, 4, 2, 1), nn.LeakyReLU(LEAK))]
        for number, (before, after) in enumerate(pairwise(widths), start=1):
            stride = 2 if number < layers else 1
            parts.append(
                nn.Sequential(
                    nn.Conv2d(before, after, 4, stride, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(LEAK)
                )
            )
        parts.append(nn.Sequential(nn.Conv2d(widths[-1], 1, 4, 1, 1)))
        self.parts = nn.ModuleList(parts)
        self.apply(_begin)

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """Return one scale: the features of every layer, and the logits ``[B, 1, h, w]`` last."""
        features: list[Tensor] = []
        for part in self.parts:
            x = part(x)
            features.append(x)
        return [features]


def _begin(layer: nn.Module) -> None:
    """Give a layer the published first weights: N(0, .02), of batch norms N(1, .02)."""
    if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 0 if isinstance(layer, nn.Conv2d) else 1, STD)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
