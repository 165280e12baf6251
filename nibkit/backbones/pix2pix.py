"""The generator of Pix2Pix (Isola et al. 2017): a U-Net that shrinks the image to a single pixel.

Its randomness is dropout alone, which stays on when it is used, and so do the statistics of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nibkit.backbones.base import Backbone
from nibkit.draws import Dropout
from nibkit.errors import UserError
from nibkit.registry import register_backbone

LEAK = 0.2  # slope of the leaky ReLU on the way down
STD = 0.02  # of the first weights


@register_backbone("pix2pix")
class Pix2Pix(Backbone):
    """U-Net of strided 4x4 convolutions with skips at every size; 54.41 M weights as published.

    Args:
        in_channels: channels of the image, or planes of the label map.
        out_channels: channels of the picture, in [-1, 1] by tanh.
        width: 64 as published; the deepest layers have 8 times as many channels.
        downs: how often the image is halved, 8 as published: sizes are multiples of 2^downs.
        dropout: share of features dropped in the decoder's layers of 8 ``width``, but for the first and the last.
        live: dropout and the statistics of the batch stay on when the network is used, as published.
        nib: the config group ``nib``.
    """

    tileable = False

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        downs: int = 8,
        dropout: float = 0.5,
        live: bool = True,
        *,
        nib: Mapping[str, Any],
    ) -> None:
        super().__init__(in_channels, out_channels, nib, "zeros")
        if downs < 5:
            raise UserError(f"backbone.downs={downs} is too few; use at least 5 (8 as published)")
        if not 0 <= dropout < 1:
            raise UserError(f"backbone.dropout={dropout} is out of range; use at least 0 and below 1")
        self.multiple, self.coarsest = 2**downs, 2 ** (downs - 1)
        self.dropout, self.live = dropout, live
        widths = [width * min(2**number, 8) for number in range(downs)]
        pairs = list(pairwise(widths))
        self.stem = self.make_stem(width, kernel_size=4, stride=2, padding=1, bias=False)
        self.downs = nn.ModuleList(self._down(*pair, last=number == downs - 2) for number, pair in enumerate(pairs))
        self.ups = nn.ModuleList(
            self._up((1 if number == downs - 2 else 2) * after, before, dropped=3 <= number < downs - 2)
            for number, (before, after) in reversed(list(enumerate(pairs)))
        )
        self.tail = nn.ConvTranspose2d(2 * width, out_channels, 4, stride=2, padding=1)
        self.apply(_begin)

    def _norm(self, channels: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(channels, track_running_stats=not self.live)

    def _down(self, before: int, after: int, last: bool) -> nn.Sequential:
        """Return a halving layer; the last, whose answer may be a single pixel, has no statistics."""
        conv = nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False)
        return nn.Sequential(nn.LeakyReLU(LEAK), conv, *([] if last else [self._norm(after)]))

    def _up(self, before: int, after: int, dropped: bool) -> nn.Sequential:
        conv = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)
        drop = [Dropout(self.dropout, self.live)] if dropped else []
        return nn.Sequential(nn.ReLU(), conv, self._norm(after), *drop)

    def body(self, image: Tensor, origin: Tensor) -> Tensor:
        """Return the picture of an image whose sides are multiples of 2^downs."""
        skips = [self.stem(image, origin)]
        for down in self.downs:
            skips.append(down(skips[-1]))
        x = skips.pop()
        for up in self.ups:
            x = torch.cat((skips.pop(), up(x)), dim=1)
        return torch.tanh(self.tail(F.relu(x)))


def _begin(layer: nn.Module) -> None:
    """Give a layer the published first weights: N(0, .02), of batch norms N(1, .02)."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0, STD)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1, STD)
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d) and layer.bias is not None:
        nn.init.zeros_(layer.bias)
