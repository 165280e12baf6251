"""A residual network that works on 2x2 pixels at a time: four times as fast as one at full size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from nibkit.backbones.base import Backbone
from nibkit.backbones.resnet import ResidualBlock
from nibkit.color import luminance
from nibkit.errors import UserError
from nibkit.registry import register_backbone


@register_backbone("subpixel")
class Subpixel(Backbone):
    """What is to be added to the image, by residual blocks at half the size whose channels become 2x2 pixels.

    It begins as the image itself: its luminance where one channel is wanted, repeated where several are. The pixels
    of each 2x2 have weights of their own: a constant image gives an answer of period 2, with or without NIB.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the answer.
        width: channels at half the size.
        blocks: number of residual blocks; each widens the view by 8 pixels.
        nib: the config group ``nib``.
        padding: ``extend`` or ``zeros``.
    """

    multiple = 2

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 32,
        blocks: int = 6,
        *,
        nib: Mapping[str, Any],
        padding: str = "extend",
    ) -> None:
        super().__init__(in_channels, out_channels, nib, padding)
        if width < 1 or blocks < 1:
            raise UserError(f"backbone.width={width} and backbone.blocks={blocks} must be at least 1")
        self.margin = 4 * blocks + 5
        self.stem = self.make_stem(width, kernel_size=6, stride=2, padding=2)  # 3x3 of 2x2 pixels each
        self.blocks = nn.Sequential(*(ResidualBlock(width, self.conv_padding(3)) for _ in range(blocks)))
        self.tail = nn.Conv2d(width, 4 * out_channels, 3, **self.conv_padding(3))
        self.shuffle = nn.PixelShuffle(2)
        self._begin_as_identity()

    def _begin_as_identity(self) -> None:
        """Let the blocks pass the features on, and the answer be little more than the image."""
        for block in self.blocks:
            nn.init.zeros_(block.conv2.weight)  # type: ignore[arg-type,union-attr]
            nn.init.zeros_(block.conv2.bias)  # type: ignore[arg-type,union-attr]
        self.tail.weight.data.mul_(0.1)

    def extension(self) -> int:
        """Return the full margin; none in training, where the convolutions replicate their border."""
        return 0 if self.training else super().extension()

    def body(self, image: Tensor, origin: Tensor) -> Tensor:
        """Map the extended image to an answer of the same size."""
        added: Tensor = self.shuffle(self.tail(self.blocks(self.stem(image, origin))))
        return self._as_many_channels(image) + added

    def _as_many_channels(self, image: Tensor) -> Tensor:
        """Return the image with ``out_channels``: as it is, its luminance, or that repeated."""
        if self.out_channels == self.in_channels:
            return image
        gray = luminance(image) if self.in_channels == 3 else image.mean(dim=1, keepdim=True)
        return gray.expand(-1, self.out_channels, -1, -1)
