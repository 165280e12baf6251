"""Photographs and label maps in folders: reading them, and checking them before training starts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nibkit.data.folder import distinct_names, image_progress
from nibkit.data.images import open_upright, read_image, reason
from nibkit.data.label_classes import Classes
from nibkit.data.label_layouts import LAYOUTS, Found, Pair
from nibkit.data.labelled import LabelledData
from nibkit.data.scan import SHOWN, FileIndex, cache_folder
from nibkit.data.scenes import Bytes, Ids, LazyScene, RawScene
from nibkit.errors import UserError, choose

log = logging.getLogger(__name__)
INDEX_MODES = ("1", "L", "P", "I", "I;16", "I;16B")
PNG = b"\x89PNG\r\n\x1a\n"
SPREAD = {2: 85, 4: 17}  # Pillow multiplies gray values of few bits, so that the largest is white


def read_photo(path: Path) -> Bytes:
    """Return a photograph ``[H, W, 3]``, upright; every kind of file that :func:`read_image` knows."""
    with open_upright(path) as image:
        if image.mode == "RGB" and "transparency" not in image.info:
            return np.asarray(image)
    return np.rint(read_image(path, 3) * 255).astype(np.uint8)


def read_ids(path: Path) -> Ids:
    """Return the ids in an index file, ``[H, W]`` int32; of a palette file the indices, not the colours.

    Raises:
        UserError: it cannot be read, or has colours in place of ids.
    """
    with open_upright(path) as image:
        if image.mode not in INDEX_MODES:
            raise ValueError(
                f"has colours ({image.mode}), but index labels are needed: a PNG of one channel of 8 or 16 bits, or "
                "with a palette, whose values are class ids"
            )
        ids = np.asarray(image).astype(np.int32)
    return ids // _spread(path) if image.mode == "L" else ids


def _spread(path: Path) -> int:
    """Return what Pillow multiplied the gray values of a file by."""
    with path.open("rb") as file:
        header = file.read(26)
    return SPREAD.get(header[24], 1) if header.startswith(PNG) else 1


def read_classes(pair: Pair) -> Ids:
    """Return the ids of a pair's label map, counted from 0; errors as of :func:`read_ids`."""
    ids = read_ids(pair.label)
    ids[np.isin(ids, pair.as_first)] = pair.first
    return ids - pair.first


def read_pair(pair: Pair) -> RawScene:
    """Return the scene of files that were checked."""
    instances = None if pair.instances is None else read_ids(pair.instances)
    return RawScene(read_photo(pair.photo), read_classes(pair).astype(np.uint8), instances)


class LabelFolders(LabelledData):
    """Labelled data in folders of a known layout.

    Args:
        root: the folder; None for the one named as the layout below ``home``.
        layout: a name of :data:`LAYOUTS`.
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

    def find(self) -> dict[str, list[LazyScene]]:
        """Find the split and check every file, all bad ones named at once."""
        found = self.layout.find(self.root)
        if not self.edges:
            found.split = {part: [replace(p, instances=None) for p in pairs] for part, pairs in found.split.items()}
        self._check(found)
        if "test" not in found.split:
            log.warning("no test part in '%s': testing on val", self.root)
            found.split["test"] = found.split["val"]
        log.info("scenes: %s", ", ".join(f"{len(pairs)} {part}" for part, pairs in found.split.items()))
        return {part: _lazy(pairs) for part, pairs in found.split.items()}

    def _check(self, found: Found) -> None:
        """Raise for bad files, and for a part of the split without a pair."""
        pairs = [pair for part in found.split.values() for pair in part]
        problems = dict(found.alone)
        if self.edges:
            without = "has no file of instance ids, which data.edges=true needs"
            problems |= {pair.photo: without for pair in pairs if pair.instances is None}
        with image_progress("checking photos and label maps") as progress:
            problems |= check_pairs(pairs, self.classes, cache_folder(), progress)
        if problems:
            raise UserError(_bad_files(problems))
        for part, members in found.split.items():
            if not members:
                raise UserError(f"'{self.root}' has too few scenes: none are left for {part}; add some")


def _lazy(pairs: Sequence[Pair]) -> list[LazyScene]:
    names = distinct_names([pair.photo for pair in pairs])
    return [(name, partial(read_pair, pair)) for name, pair in zip(names, pairs, strict=True)]


def check_pairs(
    pairs: Sequence[Pair],
    classes: Classes,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Path, str]:
    """Return what is wrong with files, by file.

    Every file is decoded in full once, in parallel, and remembered by name, size and time.

    Args:
        pairs: of photographs and label maps.
        classes: that label maps may have.
        cache: folder of the index of files that were checked before.
        progress: called with (pairs checked, pairs to check).
    """
    if not pairs:
        return {}
    files = [path for pair in pairs for path in pair.files]
    index = FileIndex(cache, files, f"labels-{classes.number}-{classes.void_id}")
    fresh = [pair for pair in pairs if not all(index.knows(path) for path in pair.files)]
    problems: dict[Path, str] = {}
    with ThreadPoolExecutor() as pool:
        for done, (pair, bad) in enumerate(zip(fresh, pool.map(partial(_problems, classes), fresh), strict=True), 1):
            problems |= bad
            for path in pair.files if not bad else ():
                index.add(path)
            if progress:
                progress(done, len(fresh))
    index.save()
    return problems


def _problems(classes: Classes, pair: Pair) -> dict[Path, str]:
    """Return what is wrong with the files of one pair."""
    problems: dict[Path, str] = {}
    read: dict[Path, Ids] = {}
    readers = {pair.photo: partial(read_photo, pair.photo), pair.label: partial(read_classes, pair)}
    if pair.instances is not None:
        readers[pair.instances] = partial(read_ids, pair.instances)
    for path, reader in readers.items():
        try:
            read[path] = reader()
        except UserError as error:
            problems[path] = reason(error.__cause__ or error)
    return problems | _unlike(pair, read) | _strange(pair, read.get(pair.label), classes)


def _unlike(pair: Pair, read: dict[Path, Ids]) -> dict[Path, str]:
    """Return the maps of another size than their photograph."""
    if pair.photo not in read:
        return {}
    height, width = read[pair.photo].shape[:2]
    return {
        path: f"{ids.shape[1]}x{ids.shape[0]} pixels, but its photo has {width}x{height}"
        for path, ids in read.items()
        if ids.shape[:2] != (height, width)
    }


def _strange(pair: Pair, ids: Ids | None, classes: Classes) -> dict[Path, str]:
    """Return a label map with ids that are no classes."""
    strange = None if ids is None else classes.strange(ids)
    if strange is None:
        return {}
    void = "" if classes.void_id is None else f" and {classes.void_id + pair.first} for void"
    allowed = f"{pair.first} to {classes.number - 1 + pair.first}{void}"
    return {pair.label: f"has the id {strange + pair.first}, but data.num_classes={classes.number} allows {allowed}"}


def _bad_files(problems: dict[Path, str]) -> str:
    named = [f"{path} ({text})" for path, text in sorted(problems.items())]
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    fix = "correct or remove them"
    if any("has the id" in text for text in problems.values()):
        fix += ", or set data.num_classes and data.void_id to what they hold"
    return f"{len(named)} file(s) of labelled data cannot be used: {'; '.join(named[:SHOWN])}{more}; {fix}"
