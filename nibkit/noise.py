"""Noise fields: the spatially variant proxy N of the noise incentive block.

A stationary field is a pure function of (seed, channel, absolute y, absolute x): the pixel position
is hashed (a counter-based generator), so the field has no period and no size limit, and every tile,
crop, rank and device reads the same values. A dynamic field is the same hash under a fresh key per
image and call. Blue noise is a shipped mask instead, repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Protocol

import torch
from torch import Tensor

from nibkit.draws import draw_keys
from nibkit.hashing import hashed_uniform, mix_bits


class Distribution(Protocol):
    """Maps uniform variates to the wanted distribution."""

    def __call__(self, uniform: Tensor) -> Tensor:
        """Map values uniform in (0, 1) to this distribution; any shape."""
        ...


@dataclass(frozen=True)
class Normal:
    """N(0, std): 0.3 in the paper, on images in [-1, 1]."""

    std: float = 0.3

    def __call__(self, uniform: Tensor) -> Tensor:
        """Invert the normal distribution function."""
        quantile: Tensor = torch.special.ndtri(uniform)
        return quantile * self.std


@dataclass(frozen=True)
class Uniform:
    """U(-bound, bound)."""

    bound: float = 0.3

    def __call__(self, uniform: Tensor) -> Tensor:
        """Stretch (0, 1) to (-bound, bound)."""
        return (2 * uniform - 1) * self.bound


@dataclass(frozen=True)
class Bernoulli:
    """1 with probability p, else 0."""

    p: float = 0.5

    def __call__(self, uniform: Tensor) -> Tensor:
        """Threshold at p."""
        return (uniform < self.p).to(uniform.dtype)


class Noise(Protocol):
    """A rule that gives every pixel of an image a noise value."""

    def __call__(self, batch: int, channels: int, height: int, width: int, origin: Tensor) -> Tensor:
        """Return noise ``[batch, channels, height, width]``, float32.

        Args:
            batch: number of images.
            channels: number of noise channels.
            height: rows.
            width: columns.
            origin: absolute (y, x) of the top left pixel of each image, integers ``[batch, 2]``;
                may be negative. The noise is made on its device.
        """
        ...


@dataclass(frozen=True)
class Stationary:
    """One fixed field for all images: the paper's default.

    Examples:
        A crop reads the same values as the whole:

        >>> field = Stationary(Normal(0.3))
        >>> whole = field(1, 1, 8, 8, torch.tensor([[0, 0]]))
        >>> crop = field(1, 1, 3, 3, torch.tensor([[2, 4]]))
        >>> torch.equal(crop, whole[..., 2:5, 4:7])
        True
    """

    distribution: Distribution
    seed: int = 0

    def __call__(self, batch: int, channels: int, height: int, width: int, origin: Tensor) -> Tensor:
        """Read the field at ``origin``; see :class:`Noise`."""
        key = torch.full((batch,), self.seed, dtype=torch.int64, device=origin.device)
        return self.distribution(hashed_uniform(key, channels, height, width, origin))


@dataclass(frozen=True)
class Dynamic:
    """A fresh field for every image and call; see :mod:`nibkit.draws`."""

    distribution: Distribution

    def __call__(self, batch: int, channels: int, height: int, width: int, origin: Tensor) -> Tensor:
        """Draw a new field; see :class:`Noise`."""
        key = draw_keys(batch).to(origin.device)
        return self.distribution(hashed_uniform(key, channels, height, width, origin))


@dataclass(frozen=True)
class BlueNoise:
    """A void-and-cluster mask of 512x512 pixels, repeated: as flat-proof as white noise, and already well spread.

    The mask's period is far beyond what a halftoning network sees, so no repetition can be learnt or seen.
    """

    distribution: Distribution
    seed: int = 0

    def __call__(self, batch: int, channels: int, height: int, width: int, origin: Tensor) -> Tensor:
        """Read the mask at ``origin``, each channel at a shift of its own; see :class:`Noise`."""
        mask = blue_noise_field().to(origin.device)
        size, stream = len(mask), torch.arange(channels, device=origin.device) + self.seed * 0x10001
        shift = torch.stack((mix_bits(stream), mix_bits(stream + 0x9E3779B9))) % size  # [2, C]
        rows = (origin[:, :1, None] + shift[0, :, None] + torch.arange(height, device=origin.device)) % size
        columns = (origin[:, 1:, None] + shift[1, :, None] + torch.arange(width, device=origin.device)) % size
        return self.distribution(mask[rows[..., :, None], columns[..., None, :]])


@dataclass(frozen=True)
class Scaled:
    """Another field, weaker or stronger; 0 switches it off."""

    noise: Noise
    factor: float

    def __call__(self, batch: int, channels: int, height: int, width: int, origin: Tensor) -> Tensor:
        """Read the other field at ``origin``, times the factor; see :class:`Noise`."""
        return self.noise(batch, channels, height, width, origin) * self.factor


@lru_cache(maxsize=1)
def blue_noise_field() -> Tensor:
    """Return the shipped mask, ``[512, 512]`` float32 in (0, 1), every value about equally often.

    It is ``blue_noise_mask(512)`` of :mod:`nibkit.classical`, in 16 bits.
    """
    import numpy as np
    from PIL import Image

    with resources.files("nibkit").joinpath("weights", "blue_noise_512.png").open("rb") as file:
        ranks = np.asarray(Image.open(file)).astype(np.float32)
    return torch.from_numpy((ranks + np.float32(0.5)) / np.float32(65536))


@dataclass(frozen=True)
class Grid:
    """Rows alternately +amplitude and -amplitude: periodic, the paper's bad control.

    Examples:
        >>> Grid(0.5)(1, 1, 3, 1, torch.tensor([[0, 0]])).flatten().tolist()
        [0.5, -0.5, 0.5]
    """

    amplitude: float = 0.3

    def __call__(self, batch: int, channels: int, height: int, width: int, origin: Tensor) -> Tensor:
        """Alternate by the absolute row; see :class:`Noise`."""
        rows = origin[:, :1] + torch.arange(height, device=origin.device)
        stripes = (1.0 - 2.0 * (rows % 2)) * self.amplitude
        return stripes.float()[:, None, :, None].expand(batch, channels, height, width)
