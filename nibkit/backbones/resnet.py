"""The residual network of the paper's analysis (Table 1): receptive field 41x41."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from nibkit.backbones.base import Backbone
from nibkit.errors import UserError
from nibkit.registry import register_backbone


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), 3x3, without normalization.

    Args:
        width: channels.
        padding: arguments of the convolutions. Unpadded ones trim the image by two pixels on each side, and
            the skip alike; in training the block replicates its border by two instead and keeps the size.
    """

    def __init__(self, width: int, padding: Mapping[str, Any]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, **padding)
        self.conv2 = nn.Conv2d(width, width, 3, **padding)
        self.relu = nn.ReLU(inplace=True)
        self.trims = padding["padding"] == 0

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, width, H, W]`` to the same size, or trimmed by two pixels on each side."""
        extended = F.pad(x, (2, 2, 2, 2), mode="replicate") if self.trims and self.training else x
        residual: Tensor = self.conv2(self.relu(self.conv1(extended)))
        return residual + (x[..., 2:-2, 2:-2] if self.trims and not self.training else x)


@register_backbone("resnet")
class ResNet(Backbone):
    """1x1 convolution (the NIB), residual blocks of two 3x3 convolutions, 1x1 convolution.

    Ten blocks see 41x41 pixels. With ``padding="extend"`` the convolutions are unpadded and trim the
    extension as they go, which costs less than to compute and crop it. To extend small training crops would
    cost nearly as much again as the crops: in training each block replicates its own border instead.

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

    def extension(self) -> int:
        """Return the full margin; none in training, where the blocks replicate their border."""
        return 0 if self.training else super().extension()

    def body(self, image: Tensor, origin: Tensor) -> Tensor:
        """Map the extended image to the answer without the margin; in training to one of the same size."""
        answer: Tensor = self.tail(self.blocks(self.stem(image, origin)))
        return answer
