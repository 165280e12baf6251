"""The generator: one look at the image, at several distances at once."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nibkit.backbones import Backbone
from nibkit.registry import register_backbone


@register_backbone("petals")
class Petals(Backbone):
    """Dilated 3x3 convolutions side by side, the petals, around a first layer that is the NIB.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the answer.
        width: channels of the features.
        reaches: how many pixels each petal looks far.
        nib: the config group ``nib``.
        padding: ``extend`` or ``zeros``.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 16,
        reaches: Sequence[int] = (1, 2, 4),
        *,
        nib: Mapping[str, Any],
        padding: str = "extend",
    ) -> None:
        super().__init__(in_channels, out_channels, nib, padding)
        self.margin = 1 + max(reaches)  # how far the answer at a pixel depends on others
        self.stem = self.make_stem(width, kernel_size=3)  # with or without NIB, as the config says
        self.petals = nn.ModuleList(
            # a kernel of 3 whose outer taps lie `reach` pixels off is padded as one of 2 * reach + 1
            nn.Conv2d(width, width, 3, dilation=reach, **self.conv_padding(2 * reach + 1))
            for reach in reaches
        )
        self.join = nn.Conv2d(width * len(reaches), out_channels, 1)

    def body(self, image: Tensor, origin: Tensor) -> Tensor:
        """Map the extended image to an answer of the same size; the base class crops it."""
        seen = self.stem(image, origin).relu()
        answer: Tensor = self.join(torch.cat([petal(seen).relu() for petal in self.petals], dim=1))
        return answer
