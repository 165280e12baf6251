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
from nibkit.data.sets import InMemory
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


class BuiltinData(ImageData):
    """Photographs of scikit-image and drawn comic pages; arguments as of :class:`ImageData`."""

    def setup_images(self) -> None:
        """Name the images; each is read or drawn when first asked for."""
        self.train_images = InMemory([*self._photos("train"), *self._comics("train")])
        self.evaluation_images = {
            stage: {"photo": InMemory(self._photos(stage)), "comic": InMemory(self._comics(stage))}
            for stage in ("val", "test")
        }
        smallest = min(min(self.train_images.read(i).shape[:2]) for i in range(len(self.train_images)))
        if self.crop_size > smallest:
            raise UserError(
                f"data.crop_size={self.crop_size} is larger than the smallest built-in image ({smallest} pixels); "
                f"use at most {smallest}"
            )

    def _photos(self, split: str) -> list[tuple[str, Callable[[], Pixels]]]:
        folder = Path(str(files("skimage"))) / "data"
        return [(Path(name).stem, partial(read_image, folder / name, self.channels)) for name in PHOTOS[split]]

    def _comics(self, split: str) -> list[tuple[str, Callable[[], Pixels]]]:
        return [(f"comic {seed}", partial(read_comic, seed, self.channels)) for seed in COMICS[split]]


def read_comic(seed: int, channels: int) -> Pixels:
    """Return a comic page ``[512, 512, channels]`` in [0, 1]."""
    return to_channels(comic_page(seed), channels)
