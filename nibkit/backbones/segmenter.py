"""Networks that name the class of every pixel: a small U-Net of our own, and torchvision's.

They judge pictures and make none, so they have no NIB. Their first weights are random; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nibkit.backbones.base import Backbone
from nibkit.errors import UserError, choose
from nibkit.registry import register_backbone

# pixels per value of the coarsest features
TORCHVISION = {
    "lraspp_mobilenet_v3_large": 16,
    "deeplabv3_mobilenet_v3_large": 16,
    "deeplabv3_resnet50": 8,
    "deeplabv3_resnet101": 8,
    "fcn_resnet50": 8,
    "fcn_resnet101": 8,
}
DOWNS = 3  # how often the small U-Net halves the image


def conv_norm(first: int, width: int) -> nn.Sequential:
    """Return a 3x3 convolution with batch norm and ReLU."""
    conv = nn.Conv2d(first, width, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


class SmallUNet(nn.Module):
    """Three halvings and back, with skips: .44 M weights at width 16, which a CPU trains in minutes.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        width: channels at full size; they double with every halving.
    """

    def __init__(self, in_channels: int, out_channels: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**number for number in range(DOWNS + 1)]
        pairs = list(pairwise(widths))
        self.enter = nn.Sequential(conv_norm(in_channels, width), conv_norm(width, width))
        self.downs = nn.ModuleList(nn.Sequential(conv_norm(a, b), conv_norm(b, b)) for a, b in pairs)
        self.ups = nn.ModuleList(conv_norm(a + b, a) for a, b in reversed(pairs))
        self.tail = nn.Conv2d(width, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``[B, K, H, W]`` of an image whose sides are multiples of 8."""
        skips = [self.enter(image)]
        for down in self.downs:
            skips.append(down(F.max_pool2d(skips[-1], 2)))
        x = skips.pop()
        for up in self.ups:
            larger = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = up(torch.cat((skips.pop(), larger), dim=1))
        logits: Tensor = self.tail(x)
        return logits


@register_backbone("segmenter")
class SegmentationNetwork(Backbone):
    """Logits of the classes of every pixel, at the image's size.

    Args:
        in_channels: channels of the image in [-1, 1]; torchvision's networks take 3.
        out_channels: classes.
        architecture: ``unet``, or a segmentation network of torchvision by its name there.
        width: channels at full size; of ``unet`` alone.
        nib: the config group ``nib``, which must be ``none``.

    Attributes:
        smallest_batch: images that a training step needs: some networks normalise a single value per image.
    """

    tileable = False

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        architecture: str = "unet",
        width: int = 16,
        *,
        nib: Mapping[str, Any],
    ) -> None:
        super().__init__(in_channels, out_channels, nib, "zeros")
        if nib.get("form", "none") != "none":
            raise UserError(f"a segmenter makes no pictures and has no NIB, but nib.form={nib['form']}; use nib=none")
        choose("backbone.architecture", architecture, ("unet", *TORCHVISION))
        self.smallest_batch = 2 if architecture.startswith("deeplabv3") else 1
        if architecture == "unet":
            if width < 1:
                raise UserError(f"backbone.width={width} must be at least 1")
            self.multiple = self.coarsest = 2**DOWNS
            self.network: nn.Module = SmallUNet(in_channels, out_channels, width)
        else:
            self.coarsest = TORCHVISION[architecture]
            self.network = self._of_torchvision(architecture)

    def _of_torchvision(self, architecture: str) -> nn.Module:
        if self.in_channels != 3:
            raise UserError(
                f"backbone.architecture={architecture} takes images of 3 channels, but "
                f"backbone.in_channels={self.in_channels}; use 3, or architecture=unet"
            )
        from torchvision.models import get_model  # type: ignore[import-untyped]  # a second, for these alone

        network: nn.Module = get_model(architecture, weights=None, weights_backbone=None, num_classes=self.out_channels)
        return network

    def body(self, image: Tensor, origin: Tensor) -> Tensor:
        """Return the logits of an image; ``origin`` is for the NIB that a segmenter has not."""
        answer = self.network(image)
        logits: Tensor = answer["out"] if isinstance(answer, dict) else answer
        return logits
