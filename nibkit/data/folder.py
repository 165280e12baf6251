"""Any folder of images."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nibkit.data.images import Pixels, read_image
from nibkit.data.module import ImageData
from nibkit.data.scan import ImageFile, cache_folder, check_images, find_images, split_by_hash
from nibkit.errors import UserError

log = logging.getLogger(__name__)
FILTER_TAPS = 11  # an image that is judged must be as large as the metrics' filter


class ImageFiles:
    """An image source of files on disk."""

    def __init__(self, files: Sequence[ImageFile], channels: int) -> None:
        self.files, self.channels = list(files), channels

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.files)

    def name(self, index: int) -> str:
        """Return the file's stem."""
        return self.files[index].path.stem

    def read(self, index: int) -> Pixels:
        """Decode the file."""
        return read_image(self.files[index].path, self.channels)


class FolderData(ImageData):
    """All images below a folder; ``train``, ``val`` and ``test`` inside it are the split, else a seeded one.

    Args:
        root: the folder.
        split_seed: of a drawn split; apart from the run's seed, so that all runs are judged on the same images.
        **options: as of :class:`ImageData`.

    Raises:
        UserError: no folder given.
    """

    def __init__(self, root: str | None = None, split_seed: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.split_seed = split_seed
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
        files = {name: ImageFiles([checked[path] for path in paths], self.channels) for name, paths in split.items()}
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
