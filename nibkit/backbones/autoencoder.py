"""The autoencoder of the paper's Figure 5: does the NIB harm the image?

The paper gives no layers. This one learns fast: all that is not inside a residual block is linear and begins
orthogonal, the blocks begin as the identity, and halving and doubling move pixels into channels and back. It so
starts as a linear transform of 4x4 pixels, and learns from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from nibkit.backbones.base import Backbone
from nibkit.backbones.resnet import ResidualBlock
from nibkit.errors import UserError
from nibkit.registry import register_backbone


@register_backbone("autoencoder")
class Autoencoder(Backbone):
    """Encoder to a quarter of the size, latent, mirrored decoder; no skip passes the latent.

    The pixels of each 4x4 have weights of their own in the decoder: a constant image gives an answer of period 4,
    which only training makes constant. In training nothing is extended and the convolutions replicate their border,
    which does not continue such a pattern: there a constant crop varies at its border, too.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the answer.
        width: channels at full size; 2x at half, 4x at a quarter.
        latent: channels of the latent, at a quarter; 16 ``in_channels`` would hold every pixel.
        blocks: residual blocks at half and at a quarter, in encoder and decoder alike.
        nib: the config group ``nib``.
        padding: ``extend`` or ``zeros``.
    """

    multiple = 4

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 16,
        latent: int = 32,
        blocks: int = 1,
        *,
        nib: Mapping[str, Any],
        padding: str = "extend",
    ) -> None:
        super().__init__(in_channels, out_channels, nib, padding)
        if width < 1 or latent < 1 or blocks < 1:
            raise UserError(
                f"backbone.width={width}, backbone.latent={latent} and backbone.blocks={blocks} must be at least 1"
            )
        # per block of encoder and decoder 2 rings of half and of quarter pixels; the last layer reaches into the
        # next 4x4 pixels, the first one pixel beyond them
        self.margin = 24 * blocks + 5
        half, quarter = 2 * width, 4 * width
        self.stem = self.make_stem(width, kernel_size=3)
        self.encoder = nn.Sequential(
            nn.Conv2d(width, half, 2, stride=2), *self._blocks(half, blocks),
            nn.Conv2d(half, quarter, 2, stride=2), *self._blocks(quarter, blocks),
            nn.Conv2d(quarter, latent, 1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(latent, quarter, 1), *self._blocks(quarter, blocks),
            nn.Conv2d(quarter, 4 * half, 1), nn.PixelShuffle(2), *self._blocks(half, blocks),
            nn.Conv2d(half, 4 * width, 1), nn.PixelShuffle(2),
        )  # fmt: skip
        self.tail = nn.Conv2d(width, out_channels, 3, **self.conv_padding(3))
        self._begin_linear()

    def _blocks(self, width: int, count: int) -> list[ResidualBlock]:
        return [ResidualBlock(width, self.conv_padding(3)) for _ in range(count)]

    def _begin_linear(self) -> None:
        """Make the linear layers orthogonal and the residual blocks the identity."""
        for layer in (*self.stem.modules(), *self.encoder, *self.decoder, self.tail):
            if isinstance(layer, ResidualBlock):
                nn.init.zeros_(layer.conv2.weight)
                nn.init.zeros_(layer.conv2.bias)  # type: ignore[arg-type]
            elif isinstance(layer, nn.Conv2d):
                nn.init.orthogonal_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def extension(self) -> int:
        """Return the full margin; none in training, where the convolutions replicate their border."""
        return 0 if self.training else super().extension()

    def encode(self, image: Tensor, origin: Tensor) -> Tensor:
        """Return the latent ``[B, latent, H/4, W/4]`` of an image whose sides are multiples of 4."""
        latent: Tensor = self.encoder(self.stem(image, origin))
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        """Return the answer ``[B, out_channels, H, W]`` to a latent."""
        answer: Tensor = self.tail(self.decoder(latent))
        return answer

    def body(self, image: Tensor, origin: Tensor) -> Tensor:
        """Map the extended image to an answer of the same size, by way of the latent alone."""
        return self.decode(self.encode(image, origin))
