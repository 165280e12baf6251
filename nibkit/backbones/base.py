"""The contract of a backbone, and how the image's border is kept from breaking flatness.

    image [B, C, H, W] in [-1, 1], origin [B, 2]  ->  output [B, out_channels, H, W], unbounded

Padding is a confound of flatness: zeros around a constant image leak in over the whole receptive field
and hide the effect that is studied. ``padding="extend"`` extends the image once, by replication, by the
reach of the receptive field, lets the noise field continue, and crops: without NIB a constant image
then gives a constant output. ``padding="zeros"`` pads every convolution, as published networks do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nibkit.errors import UserError, choose
from nibkit.nib import make_stem


class Backbone(nn.Module):
    """Base of all backbones: extends the image, places the NIB first, crops the answer.

    A subclass sets ``margin`` and ``multiple``, makes its first layer by :meth:`make_stem` and its other
    convolutions with ``**self.conv_padding(kernel_size)``, and implements :meth:`body`.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the answer.
        nib: the config group ``nib``.
        padding: ``extend`` or ``zeros``.

    Attributes:
        margin: how many pixels beyond the image its answer can depend on.
        multiple: sizes that the body takes are multiples of this.
        trims: the body's convolutions are unpadded and eat the margin themselves.
        coarsest: pixels per value of the coarsest features that are normalised by the statistics of a batch.
        tileable: the answer depends on the margin alone, so that a tile with its surroundings has the answer of the
            whole; not where the statistics of the whole image enter.
    """

    margin: int = 0
    multiple: int = 1
    trims: bool = False
    coarsest: int = 1
    tileable: bool = True

    def __init__(self, in_channels: int, out_channels: int, nib: Mapping[str, Any], padding: str = "extend") -> None:
        super().__init__()
        if in_channels < 1 or out_channels < 1:
            raise UserError("backbone.in_channels and backbone.out_channels must be at least 1")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.padding = choose("backbone.padding", padding, ("extend", "zeros"))
        self.nib = dict(nib)

    def conv_padding(self, kernel_size: int) -> dict[str, Any]:
        """Return the padding arguments of a convolution of this body."""
        if self.padding == "zeros":
            return {"padding": kernel_size // 2}
        return {"padding": 0} if self.trims else {"padding": kernel_size // 2, "padding_mode": "replicate"}

    def make_stem(self, out_channels: int, kernel_size: int, **conv: Any) -> nn.Module:
        """Make the first layer, with or without NIB; called as ``stem(image, origin)``.

        Args:
            out_channels: channels of its features.
            kernel_size: of the convolution it replaces.
            **conv: stride, and a padding other than :meth:`conv_padding`.
        """
        arguments = self.conv_padding(kernel_size) | conv
        return make_stem(self.in_channels, out_channels, kernel_size, self.nib, **arguments)

    def body(self, image: Tensor, origin: Tensor) -> Tensor:
        """Map an extended image to its answer; a body that trims returns it without the margin."""
        raise NotImplementedError

    def extension(self) -> int:
        """Return by how many pixels the image is extended on each side."""
        return -(-self.margin // self.multiple) * self.multiple

    def forward(self, image: Tensor, origin: Tensor | None = None) -> Tensor:
        """Return the raw answer ``[B, out_channels, H, W]`` for ``image`` ``[B, C, H, W]`` in [-1, 1].

        Args:
            image: of any size.
            origin: absolute (y, x) of each image's top left pixel in the noise field, ``[B, 2]``.
        """
        batch, _, height, width = image.shape
        image = image.to(next(self.parameters()).dtype)
        if origin is None:
            origin = torch.zeros(batch, 2, dtype=torch.int64, device=image.device)
        reach = self.extension() if self.padding == "extend" else 0
        multiple = self.multiple
        # by division of what is positive: inductor knows no remainder of free sizes, ONNX rounds negative ones to 0
        bottom, right = (reach + (n + multiple - 1) // multiple * multiple - n for n in (height, width))
        if reach or multiple > 1:  # asked of the network alone: sizes are free in an exported graph
            image = F.pad(image, (reach, right, reach, bottom), mode="replicate")
        return self.answer_extended(image, origin, reach)[..., :height, :width]

    def answer_extended(self, image: Tensor, origin: Tensor, reach: int) -> Tensor:
        """Return the raw answer ``[B, out_channels, H, W]`` of an image that has its surroundings around it.

        A tile of a larger image, given with its true neighbours, so has the answer of the whole image there.

        Args:
            image: ``[B, C, H + 2 reach, W + 2 reach]`` in [-1, 1], sides multiples of :attr:`multiple`.
            origin: absolute (y, x) of the top left pixel inside the surroundings, ``[B, 2]``; off a multiple of
                :attr:`multiple` a network with strides answers in another phase.
            reach: width of the surroundings, pixels: :meth:`extension`, or 0 for none.
        """
        answer = self.body(image, origin - reach)
        start = 0 if answer.shape[-1] < image.shape[-1] else reach  # 0: the body has trimmed the margin
        height, width = image.shape[-2] - 2 * reach, image.shape[-1] - 2 * reach
        return answer[..., start : start + height, start : start + width]
