"""The networks of images, in stock layers; those of label maps are in ``synthesis.py``.

The NIB is two convolutions, f1(I + N) + f2(I - N), with a noise map that is drawn once. Layers are registered in the
order of nibkit's, so that weights can be copied from one side to the other.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 512  # of the noise map, pixels: larger than any training crop


class SymmetricNIB(nn.Module):
    """f1(I + N) + f2(I - N); arguments as of :class:`torch.nn.Conv2d`."""

    noise_map: Tensor

    def __init__(self, before: int, after: int, kernel_size: int, **conv: Any) -> None:
        super().__init__()
        self.f1 = nn.Conv2d(before, after, kernel_size, **conv)
        self.f2 = nn.Conv2d(before, after, kernel_size, bias=False, **conv)
        self.register_buffer("noise_map", 0.3 * torch.randn(1, before, SIDE, SIDE))

    def noise(self, image: Tensor) -> Tensor:
        """Return the noise that belongs to an image ``[B, C, H, W]``."""
        return self.noise_map[..., : image.shape[-2], : image.shape[-1]]

    def forward(self, image: Tensor) -> Tensor:
        """Return features of ``image`` ``[B, C, H, W]`` that are not flat."""
        noise = self.noise(image)
        features: Tensor = self.f1(image + noise) + self.f2(image - noise)
        return features


class ValidBlock(nn.Module):
    """x + conv(relu(conv(x))), the border replicated once for both convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.ReplicationPad2d(2), nn.Conv2d(width, width, 3), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, width, H, W]`` to the same shape."""
        answer: Tensor = x + self.residual(x)
        return answer


class Block(nn.Module):
    """x + conv(relu(conv(x))), each convolution with a replicated border."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(conv(width, width), nn.ReLU(inplace=True), conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, width, H, W]`` to the same shape."""
        answer: Tensor = x + self.residual(x)
        return answer


def conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution with a replicated border."""
    return nn.Conv2d(before, after, 3, stride, padding=1, padding_mode="replicate")


def resnet(in_channels: int, out_channels: int, width: int, blocks: int) -> nn.Sequential:
    """Return the residual network of Table 1."""
    stem, tail = SymmetricNIB(in_channels, width, 1), nn.Conv2d(width, out_channels, 1)
    return nn.Sequential(stem, *(ValidBlock(width) for _ in range(blocks)), tail)


class Up(nn.Module):
    """Twice the size, a convolution, the skip added, and a residual of three more."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Upsample(scale_factor=2), conv(before, width), nn.ReLU(inplace=True))
        self.residual = nn.Sequential(
            conv(width, width), nn.ReLU(inplace=True), conv(width, width), nn.ReLU(inplace=True), conv(width, width)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Join features with the skip, which is twice as large."""
        joined: Tensor = self.enter(x) + skip
        answer: Tensor = joined + self.residual(joined)
        return answer


class UNet(nn.Module):
    """The U-Net of Table 1; training crops are extended by ``margin`` pixels."""

    def __init__(self, in_channels: int, out_channels: int, width: int, margin: int) -> None:
        super().__init__()
        self.margin = margin
        w1, w2, w3 = 2 * width, 4 * width, 4 * width
        relu = nn.ReLU(inplace=True)
        self.stem = SymmetricNIB(in_channels, width, 3, padding=1, padding_mode="replicate")
        self.enter = nn.Sequential(relu, conv(width, width), relu)
        self.down1 = nn.Sequential(conv(width, w1, 2), relu, conv(w1, w1), relu)
        self.down2 = nn.Sequential(conv(w1, w2, 2), relu, conv(w2, w2), relu)
        self.down3 = nn.Sequential(conv(w2, w3, 2), relu)
        self.bottom = nn.Sequential(Block(w3), Block(w3), Block(w3))
        self.up3, self.up2, self.up1 = Up(w3, w2), Up(w2, w1), Up(w1, width)
        self.tail = nn.Conv2d(width, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the raw answer, of the size of ``image``, whose sides are multiples of 8."""
        m = self.margin
        x0 = self.enter(self.stem(F.pad(image, (m, m, m, m), mode="replicate")))
        x1 = self.down1(x0)
        x2 = self.down2(x1)
        x = self.up1(self.up2(self.up3(self.bottom(self.down3(x2)), x2), x1), x0)
        answer: Tensor = self.tail(x)[..., m:-m, m:-m]
        return answer


def autoencoder(in_channels: int, out_channels: int, width: int, latent: int, blocks: int) -> nn.Sequential:
    """Return the autoencoder of Figure 5."""
    half, quarter = 2 * width, 4 * width

    def several(channels: int) -> list[nn.Module]:
        return [Block(channels) for _ in range(blocks)]

    return nn.Sequential(
        SymmetricNIB(in_channels, width, 3, padding=1, padding_mode="replicate"),
        nn.Conv2d(width, half, 2, stride=2), *several(half),
        nn.Conv2d(half, quarter, 2, stride=2), *several(quarter),
        nn.Conv2d(quarter, latent, 1),
        nn.Conv2d(latent, quarter, 1), *several(quarter),
        nn.Conv2d(quarter, 4 * half, 1), nn.PixelShuffle(2), *several(half),
        nn.Conv2d(half, 4 * width, 1), nn.PixelShuffle(2),
        conv(width, out_channels),
    )  # fmt: skip


class Subpixel(nn.Module):
    """Residual blocks at half the size; what they answer is added to the image.

    Args:
        in_channels: 3 for the encoder, 1 for the decoder.
        out_channels: 1 for the encoder, 3 for the decoder.
        width: channels at half the size.
        blocks: their number.
        nib: whether the first layer is one.
    """

    def __init__(self, in_channels: int, out_channels: int, width: int, blocks: int, nib: bool) -> None:
        super().__init__()
        self.out_channels = out_channels
        first = SymmetricNIB if nib else nn.Conv2d
        self.network = nn.Sequential(
            first(in_channels, width, 6, stride=2, padding=2, padding_mode="replicate"),
            *(Block(width) for _ in range(blocks)),
            conv(width, 4 * out_channels),
            nn.PixelShuffle(2),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return the gray of an image, or the colours of a gray."""
        base = gray_of(image) if image.shape[1] == 3 else image.expand(-1, self.out_channels, -1, -1)
        answer: Tensor = base + self.network(image)
        return answer


def gray_of(image: Tensor) -> Tensor:
    """Return the luminance ``[B, 1, H, W]`` of ``image`` ``[B, 3, H, W]``."""
    from kornia.color import rgb_to_grayscale

    gray: Tensor = rgb_to_grayscale(image)
    return gray


def conv_norm(before: int, width: int) -> nn.Sequential:
    """Return a 3x3 convolution with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
    )


class Segmenter(nn.Module):
    """The small U-Net that names the class of every pixel."""

    def __init__(self, in_channels: int, classes: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**number for number in range(4)]
        pairs = list(pairwise(widths))
        self.enter = nn.Sequential(conv_norm(in_channels, width), conv_norm(width, width))
        self.downs = nn.ModuleList(nn.Sequential(conv_norm(a, b), conv_norm(b, b)) for a, b in pairs)
        self.ups = nn.ModuleList(conv_norm(a + b, a) for a, b in reversed(pairs))
        self.tail = nn.Conv2d(width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``[B, K, H, W]`` of an image whose sides are multiples of 8."""
        skips = [self.enter(image)]
        for down in self.downs:
            skips.append(down(F.max_pool2d(skips[-1], 2)))
        x = skips.pop()
        for up in self.ups:
            larger = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = up(torch.cat((skips.pop(), larger), dim=1))
        logits: Tensor = self.tail(x)
        return logits
