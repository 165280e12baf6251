"""The discriminator of SPADE (Park et al. 2019): PatchGANs with spectral norm, at several sizes of the image."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from nibkit.errors import UserError
from nibkit.registry import register_discriminator
from nibkit.spectral_norm import spectral_norm

LEAK = 0.2  # slope of the leaky ReLU
GAIN = 0.02  # of Xavier's normal distribution


class Scale(nn.Module):
    """One of the sizes; arguments as of :class:`Multiscale`."""

    def __init__(self, in_channels: int, width: int, layers: int) -> None:
        super().__init__()
        widths = [width * min(2**number, 8) for number in range(layers)]
        parts = [nn.Sequential(_begun(nn.Conv2d(in_channels, width, 4, 2, 2)), nn.LeakyReLU(LEAK))]
        for number, (before, after) in enumerate(pairwise(widths), start=1):
            conv = _begun(nn.Conv2d(before, after, 4, 1 if number == layers - 1 else 2, 2, bias=False))
            parts.append(nn.Sequential(spectral_norm(conv), nn.InstanceNorm2d(after), nn.LeakyReLU(LEAK)))
        parts.append(nn.Sequential(_begun(nn.Conv2d(widths[-1], 1, 4, 1, 2))))
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of every layer, the logits ``[B, 1, h, w]`` last."""
        features: list[Tensor] = []
        for part in self.parts:
            x = part(x)
            features.append(x)
        return features


@register_discriminator("multiscale")
class Multiscale(nn.Module):
    """PatchGANs with spectral and instance norm; 5.60 M weights as published, for 39 channels.

    Args:
        in_channels: of condition and image.
        width: 64 as published; doubles with every layer, up to 8 times.
        layers: before the logits, 4 as published; the last of them does not halve.
        scales: 2 as published, each of half the size.
    """

    independent = True  # instance norm looks at one image

    def __init__(self, in_channels: int, width: int = 64, layers: int = 4, scales: int = 2) -> None:
        super().__init__()
        if layers < 2 or scales < 1:
            raise UserError(
                f"discriminator.layers={layers} and discriminator.scales={scales} must be at least 2 and 1 "
                "(4 and 2 as published)"
            )
        self.in_channels = in_channels
        self.scales = nn.ModuleList(Scale(in_channels, width, layers) for _ in range(scales))

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """Return the features of every scale, the full size first."""
        features: list[list[Tensor]] = []
        for number, scale in enumerate(self.scales):
            if number:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            features.append(scale(x))
        return features


def _begun(layer: nn.Conv2d) -> nn.Conv2d:
    """Give a convolution the published first weights."""
    nn.init.xavier_normal_(layer.weight, GAIN)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
