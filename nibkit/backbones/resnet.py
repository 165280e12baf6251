"""The residual network of the paper's analysis (Table 1): receptive field 41x41."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from nibkit.backbones.base import Backbone
from nibkit.errors import UserError
from nibkit.registry import register_backbone


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), 3x3, without normalization.

    Unpadded convolutions shrink the image by two pixels on each side; the skip is cropped alike.
    """

    def __init__(self, width: int, padding: Mapping[str, Any]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, **padding)
        self.conv2 = nn.Conv2d(width, width, 3, **padding)
        self.relu = nn.ReLU(inplace=True)
        self.trim = 2 - 2 * int(padding["padding"])

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, width, H, W]`` to ``[B, width, H - 2 trim, W - 2 trim]``."""
        residual: Tensor = self.conv2(self.relu(self.conv1(x)))
        height, width = residual.shape[-2:]
        return residual + x[..., self.trim : self.trim + height, self.trim : self.trim + width]


@register_backbone("resnet")
class ResNet(Backbone):
    """1x1 convolution (the NIB), residual blocks of two 3x3 convolutions, 1x1 convolution.

    Ten blocks see 41x41 pixels. With ``padding="extend"`` the convolutions are unpadded and trim the
    extension as they go, which costs less than to compute and crop it.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the answer.
        width: channels of the features.
        blocks: number of residual blocks; each widens the receptive field by 8.
        nib: the config group ``nib``.
        padding: ``extend`` or ``zeros``.
    """

    trims = True

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 32,
        blocks: int = 10,
        *,
        nib: Mapping[str, Any],
        padding: str = "extend",
    ) -> None:
        super().__init__(in_channels, out_channels, nib, padding)
        if width < 1 or blocks < 1:
            raise UserError(f"backbone.width={width} and backbone.blocks={blocks} must be at least 1")
        self.margin = 2 * blocks
        self.stem = self.make_stem(width, kernel_size=1)
        self.blocks = nn.Sequential(*(ResidualBlock(width, self.conv_padding(3)) for _ in range(blocks)))
        self.tail = nn.Conv2d(width, out_channels, 1)

    def body(self, image: Tensor, origin: Tensor) -> Tensor:
        """Map the extended image to the answer without the margin."""
        answer: Tensor = self.tail(self.blocks(self.stem(image, origin)))
        return answer
