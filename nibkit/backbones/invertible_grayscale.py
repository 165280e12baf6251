"""The networks of invertible grayscale (Xia et al. 2018): an encoder that hides colour in gray, and its decoder.

No biases, no normalization. At width 64 the encoder has 6.675 M weights and sees 115x115 pixels, the decoder .739 M
and 37x37.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nibkit.backbones.base import Backbone
from nibkit.data.images import LUMINANCE
from nibkit.errors import UserError, choose
from nibkit.nib import NIB
from nibkit.quantize import to_8_bit
from nibkit.registry import build_backbone, register_backbone

PUBLISHED_WIDTH = 64
STARTS = ("identity", "normal")
QUIET = 0.2  # of the usual weights


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), 3x3, without biases.

    Args:
        width: channels.
        conv: arguments of the convolutions.
    """

    def __init__(self, width: int, conv: Mapping[str, Any]) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(width, width, 3, **conv), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, **conv)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, width, H, W]`` to the same shape."""
        answer: Tensor = x + self.residual(x)
        return answer


class _GrayscaleNetwork(Backbone):
    """What encoder and decoder share: convolutions without bias, the first weights, a border that is replicated."""

    def __init__(
        self, in_channels: int, out_channels: int, width: int, start: str, *, nib: Mapping[str, Any], padding: str
    ) -> None:
        super().__init__(in_channels, out_channels, nib, padding)
        if width < 2:
            raise UserError(f"width={width} of an invertible grayscale network must be at least 2")
        self.width, self.start = width, choose("start of an invertible grayscale network", start, STARTS)

    def conv_padding(self, kernel_size: int) -> dict[str, Any]:
        """Return the arguments of a convolution of this body: its padding, and no bias."""
        return super().conv_padding(kernel_size) | {"bias": False}

    def extension(self) -> int:
        """Return the full margin; none in training, where the convolutions replicate their border."""
        return 0 if self.training else super().extension()

    def draw_weights(self, quiet: Sequence[nn.Module]) -> None:
        """Draw the first weights, ``normal`` or ``identity``; the ``quiet`` layers then begin small."""
        convolutions = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        if self.start == "normal":
            for layer in convolutions:
                nn.init.normal_(layer.weight, std=0.02 * (PUBLISHED_WIDTH / self.width) ** 0.5)
            return
        for layer in convolutions:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        for block in (module for module in self.modules() if isinstance(module, ResidualBlock)):
            nn.init.zeros_(block.residual[2].weight)  # type: ignore[arg-type]
        for module in quiet:
            module.weight.data.mul_(QUIET)  # type: ignore[operator]
        self.read_luminance()

    def read_luminance(self) -> None:
        """Let the first two features be luminance and its negative: what lies on either side of 0 passes the ReLU."""
        layer = self.stem.conv if isinstance(self.stem, NIB) else self.stem
        weights: Tensor = layer.weight.data  # type: ignore[union-attr,assignment]
        shares = torch.tensor(LUMINANCE if self.in_channels == 3 else [1 / self.in_channels] * self.in_channels)
        halves = 2 if self.nib.get("form", "symmetric") in ("symmetric", "impulse") else 1  # I + N and I - N
        weights[:2] = 0
        weights[0, : halves * self.in_channels, 1, 1] = (shares / halves).repeat(halves)
        weights[1] = -weights[0]

    def convs(self, first: int, width: int, count: int) -> list[nn.Module]:
        """Return ``count`` 3x3 convolutions with ReLU; the first changes the width."""
        layers: list[nn.Module] = []
        for index in range(count):
            layers += [nn.Conv2d(first if index == 0 else width, width, 3, **self.conv_padding(3))]
            layers += [nn.ReLU(inplace=True)]
        return layers

    def blocks(self, width: int, count: int) -> list[nn.Module]:
        """Return ``count`` residual blocks."""
        return [ResidualBlock(width, self.conv_padding(3)) for _ in range(count)]


def show(weights: Tensor) -> None:
    """Let every answer, ``[answers, features]``, begin with the difference of the first two features."""
    weights[:, 0], weights[:, 1] = 1, -1


@register_backbone("grayscale_encoder")
class GrayscaleEncoder(_GrayscaleNetwork):
    """Colour to gray: an hourglass with two stride-2 levels and additive skips.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the answer.
        width: channels at full size; 2x and 4x below; 64 as published.
        start: ``identity`` (learns fast: the answer begins near the image's luminance) or ``normal``, N(0, .02) as
            published; in narrower networks the numbers are larger, so that the features vary as much.
        nib: the config group ``nib``.
        padding: ``extend`` or ``zeros``.
    """

    margin = 58  # views reach 57 to 60 pixels to the left, 54 to 57 to the right; an image begins at the first phase
    multiple = 4

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        width: int = 16,
        start: str = "identity",
        *,
        nib: Mapping[str, Any],
        padding: str = "extend",
    ) -> None:
        super().__init__(in_channels, out_channels, width, start, nib=nib, padding=padding)
        conv = self.conv_padding(3)
        self.stem = self.make_stem(width, kernel_size=3)
        self.enter = nn.Sequential(nn.ReLU(inplace=True), *self.blocks(width, 2))
        self.down1 = self._down(width)
        self.down2 = self._down(2 * width)
        self.bottom = nn.Sequential(*self.blocks(4 * width, 4))
        self.up2 = nn.Sequential(*self.convs(4 * width, 2 * width, 2))
        self.up1 = nn.Sequential(*self.convs(2 * width, width, 2))
        tail = nn.Conv2d(width, out_channels, 3, **conv)
        self.leave = nn.Sequential(*self.blocks(width, 2), tail, nn.Tanh())
        self.draw_weights((self.up2[2], self.up1[2], tail))
        if start == "identity":
            show(tail.weight.data[..., 1, 1])

    def _down(self, width: int) -> nn.Sequential:
        """Return a stride-2 convolution to twice the width and one more."""
        stride = nn.Conv2d(width, 2 * width, 3, stride=2, **self.conv_padding(3))
        return nn.Sequential(stride, *self.convs(2 * width, 2 * width, 1))

    def body(self, image: Tensor, origin: Tensor) -> Tensor:
        """Map the extended image to an answer of the same size, in [-1, 1]."""
        x0 = self.enter(self.stem(image, origin))
        x1 = self.down1(x0)
        x = self.bottom(self.down2(x1))
        x = self.up2(F.interpolate(x, scale_factor=2.0, mode="nearest")) + x1
        x = self.up1(F.interpolate(x, scale_factor=2.0, mode="nearest")) + x0
        answer: Tensor = self.leave(x)
        return answer


@register_backbone("grayscale_decoder")
class GrayscaleDecoder(_GrayscaleNetwork):
    """Gray to colour: eight residual blocks, all at full size.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the answer.
        width: channels of the features, 4x in the last layer but one; 64 as published.
        blocks: number of residual blocks; each widens the view by 4 pixels.
        start: ``identity`` (learns fast: the answer begins near the image's luminance) or ``normal``, N(0, .02) as
            published; in narrower networks the numbers are larger, so that the features vary as much.
        nib: the config group ``nib``.
        padding: ``extend`` or ``zeros``.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 3,
        width: int = 16,
        blocks: int = 8,
        start: str = "identity",
        *,
        nib: Mapping[str, Any],
        padding: str = "extend",
    ) -> None:
        super().__init__(in_channels, out_channels, width, start, nib=nib, padding=padding)
        if blocks < 1:
            raise UserError(f"blocks={blocks} of an invertible grayscale decoder must be at least 1")
        self.margin = 2 * blocks + 2
        self.stem = self.make_stem(width, kernel_size=3)
        wide = nn.Conv2d(width, 4 * width, 3, **self.conv_padding(3))
        tail = nn.Conv2d(4 * width, out_channels, 1, bias=False)
        self.network = nn.Sequential(nn.ReLU(inplace=True), *self.blocks(width, blocks), wide, tail, nn.Tanh())
        self.draw_weights((tail,))
        if start == "identity":
            show(wide.weight.data[:1, :, 1, 1])
            tail.weight.data[:, 0] = 1

    def body(self, image: Tensor, origin: Tensor) -> Tensor:
        """Map the extended image to an answer of the same size, in [-1, 1]."""
        answer: Tensor = self.network(self.stem(image, origin))
        return answer


def build_half(name: str, spec: Mapping[str, Any], nib: Mapping[str, Any]) -> Backbone:
    """Build the ``encoder`` or ``decoder`` of a pair; an error says which of them is wrong."""
    try:
        return build_backbone(spec, nib)
    except UserError as error:
        raise UserError(f"backbone.{name}: {error}") from error


@register_backbone("invertible_grayscale")
class InvertibleGrayscale(Backbone):
    """A pair: ``encode`` hides the colours of an image in a gray one, ``decode`` restores them.

    The pair is one backbone, so that it is trained, stored and judged like any other; its answer is the image that
    is restored from 8-bit gray. Both halves can be any registered backbone.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the restored image, as many.
        encoder: ``name`` and arguments of a backbone with one channel out; or arguments of ``grayscale_encoder``.
        decoder: of a backbone with one channel in; or arguments of ``grayscale_decoder``.
        decoder_nib: likewise ``nib`` of the decoder; none by default: a gray that hides colour is not flat.
        nib: the config group ``nib``, of the encoder.
        padding: ``extend`` or ``zeros``.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        encoder: Mapping[str, Any] | None = None,
        decoder: Mapping[str, Any] | None = None,
        decoder_nib: Mapping[str, Any] | None = None,
        *,
        nib: Mapping[str, Any],
        padding: str = "extend",
    ) -> None:
        super().__init__(in_channels, out_channels, nib, padding)
        for key, value in {"encoder": encoder, "decoder": decoder, "decoder_nib": decoder_nib}.items():
            if value is not None and not isinstance(value, Mapping):
                raise UserError(f"backbone.{key}={value} has no keys; give options as {{KEY: VALUE}}, or null")
        first = {"name": "grayscale_encoder", "padding": padding, **(encoder or {})}
        second = {"name": "grayscale_decoder", "padding": padding, **(decoder or {})}
        self.encoder = build_half("encoder", first | {"in_channels": in_channels, "out_channels": 1}, nib)
        second |= {"in_channels": 1, "out_channels": out_channels}
        self.decoder = build_half("decoder", second, decoder_nib or {"form": "none"})
        self.margin = self.encoder.margin + self.decoder.margin  # that of a tile; each half extends by itself
        self.multiple = math.lcm(self.encoder.multiple, self.decoder.multiple)

    def encode(self, image: Tensor, origin: Tensor | None = None) -> Tensor:
        """Return the gray ``[B, 1, H, W]`` of ``image`` ``[B, C, H, W]``, both in [-1, 1]; not rounded to 8 bit."""
        gray: Tensor = self.encoder(image, origin)
        return gray

    def decode(self, gray: Tensor, origin: Tensor | None = None) -> Tensor:
        """Return the colours ``[B, C, H, W]`` of a gray ``[B, 1, H, W]``, both in [-1, 1].

        A decoder with NIB reads the noise at ``origin``: where the encoder has read it, or it cannot know the texture.
        """
        restored: Tensor = self.decoder(gray, origin)
        return restored

    def forward(self, image: Tensor, origin: Tensor | None = None) -> Tensor:
        """Return what is restored of ``image`` once its gray has been a file of 8 bit."""
        return self.decode(to_8_bit(self.encode(image, origin)), origin)
