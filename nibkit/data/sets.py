"""Map-style data sets: training crops, whole images, constant grays and colours.

A sample is a dictionary:

    image   [C, H, W] float32 in [-1, 1]
    origin  [2] int64, absolute (y, x) of the sample in the noise field
    level   [C] float32 in [0, 1], a constant tone: of the image itself, or to train beside it
    set     name of the evaluation set ("photo", "comic", "tone", "spectrum", "colour"); evaluation only
    name    name of the image; evaluation only
    draw    int64, the key of all that is drawn for the sample; see :mod:`nibkit.draws`
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from nibkit.data.cache import Packed, unpack
from nibkit.data.images import Pixels, to_tensor
from nibkit.draws import evaluation_key, training_key
from nibkit.errors import UserError

FIELD = 2**20  # training crops read the noise field anywhere in this square, pixels
Sample = dict[str, Any]


class ImageSource(Protocol):
    """Images that can be read one by one.

    A source may also have ``packed(index)``, the image as of :mod:`nibkit.data.cache`, of which parts are unpacked.
    """

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def name(self, index: int) -> str:
        """Return a name for messages and files."""
        ...

    def read(self, index: int) -> Pixels:
        """Return image ``index`` as ``[H, W, C]`` in [0, 1]."""
        ...


class Augmentation(Protocol):
    """An albumentations pipeline."""

    def set_random_state(self, random_generator: np.random.Generator, py_random: random.Random) -> None:
        """Set the generators that all its transforms draw from."""
        ...

    def __call__(self, *, image: Pixels, force_apply: bool) -> Mapping[str, Any]:
        """Return the augmented image under ``image``."""
        ...


class TrainingCrops(Dataset[Sample]):
    """Random crops; each sample is a pure function of (seed, epoch, index).

    So the number of workers and ranks changes nothing.

    Args:
        source: the images; sample i reads image i modulo their number.
        size: side of the crops, pixels.
        augmentation: of the crops; None for none.
        length: samples in an epoch.
        seed: of the run.
    """

    def __init__(
        self, source: ImageSource, size: int, augmentation: Augmentation | None, length: int, seed: int
    ) -> None:
        self.source, self.size, self.augmentation, self.length, self.seed = source, size, augmentation, length, seed
        self._packed: Callable[[int], Packed] = getattr(source, "packed", source.read)

    def __len__(self) -> int:
        """Return the number of samples in an epoch."""
        return self.length

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Return the sample ``(epoch, index)``."""
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        draws = random.Random(int(rng.integers(2**31)))
        pixels = self._crop(index % len(self.source), draws)
        if self.augmentation:
            # one stream for all transforms: set_random_seed would give each the same draws
            self.augmentation.set_random_state(rng, draws)
            pixels = self.augmentation(image=pixels, force_apply=True)["image"]  # forced, it does not draw whether
        return {
            "image": to_tensor(pixels),
            "origin": torch.from_numpy(rng.integers(0, FIELD, 2)),
            "level": torch.from_numpy(rng.integers(0, 256, pixels.shape[-1]) / 255).float(),
            "draw": training_key(self.seed, epoch, index),
        }

    def _crop(self, index: int, draws: random.Random) -> Pixels:
        """Return a random part of an image, cut before its pixels become floats.

        It is where ``A.Compose([A.RandomCrop(size, size), ...])`` with these draws would cut it.
        """
        values = self._packed(index)
        if min(values.shape[:2]) < self.size:
            raise UserError(
                f"image '{self.source.name(index)}' is smaller than data.crop_size={self.size}; lower it, or remove "
                "the image"
            )
        draws.random()  # of the composition: whether to apply
        top, left = (int((side - self.size + 1) * draws.random()) for side in values.shape[:2])
        return unpack(values[top : top + self.size, left : left + self.size])


class WholeImages(Dataset[Sample]):
    """Images for evaluation, one after the other, read at the noise field's (0, 0).

    Args:
        source: the images.
        set_name: under which their figures are logged.
        crop: longer sides are centre-cropped to this many pixels; ``None`` keeps all.
    """

    def __init__(self, source: ImageSource, set_name: str, crop: int | None = None) -> None:
        self.source, self.set_name, self.crop = source, set_name, crop

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        """Return image ``index``."""
        pixels = self.source.read(index)
        if self.crop:
            top, left = (max(0, side - self.crop) // 2 for side in pixels.shape[:2])
            pixels = pixels[top : top + self.crop, left : left + self.crop]
        return {
            "image": to_tensor(pixels),
            "origin": torch.zeros(2, dtype=torch.int64),
            "set": self.set_name,
            "name": self.source.name(index),
            "draw": evaluation_key(self.source.name(index)),
        }


class GrayLevels(Dataset[Sample]):
    """Constant grays for evaluation.

    Args:
        levels: tones in [0, 1], the wanted share of white dots.
        size: side of the squares, pixels.
        set_name: under which their figures are logged.
        channels: of the images.
    """

    def __init__(self, levels: Sequence[float], size: int, set_name: str, channels: int = 1) -> None:
        self.levels, self.size, self.set_name, self.channels = list(levels), size, set_name, channels

    def __len__(self) -> int:
        """Return the number of levels."""
        return len(self.levels)

    def __getitem__(self, index: int) -> Sample:
        """Return the gray of level ``index``."""
        level = self.levels[index]
        return {
            "image": torch.full((self.channels, self.size, self.size), 2 * level - 1),
            "origin": torch.zeros(2, dtype=torch.int64),
            "level": torch.full((self.channels,), level),
            "set": self.set_name,
            "name": f"gray {level:.3f}",
            "draw": evaluation_key(f"gray {level:.3f}"),
        }


class ConstantColours(Dataset[Sample]):
    """Constant colours for evaluation, in the set ``colour``.

    Args:
        colours: (red, green, blue), each an 8-bit level from 0 to 255.
        size: side of the squares, pixels.
    """

    def __init__(self, colours: Sequence[tuple[int, ...]], size: int) -> None:
        self.colours, self.size = list(colours), size

    def __len__(self) -> int:
        """Return the number of colours."""
        return len(self.colours)

    def __getitem__(self, index: int) -> Sample:
        """Return the square of colour ``index``."""
        colour = self.colours[index]
        level, name = torch.tensor(colour) / 255, "colour {} {} {}".format(*colour)
        return {
            "image": (2 * level - 1)[:, None, None].repeat(1, self.size, self.size),
            "origin": torch.zeros(2, dtype=torch.int64),
            "level": level,
            "set": "colour",
            "name": name,
            "draw": evaluation_key(name),
        }


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index) in an order shuffled by (seed, epoch), a disjoint share per rank.

    The epoch travels with the index, so worker processes need no news of it.

    Args:
        length: samples in an epoch.
        seed: of the run.
        rank: of this process.
        world_size: number of processes; a remainder of the epoch is left out on all of them.
        start: (epoch, samples of it over all processes) where the first pass begins where a run goes on.
        on_pass: called with these as each pass begins.
    """

    def __init__(
        self,
        length: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start: tuple[int, int] | None = None,
        on_pass: Callable[[int, int], None] | None = None,
    ) -> None:
        self.length, self.seed, self.rank, self.world_size = length, seed, rank, world_size
        self.epoch = 0
        self._start, self._on_pass = start, on_pass

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of samples of this rank."""
        return self.length // self.world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Return this rank's share of the epoch, where a run goes on its rest."""
        (epoch, done), self._start = self._start or (self.epoch, 0), None
        if self._on_pass:
            self._on_pass(epoch, done)
        return self._share(epoch, done)

    def _share(self, epoch: int, done: int) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
        for index in order[done + self.rank : len(self) * self.world_size : self.world_size]:
            yield epoch, int(index)


class ShareSampler(Sampler[int]):
    """Every index once over all ranks: neither repeated nor dropped, so that metrics are exact."""

    def __init__(self, length: int, rank: int = 0, world_size: int = 1) -> None:
        self.indices = range(rank, length, world_size)

    def __len__(self) -> int:
        """Return the number of samples of this rank."""
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        """Yield this rank's indices."""
        return iter(self.indices)


class InMemory:
    """An image source that holds its pixels.

    Args:
        images: name and a function that returns ``[H, W, C]`` in [0, 1], called once.
    """

    def __init__(self, images: Sequence[tuple[str, Callable[[], Pixels]]]) -> None:
        self._images = list(images)
        self._pixels: dict[int, Pixels] = {}

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def name(self, index: int) -> str:
        """Return the image's name."""
        return self._images[index][0]

    def read(self, index: int) -> Pixels:
        """Return the image's pixels."""
        if index not in self._pixels:
            self._pixels[index] = self._images[index][1]()
        return self._pixels[index]


class First:
    """The first images of a source.

    Args:
        source: the images.
        count: how many, at most as many as there are.
    """

    def __init__(self, source: ImageSource, count: int) -> None:
        self.source, self.count = source, count

    def __len__(self) -> int:
        """Return the number of images."""
        return self.count

    def name(self, index: int) -> str:
        """Return the image's name."""
        return self.source.name(index)

    def read(self, index: int) -> Pixels:
        """Return the image's pixels."""
        return self.source.read(index)
