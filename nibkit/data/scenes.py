"""Scenes, which are photographs with their label maps: resized to one size, and kept in memory as far as they fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nibkit.data.cache import DecodeCache, unpack
from nibkit.data.images import Pixels

Bytes = NDArray[np.uint8]
Ids = NDArray[Any]  # uint8 for classes, int32 for instances
Size = tuple[int, int]  # height and width, pixels
T = TypeVar("T")


class Scene(NamedTuple):
    """A photograph ``[H, W, 3]`` in [0, 1], its ids of classes ``[H, W]``, and those of its instances or None."""

    photo: Pixels
    ids: Ids
    instances: Ids | None = None


class RawScene(NamedTuple):
    """The same with a photograph of 8 bits, 0 to 255, as files have it."""

    photo: Bytes
    ids: Ids
    instances: Ids | None = None


LazyScene = tuple[str, Callable[[], RawScene]]  # its name, and how to read or draw it


class SceneSource(Protocol):
    """Scenes that can be read one by one, all of one size."""

    def __len__(self) -> int:
        """Return the number of scenes."""
        ...

    def name(self, index: int) -> str:
        """Return a name for messages and files."""
        ...

    def read(self, index: int) -> Scene:
        """Return scene ``index``."""
        ...


class Scenes:
    """A source of scenes that are read when first asked for.

    Args:
        scenes: of any sizes.
        size: (height, width) that all are resized to.
        cache: keeps them at this size; None: one of its own does.
    """

    def __init__(self, scenes: Sequence[LazyScene], size: Size, cache: DecodeCache | None = None) -> None:
        self._scenes, self.size = list(scenes), size
        self._cache = cache or DecodeCache()

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self._scenes)

    def name(self, index: int) -> str:
        """Return the scene's name."""
        return self._scenes[index][0]

    def read(self, index: int) -> Scene:
        """Return the scene, resized."""
        raw = self._cache.get((self._scenes[index], self.size), partial(self._read, index))
        return Scene(unpack(raw.photo), raw.ids, raw.instances)

    def _read(self, index: int) -> RawScene:
        return resize_scene(self._scenes[index][1](), self.size)


def resize_scene(scene: RawScene, size: Size) -> RawScene:
    """Return a scene at another size: its photograph bicubic (of means where it shrinks), its ids nearest."""
    photo = Image.fromarray(scene.photo).resize(size[::-1], Image.Resampling.BICUBIC)
    instances = None if scene.instances is None else resize_ids(scene.instances, size)
    return RawScene(np.asarray(photo), resize_ids(scene.ids, size), instances)


def resize_ids(ids: Ids, size: Size) -> Ids:
    """Return ids ``[H, W]`` at another size; each pixel has the id of the old pixel that its middle lies in."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64) for new, old in zip(size, ids.shape, strict=True)
    )
    resized: Ids = ids[rows[:, None], columns]
    return resized


def spread(items: Sequence[T], limit: int | None) -> list[T]:
    """Return at most ``limit`` items at equal steps over all; None for all."""
    count = len(items) if limit is None else min(limit, len(items))
    return [items[number * len(items) // count] for number in range(count)]
