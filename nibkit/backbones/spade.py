"""The SPADE generator (Park et al. 2019), which reads the label map again in every layer.

    x (1 + gamma(m)) + beta(m),   x normalised without parameters, m the label map at x's size

A *branch* is the two convolutions that turn the map into gamma and beta. Every branch, and the first convolution, read
the one-hot map itself, so that a NIB in the first convolution alone leaves all branches flat. ``nib_place`` says where
it goes:

    branches   in the first convolution and in every branch, noise of the size at which each reads the map (default)
    map        one NIB on the map at full size, whose features all of them read, shrunk
    first      in the first convolution alone, as a NIB is plugged into other networks

``python -m benchmarks nib_place`` compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nibkit.backbones.base import Backbone
from nibkit.errors import UserError, choose
from nibkit.nib import make_stem
from nibkit.registry import register_backbone
from nibkit.spectral_norm import spectral_norm

PLACES = ("branches", "map", "first")
LEAK = 0.2  # slope of the leaky ReLU
GAIN = 0.02  # of Xavier's normal distribution

Reader = Callable[[int, int], nn.Module]  # (channels, kernel size) -> a convolution that reads the label map


class LabelMap:
    """A batch of label maps that is read at several sizes, each made once.

    Args:
        planes: ``[B, C, H, W]``.
        origin: absolute (y, x) of the top left pixel in the noise field, ``[B, 2]``.
    """

    def __init__(self, planes: Tensor, origin: Tensor) -> None:
        self.planes, self.origin = planes, origin
        self._sizes: dict[tuple[int, int], Tensor] = {}

    def read(self, layer: nn.Module, size: tuple[int, int]) -> Tensor:
        """Return a layer's answer to the map at a size; its noise is that of the place at this size."""
        if size not in self._sizes:
            self._sizes[size] = F.interpolate(self.planes, size, mode="nearest")
        shrunk = self.planes.shape[-2] // size[0]
        features: Tensor = layer(self._sizes[size], self.origin.div(shrunk, rounding_mode="floor"))
        return features


class SpatialNorm(nn.Module):
    """Spatially adaptive normalization.

    Args:
        channels: of the features.
        reader: makes the branch's first convolution.
        hidden: channels inside the branch.
    """

    def __init__(self, channels: int, reader: Reader, hidden: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.shared = reader(hidden, 3)
        self.gamma_beta = convolution(hidden, 2 * channels, 3)  # side by side in one convolution

    def forward(self, x: Tensor, label: LabelMap) -> Tensor:
        """Return normalised features ``[B, C, h, w]``, modulated by the label map."""
        features = F.relu(label.read(self.shared, (x.shape[-2], x.shape[-1])))
        gamma, beta = self.gamma_beta(features).chunk(2, dim=1)
        modulated: Tensor = self.norm(x) * (1 + gamma) + beta
        return modulated


class SpadeBlock(nn.Module):
    """Residual block: twice SPADE, leaky ReLU, convolution; a SPADE and 1x1 shortcut where the channels change."""

    def __init__(self, before: int, after: int, reader: Reader, hidden: int) -> None:
        super().__init__()
        middle = min(before, after)
        self.norm1, self.norm2 = SpatialNorm(before, reader, hidden), SpatialNorm(middle, reader, hidden)
        self.conv1 = spectral_norm(convolution(before, middle, 3))
        self.conv2 = spectral_norm(convolution(middle, after, 3))
        self.shortcut: nn.Module | None = None
        if before != after:
            self.shortcut_norm = SpatialNorm(before, reader, hidden)
            self.shortcut = spectral_norm(convolution(before, after, 1, bias=False))

    def forward(self, x: Tensor, label: LabelMap) -> Tensor:
        """Return features ``[B, after, h, w]`` of ``x`` ``[B, before, h, w]``."""
        straight = x if self.shortcut is None else self.shortcut(self.shortcut_norm(x, label))
        x = self.conv1(F.leaky_relu(self.norm1(x, label), LEAK))
        x = self.conv2(F.leaky_relu(self.norm2(x, label), LEAK))
        return straight + x


@register_backbone("spade")
class Spade(Backbone):
    """SPADE: a small map of labels grows by residual blocks that read the labels again; 93.05 M weights as published.

    Args:
        in_channels: planes of the label map.
        out_channels: channels of the picture, in [-1, 1] by tanh.
        width: 64 as published; the widest layers have 16 times as many channels.
        hidden: channels inside the branches, 128 as published.
        ups: how often the picture doubles, 5 or 6 (as published for Cityscapes): sizes are multiples of 2^ups.
        nib_place: where the NIB goes; see above.
        nib: the config group ``nib``.
    """

    tileable = False

    def __init__(
        self,
        in_channels: int = 9,
        out_channels: int = 3,
        width: int = 64,
        hidden: int = 128,
        ups: int = 6,
        nib_place: str = "branches",
        *,
        nib: Mapping[str, Any],
    ) -> None:
        super().__init__(in_channels, out_channels, nib, "zeros")
        if ups not in (5, 6):
            raise UserError(f"backbone.ups={ups} is not supported; use 5 or 6")
        self.place = choose("backbone.nib_place", nib_place, PLACES)
        self.multiple = self.coarsest = 2**ups
        self.ups = ups
        # read by all others in the place of the map
        self.on_map = self._reader("map", in_channels)(in_channels, 3) if self._equipped("map") else None
        branch = self._reader("branches", in_channels)
        widths = [16 * width] * 4 + [8 * width, 4 * width, 2 * width, width]
        self.stem = self._reader("first", in_channels)(16 * width, 3)
        self.blocks = nn.ModuleList(SpadeBlock(before, after, branch, hidden) for before, after in pairwise(widths))
        self.tail = convolution(width, out_channels, 3)

    def _equipped(self, layer: str) -> bool:
        """Say whether the layers of a kind (``first``, ``branches``, ``map``) have a NIB."""
        alone = {"branches": ("first", "branches"), "map": ("map",), "first": ("first",)}[self.place]
        return self.nib.get("form") != "none" and layer in alone

    def _reader(self, layer: str, planes: int) -> Reader:
        """Return what makes the convolutions of a kind, each with a noise of its own where they have a NIB."""

        def make(channels: int, kernel_size: int) -> nn.Module:
            nib = self.nib if self._equipped(layer) else {"form": "none"}
            stem = make_stem(planes, channels, kernel_size, nib, padding=kernel_size // 2)
            for module in stem.modules():
                if isinstance(module, nn.Conv2d):
                    begin(module)
            return stem

        return make

    def body(self, image: Tensor, origin: Tensor) -> Tensor:
        """Return the picture of label maps whose sides are multiples of 2^ups."""
        label = LabelMap(image, origin)
        if self.on_map is not None:
            label = LabelMap(label.read(self.on_map, (image.shape[-2], image.shape[-1])), origin)
        size = (image.shape[-2] // self.multiple, image.shape[-1] // self.multiple)
        x = label.read(self.stem, size)
        for number, block in enumerate(self.blocks):
            if number > 0 and not (number == 2 and self.ups == 5):  # the two middle blocks then are of one size
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(x, label)
        return torch.tanh(self.tail(F.leaky_relu(x, LEAK)))


def convolution(before: int, after: int, kernel_size: int, bias: bool = True) -> nn.Conv2d:
    """Return a convolution that keeps the size, with SPADE's first weights."""
    return begin(nn.Conv2d(before, after, kernel_size, padding=kernel_size // 2, bias=bias))


def begin(layer: nn.Conv2d) -> nn.Conv2d:
    """Give a convolution the published first weights: Xavier's, small, without bias."""
    nn.init.xavier_normal_(layer.weight, GAIN)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
