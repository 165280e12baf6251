"""Image sets by name, in their official layouts: what the paper trains and judges on.

Nothing is downloaded: each set says where it is to be had, and where to put it below ``data.home``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nibkit.data.scan import find_images
from nibkit.errors import UserError

Split = dict[str, list[Path]]  # train (may be empty), val, test

VOC_TEST = 3367  # of 17,125 images, as in the paper: 13,758 / 3,367
VALIDATION = 0.05  # share of the training images that choose the best checkpoint, where the set itself names none


@dataclass(frozen=True)
class ImageSet:
    """A public image set.

    Args:
        title: for people.
        source: where it is to be had.
        folder: where it lies below ``data.home``.
        layout: what must lie in there.
        split: finds the files; raises :class:`UserError` where something is missing.
        size: (width, height) that all its images are resized to, pixels; None: as they are.
    """

    title: str
    source: str
    folder: str
    layout: str
    split: Callable[[Path], Split]
    size: tuple[int, int] | None = None

    def find(self, name: str, home: Path) -> Split:
        """Return its files.

        Raises:
            UserError: the folder is missing or has another layout; the sentence says what to get and where to put it.
        """
        root = home / self.folder
        try:
            if not root.is_dir():
                raise UserError("there is no such folder")
            return self.split(root)
        except UserError as error:
            raise UserError(
                f"image set '{name}' is not in '{root}' ({error}); get {self.title} from {self.source} so that there "
                f"is {self.layout}, or set data.home to the folder that holds {self.folder}/"
            ) from error


def files_in(root: Path, *parts: str, suffix: str = "") -> list[Path]:
    """Return the images below a folder of a set whose names end with ``suffix``.

    Raises:
        UserError: there are none.
    """
    folder = root.joinpath(*parts)
    wanted = f"{'/'.join(parts)}/" if parts else "the folder"
    found = [path for path in find_images(folder) if path.stem.endswith(suffix)] if folder.is_dir() else []
    if not found:
        raise UserError(f"{wanted} is missing or has no images" + (f" named *{suffix}.*" if suffix else ""))
    return found


def by_hash(paths: list[Path], root: Path, seed: int = 0) -> list[Path]:
    """Return files in an order that is drawn, but the same on every file system."""
    return sorted(paths, key=lambda p: hashlib.sha256(f"{seed}/{p.relative_to(root).as_posix()}".encode()).digest())


def hold_out(paths: list[Path], root: Path) -> tuple[list[Path], list[Path]]:
    """Return (training, validation) of files: a drawn share, at least one, is held out for validation."""
    order = by_hash(paths, root)
    count = max(1, round(len(order) * VALIDATION))
    return sorted(order[count:]), sorted(order[:count])


def _voc2012(root: Path) -> Split:
    """Draw the paper's numbers of images from all of JPEGImages/: which ones they were is not published."""
    every = by_hash(files_in(root, "JPEGImages"), root)
    share = VOC_TEST if len(every) > 2 * VOC_TEST else -(-len(every) // 5)
    train, val = hold_out(every[share:], root)
    return {"train": train, "val": val, "test": sorted(every[:share])}


def _div2k(root: Path) -> Split:
    train, val = hold_out(files_in(root, "DIV2K_train_HR"), root)
    return {"train": train, "val": val, "test": files_in(root, "DIV2K_valid_HR")}


def _cityscapes(root: Path) -> Split:
    """Return the photographs; the official test part has no public labels, so that its val is what is judged on."""
    train, val = hold_out(files_in(root, "leftImg8bit", "train", suffix="_leftImg8bit"), root)
    return {"train": train, "val": val, "test": files_in(root, "leftImg8bit", "val", suffix="_leftImg8bit")}


def _only_test(root: Path) -> Split:
    return {"train": [], "val": [], "test": files_in(root)}


IMAGE_SETS = {
    "voc2012": ImageSet(
        "PASCAL VOC2012 (VOCtrainval_11-May-2012.tar, 2 GB)",
        "the PASCAL VOC project's page, host.robots.ox.ac.uk/pascal/VOC/voc2012",
        "VOCdevkit/VOC2012",
        "JPEGImages/*.jpg in it, 17,125 files",
        _voc2012,
        (256, 256),
    ),
    "div2k": ImageSet(
        "DIV2K (DIV2K_train_HR.zip and DIV2K_valid_HR.zip, 4 GB)",
        "data.vision.ee.ethz.ch/cvl/DIV2K",
        "DIV2K",
        "DIV2K_train_HR/*.png (800 files) and DIV2K_valid_HR/*.png (100 files) in it",
        _div2k,
    ),
    "div2k_1024": ImageSet(
        "DIV2K (DIV2K_train_HR.zip and DIV2K_valid_HR.zip, 4 GB)",
        "data.vision.ee.ethz.ch/cvl/DIV2K",
        "DIV2K",
        "DIV2K_train_HR/*.png (800 files) and DIV2K_valid_HR/*.png (100 files) in it",
        _div2k,
        (1024, 1024),
    ),
    "cityscapes": ImageSet(
        "Cityscapes (leftImg8bit_trainvaltest.zip, 11 GB; free after registration)",
        "www.cityscapes-dataset.com",
        "cityscapes",
        "leftImg8bit/{train,val}/CITY/*_leftImg8bit.png in it, 2,975 and 500 files",
        _cityscapes,
    ),
    "comic": ImageSet(
        "comic pages (the paper's 93 frames of 994x1500 pixels are not published)",
        "your own collection",
        "COMIC",
        "any number of images in it, to judge on only",
        _only_test,
    ),
    "structure": ImageSet(
        "the test images of Pang et al., Structure-Aware Halftoning (SIGGRAPH 2008)",
        "that paper's project page",
        "Structure",
        "the images in it, to judge on only",
        _only_test,
    ),
}
