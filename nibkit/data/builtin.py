"""The embedded default data: nothing to download, nothing to prepare.

Photographs from inside scikit-image's wheel and comic pages drawn by rule, split so that no test image is
trained on. About seven of the photographs show things, so the test split is two photos: a first figure,
not a benchmark.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.resources import files
from pathlib import Path

from nibkit.data.comic import comic_page
from nibkit.data.images import Pixels, read_image, to_channels
from nibkit.data.module import ImageData
from nibkit.data.sets import ImageSource, InMemory
from nibkit.errors import UserError

# The two motorcycle pictures are one stereo pair and stay on one side of the split.
PHOTOS = {
    "train": (
        "astronaut.png", "motorcycle_left.png", "motorcycle_right.png", "brick.png", "grass.png", "gravel.png",
        "coins.png", "moon.png", "hubble_deep_field.jpg", "ihc.png", "retina.jpg", "page.png", "clock_motion.png",
    ),
    "val": ("camera.png", "rocket.jpg"),
    "test": ("chelsea.png", "coffee.png"),
}  # fmt: skip
COMICS = {"train": range(8), "val": range(100, 101), "test": range(200, 204)}

Image = tuple[str, Callable[[], Pixels]]  # its name, and how to read it


class BuiltinData(ImageData):
    """Photographs of scikit-image and drawn comic pages; arguments as of :class:`ImageData`."""

    def setup_images(self) -> None:
        """Name the images; each is read or drawn when first asked for."""
        self.train_images = InMemory([image for read in KINDS.values() for image in read("train", self.channels)])
        self.evaluation_images = {
            stage: {kind: InMemory(read(stage, self.channels)) for kind, read in KINDS.items()}
            for stage in ("val", "test")
        }
        check_crop(self.crop_size, self.train_images)


def check_crop(crop_size: int, source: ImageSource) -> None:
    """Raise if training crops are larger than the smallest of the embedded images, which are read for it."""
    smallest = min(min(source.read(i).shape[:2]) for i in range(len(source)))
    if crop_size > smallest:
        raise UserError(
            f"data.crop_size={crop_size} is larger than the smallest built-in image ({smallest} pixels); "
            f"use at most {smallest}"
        )


def photos(split: str, channels: int) -> list[Image]:
    """Return the photographs of a split, to be read."""
    folder = Path(str(files("skimage"))) / "data"
    return [(Path(name).stem, partial(read_image, folder / name, channels)) for name in PHOTOS[split]]


def comics(split: str, channels: int) -> list[Image]:
    """Return the comic pages of a split, to be drawn."""
    return [(f"comic {seed}", partial(read_comic, seed, channels)) for seed in COMICS[split]]


KINDS = {"photo": photos, "comic": comics}


def builtin_sources(kind: str, channels: int) -> dict[str, ImageSource]:
    """Return the embedded images of a kind, ``photo`` or ``comic``, by split."""
    return {split: InMemory(KINDS[kind](split, channels)) for split in ("train", "val", "test")}


def read_comic(seed: int, channels: int) -> Pixels:
    """Return a comic page ``[512, 512, channels]`` in [0, 1]."""
    return to_channels(comic_page(seed), channels)
