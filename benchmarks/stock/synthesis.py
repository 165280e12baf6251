"""SPADE and Pix2Pix with their discriminators, in stock layers, after the published code.

Every SPADE shrinks the label map itself; gamma and beta are two convolutions; the NIB f1(I) + f2(N) draws fresh noise.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

LEAK = 0.2


class FeatureNIB(nn.Module):
    """f1(I) + f2(N) with one channel of fresh noise; arguments as of :class:`torch.nn.Conv2d`."""

    def __init__(self, before: int, after: int, kernel_size: int, bias: bool = True, **conv: Any) -> None:
        super().__init__()
        self.f1 = nn.Conv2d(before, after, kernel_size, bias=bias, **conv)
        self.f2 = nn.Conv2d(1, after, kernel_size, bias=False, **conv)

    def noise(self, image: Tensor) -> Tensor:
        """Return fresh noise for ``image`` ``[B, C, H, W]``."""
        return 0.3 * torch.randn_like(image[:, :1])

    def forward(self, image: Tensor) -> Tensor:
        """Return features of a label map ``[B, C, H, W]`` that are not flat."""
        features: Tensor = self.f1(image) + self.f2(self.noise(image))
        return features


class SpadeNorm(nn.Module):
    """Batch norm, modulated by the label map."""

    def __init__(self, channels: int, planes: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.shared = nn.Sequential(FeatureNIB(planes, hidden, 3, padding=1), nn.ReLU())
        self.gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Return normalised features; ``label`` is the map at full size."""
        features = self.shared(F.interpolate(label, x.shape[-2:], mode="nearest"))
        answer: Tensor = self.norm(x) * (1 + self.gamma(features)) + self.beta(features)
        return answer


class SpadeBlock(nn.Module):
    """Residual block of SPADE."""

    def __init__(self, before: int, after: int, planes: int, hidden: int) -> None:
        super().__init__()
        middle = min(before, after)
        self.norm1, self.norm2 = SpadeNorm(before, planes, hidden), SpadeNorm(middle, planes, hidden)
        self.conv1 = spectral_norm(nn.Conv2d(before, middle, 3, padding=1))
        self.conv2 = spectral_norm(nn.Conv2d(middle, after, 3, padding=1))
        self.learned = before != after
        if self.learned:
            self.norm_s = SpadeNorm(before, planes, hidden)
            self.conv_s = spectral_norm(nn.Conv2d(before, after, 1, bias=False))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Return features of as many channels as asked for."""
        straight = self.conv_s(self.norm_s(x, label)) if self.learned else x
        x = self.conv1(F.leaky_relu(self.norm1(x, label), LEAK))
        x = self.conv2(F.leaky_relu(self.norm2(x, label), LEAK))
        answer: Tensor = straight + x
        return answer


class Spade(nn.Module):
    """The generator; arguments as of nibkit's."""

    def __init__(self, planes: int, out_channels: int, width: int, hidden: int, ups: int) -> None:
        super().__init__()
        self.ups = ups
        widths = [16 * width] * 4 + [8 * width, 4 * width, 2 * width, width]
        self.stem = FeatureNIB(planes, 16 * width, 3, padding=1)
        self.blocks = nn.ModuleList(SpadeBlock(a, b, planes, hidden) for a, b in pairwise(widths))
        self.tail = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, label: Tensor) -> Tensor:
        """Return pictures of one-hot label maps whose sides are multiples of 2^ups."""
        size = (label.shape[-2] // 2**self.ups, label.shape[-1] // 2**self.ups)
        x = self.stem(F.interpolate(label, size, mode="nearest"))
        for number, block in enumerate(self.blocks):
            if number > 0 and not (number == 2 and self.ups == 5):
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(x, label)
        return torch.tanh(self.tail(F.leaky_relu(x, LEAK)))


class Pix2Pix(nn.Module):
    """The generator; arguments as of nibkit's."""

    def __init__(self, planes: int, out_channels: int, width: int, downs: int, dropout: float) -> None:
        super().__init__()
        pairs = list(pairwise(width * min(2**number, 8) for number in range(downs)))
        self.stem = FeatureNIB(planes, width, 4, stride=2, padding=1, bias=False)
        self.downs = nn.ModuleList(self._down(*pair, last=n == downs - 2) for n, pair in enumerate(pairs))
        self.ups = nn.ModuleList(
            self._up((1 if n == downs - 2 else 2) * after, before, dropout if 3 <= n < downs - 2 else 0.0)
            for n, (before, after) in reversed(list(enumerate(pairs)))
        )
        self.tail = nn.ConvTranspose2d(2 * width, out_channels, 4, stride=2, padding=1)

    def _down(self, before: int, after: int, last: bool) -> nn.Sequential:
        conv = nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False)
        return nn.Sequential(nn.LeakyReLU(LEAK), conv, *([] if last else [nn.BatchNorm2d(after)]))

    def _up(self, before: int, after: int, dropout: float) -> nn.Sequential:
        conv = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)
        return nn.Sequential(
            nn.ReLU(), conv, nn.BatchNorm2d(after), *([nn.Dropout(dropout)] if dropout else [])
        )  # fmt: skip

    def forward(self, label: Tensor) -> Tensor:
        """Return pictures of one-hot label maps whose sides are multiples of 2^downs."""
        skips = [self.stem(label)]
        for down in self.downs:
            skips.append(down(skips[-1]))
        x = skips.pop()
        for up in self.ups:
            x = torch.cat((skips.pop(), up(x)), dim=1)
        return torch.tanh(self.tail(F.relu(x)))


class Patches(nn.Module):
    """A discriminator of patches: a list of the features of every layer, the logits last."""

    def __init__(self, parts: list[nn.Sequential]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of condition and image side by side."""
        features: list[Tensor] = []
        for part in self.parts:
            x = part(x)
            features.append(x)
        return features


class Multiscale(nn.Module):
    """SPADE's discriminator: patches at several sizes, with spectral and instance norm."""

    def __init__(self, in_channels: int, width: int, layers: int, scales: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(self._scale(in_channels, width, layers) for _ in range(scales))

    def _scale(self, in_channels: int, width: int, layers: int) -> Patches:
        widths = [width * min(2**number, 8) for number in range(layers)]
        parts = [nn.Sequential(nn.Conv2d(in_channels, width, 4, 2, 2), nn.LeakyReLU(LEAK))]
        for number, (before, after) in enumerate(pairwise(widths), start=1):
            conv = spectral_norm(nn.Conv2d(before, after, 4, 1 if number == layers - 1 else 2, 2, bias=False))
            parts.append(nn.Sequential(conv, nn.InstanceNorm2d(after), nn.LeakyReLU(LEAK)))
        return Patches([*parts, nn.Sequential(nn.Conv2d(widths[-1], 1, 4, 1, 2))])

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """Return the features of every scale, the full size first."""
        features: list[list[Tensor]] = []
        for scale in self.scales:
            features.append(scale(x))
            x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
        return features


class PatchGAN(nn.Module):
    """Pix2Pix's discriminator: one scale, with batch norm."""

    def __init__(self, in_channels: int, width: int, layers: int) -> None:
        super().__init__()
        widths = [width * min(2**number, 8) for number in range(layers + 1)]
        parts = [nn.Sequential(nn.Conv2d(in_channels, width, 4, 2, 1), nn.LeakyReLU(LEAK))]
        for number, (before, after) in enumerate(pairwise(widths), start=1):
            conv = nn.Conv2d(before, after, 4, 2 if number < layers else 1, 1, bias=False)
            parts.append(nn.Sequential(conv, nn.BatchNorm2d(after), nn.LeakyReLU(LEAK)))
        self.patches = Patches([*parts, nn.Sequential(nn.Conv2d(widths[-1], 1, 4, 1, 1))])

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """Return one scale's features."""
        return [self.patches(x)]
