"""Any folder of images."""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nibkit.data.cache import CACHE_MB, DecodeCache, Packed, pack, unpack
from nibkit.data.images import Pixels, read_image
from nibkit.data.module import ImageData
from nibkit.data.scan import ImageFile, cache_folder, check_images, find_images, split_by_hash
from nibkit.errors import UserError

log = logging.getLogger(__name__)
FILTER_TAPS = 11  # an image that is judged must be as large as the metrics' filter


class ImageFiles:
    """An image source of files on disk.

    Args:
        files: checked before.
        channels: 1 for gray, 3 for RGB.
        size: (width, height) that all are resized to, pixels; None: as they are.
        cache: keeps what was decoded; None: nothing does.
    """

    def __init__(
        self,
        files: Sequence[ImageFile],
        channels: int,
        size: tuple[int, int] | None = None,
        cache: DecodeCache | None = None,
    ) -> None:
        self.files, self.channels, self.size = list(files), channels, size
        self.cache = cache or DecodeCache(0)
        self.names = distinct_names([file.path for file in self.files])

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.files)

    def name(self, index: int) -> str:
        """Return the file's stem, or its path where another file has the same stem."""
        return self.names[index]

    def read(self, index: int) -> Pixels:
        """Decode the file, unless it is kept."""
        return unpack(self.packed(index))

    def packed(self, index: int) -> Packed:
        """Return the same packed, of which a part can be unpacked; it must not be changed."""
        return self.cache.get((self.files[index].path, self.size), partial(self._decode, index))[0]

    def _decode(self, index: int) -> tuple[Packed]:
        pixels = read_image(self.files[index].path, self.channels)
        if self.size is not None:
            pixels = resize(pixels, self.size)
        return (pixels if self.cache.full else pack(pixels),)


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Return the stems of files, of those that share one the path below the folder that all are in."""
    stems = Counter(path.stem for path in paths)
    root = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    below = [path.relative_to(root).as_posix() for path in paths]
    names = [path.stem if stems[path.stem] == 1 else name for path, name in zip(paths, below, strict=True)]
    return names if len(set(names)) == len(names) else below  # a stem can be another file's name: a.png.png


def resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Return pixels ``[H, W, C]`` at (width, height) ``size``: shrunk by means, enlarged linearly."""
    import cv2

    # side by side: where one shrinks and the other grows, OpenCV would not take the mean of either
    narrowed = cv2.resize(pixels, (size[0], pixels.shape[0]), interpolation=cv2.INTER_AREA)
    resized: Pixels = cv2.resize(narrowed, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    return resized.reshape(size[1], size[0], pixels.shape[-1])


class FolderData(ImageData):
    """All images below a folder; ``train``, ``val`` and ``test`` inside it are the split, else a seeded one.

    Args:
        root: the folder.
        split_seed: of a drawn split; apart from the run's seed, so that all runs are judged on the same images.
        cache_mb: megabytes of decoded images that are kept.
        **options: as of :class:`ImageData`.

    Raises:
        UserError: no folder given.
    """

    def __init__(
        self, root: str | None = None, split_seed: int = 0, cache_mb: float = CACHE_MB, **options: Any
    ) -> None:
        super().__init__(**options)
        self.split_seed, self.cache = split_seed, DecodeCache(cache_mb, self.num_workers)
        if not root:
            raise UserError("data.root is not set; name a folder of images: data=folder data.root=DIR")
        self.root = Path(root)

    def setup_images(self) -> None:
        """Find the split and check every file, all bad ones named at once."""
        split = self._split()
        every = sorted({path for paths in split.values() for path in paths})
        minimum = dict.fromkeys(every, FILTER_TAPS) | dict.fromkeys(split["train"], self.crop_size)
        with image_progress("checking images") as progress:
            checked = {file.path: file for file in check_images(every, minimum, cache_folder(), progress)}
        files = {
            name: ImageFiles([checked[path] for path in paths], self.channels, cache=self.cache)
            for name, paths in split.items()
        }
        self.train_images = files["train"]
        self.evaluation_images = {stage: {"photo": files[stage]} for stage in ("val", "test")}
        log.info("images: %s", ", ".join(f"{len(paths)} {name}" for name, paths in split.items()))

    def _split(self) -> dict[str, list[Path]]:
        if not (self.root / "train").is_dir():
            return split_by_hash(find_images(self.root), self.root, self.split_seed)
        if not (self.root / "val").is_dir():
            raise UserError(f"'{self.root}' has a folder train/ but no val/; add one, or point data.root at train/")
        split = {"train": find_images(self.root / "train"), "val": find_images(self.root / "val")}
        if (self.root / "test").is_dir():
            split["test"] = find_images(self.root / "test")
        else:
            log.warning("no folder test/ in '%s': testing on val/", self.root)
            split["test"] = split["val"]
        return split


@contextmanager
def image_progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar, on a terminal, for work that reports (done, all)."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(file=sys.stderr)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
