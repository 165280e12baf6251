"""Train on one image set and judge on several, each by its name or its folder."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nibkit.data.builtin import builtin_sources, check_crop
from nibkit.data.cache import CACHE_MB, DecodeCache
from nibkit.data.catalog import IMAGE_SETS, Split, hold_out
from nibkit.data.folder import FILTER_TAPS, ImageFiles, image_progress
from nibkit.data.module import ImageData
from nibkit.data.scan import cache_folder, check_images, find_images, split_by_hash
from nibkit.data.sets import First, ImageSource
from nibkit.errors import UserError, suggestion

log = logging.getLogger(__name__)
BUILTIN = {"builtin_photos": "photo", "builtin_comics": "comic"}
CONSTANT = ("tone", "spectrum", "colour")  # sets of constant grays and colours that a test has
Sources = dict[str, ImageSource]  # by split


class ImageSets(ImageData):
    """Several image sets: one to train on, any number to judge on, the best checkpoint chosen on neither.

    A set is a name of :data:`nibkit.data.catalog.IMAGE_SETS`, ``builtin_photos`` or ``builtin_comics`` (the embedded
    data), or a folder. A folder with ``train`` is judged on its ``test``, or else on its ``val``; one without is split
    at random if it is trained on, and else judged on as a whole. Where a set has no validation images beside those that
    it is judged on, a drawn share of its training images is held out for them. No image that is judged on may be among
    those that are trained on or choose the checkpoint.

    Args:
        train: the set to train on.
        test: the sets to judge on, each ``SET`` or ``NAME=SET``; NAME is that of its figures, ``photo`` for no prefix.
        home: the folder that the named sets lie in.
        val_images: so many validation images at most.
        test_images: so many images of each set at most; None for all.
        cache_mb: megabytes of decoded images that are kept.
        **options: as of :class:`ImageData`.

    Raises:
        UserError: a set is not named, or there is no such set.
    """

    def __init__(
        self,
        train: str | None = None,
        test: Sequence[str] = (),
        home: str = "data",
        val_images: int | None = 16,
        test_images: int | None = None,
        cache_mb: float = CACHE_MB,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not train or not test:
            names = ", ".join((*IMAGE_SETS, *BUILTIN))
            raise UserError(
                f"data.{'test' if train else 'train'} is not set; name image sets, as in data=sets data.train=voc2012 "
                f"data.test=[voc2012,comic]; a set is a folder or one of: {names}"
            )
        self.train, self.home = train, Path(home)
        self.test = {label: train if _same(spec, train) else spec for label, spec in labelled(test).items()}
        self.val_images, self.test_images = val_images, test_images
        self.cache = DecodeCache(cache_mb, self.num_workers)

    def setup_images(self) -> None:
        """Find all sets and check every file in use, all bad ones of a set named at once."""
        sets = {spec: self._find(spec) for spec in dict.fromkeys((self.train, *self.test.values()))}
        trained = sets[self.train]
        if "train" not in trained:
            raise UserError(
                f"data.train='{self.train}' has no images to train on beside those to validate and judge on; "
                "train on another set"
            )
        self.train_images = trained["train"]
        judged = {label: self._judged(label, spec, sets) for label, spec in self.test.items()}
        _check_apart(trained, judged)
        self.evaluation_images = {
            "val": {"photo": _first(trained["val"], self.val_images)},
            "test": {label: _first(source, self.test_images) for label, source in judged.items()},
        }
        counts = ", ".join(f"{len(source)} {label}" for label, source in self.evaluation_images["test"].items())
        validated = len(self.evaluation_images["val"]["photo"])
        log.info("images: %d to train on, %d to validate, to judge on: %s", len(self.train_images), validated, counts)

    def _judged(self, label: str, spec: str, sets: Mapping[str, Sources]) -> ImageSource:
        """Return the images to judge on of a set."""
        if "test" not in sets[spec]:
            raise UserError(
                f"data.test: '{label}={spec}' has no images to judge on beside those that are trained on; give it "
                "folders train/ and test/, or judge on another set"
            )
        return sets[spec]["test"]

    def _find(self, spec: str) -> Sources:
        """Return the images of a set by split, checked; a split that is empty or not needed is left out."""
        trained = spec == self.train
        if spec in BUILTIN:
            sources = builtin_sources(BUILTIN[spec], self.channels)
            if trained:
                check_crop(self.crop_size, sources["train"])
            return sources
        named = IMAGE_SETS.get(spec)
        size = named.size if named else None
        if trained and size and self.crop_size > min(size):
            raise UserError(
                f"data.crop_size={self.crop_size} is larger than the images of '{spec}', which are resized to "
                f"{size[0]}x{size[1]} pixels; use at most {min(size)}"
            )
        split = named.find(spec, self.home) if named else split_folder(Path(spec), trained)
        needed = {"train": trained, "val": trained, "test": spec in self.test.values()}
        return self._checked(spec, {part: paths for part, paths in split.items() if paths and needed[part]}, size)

    def _checked(self, spec: str, split: Split, size: tuple[int, int] | None) -> Sources:
        """Return the files of a set as images, all decoded once; those that are not resized hold a training crop."""
        every = sorted({path for paths in split.values() for path in paths})
        if not every:
            return {}
        least = dict.fromkeys(every, FILTER_TAPS)
        if size is None:
            least |= dict.fromkeys(split.get("train", []), self.crop_size)
        with image_progress(f"checking {spec}") as progress:
            checked = {file.path: file for file in check_images(every, least, cache_folder(), progress)}
        return {
            part: ImageFiles([checked[path] for path in paths], self.channels, size, self.cache)
            for part, paths in split.items()
        }


def labelled(specs: Sequence[str]) -> dict[str, str]:
    """Return sets by the names of their figures, of ``SET`` or ``NAME=SET`` each.

    Raises:
        UserError: a set is not named, two have the same name, or one that of the constant grays.
    """
    sets: dict[str, str] = {}
    for spec in map(str, specs):
        label, _, named = spec.partition("=") if re.match(r"[\w-]+=", spec) else ("", "", spec)
        if not named:
            raise UserError(f"data.test: '{spec}' names no image set; write SET or NAME=SET")
        label = label or Path(named).name.strip(".") or Path(named).resolve().name  # of . and ..
        if label in CONSTANT:
            raise UserError(f"data.test: '{label}' is the name of constant grays; give another: NAME={named}")
        if label in sets:
            raise UserError(f"data.test: two sets are called '{label}'; give one another name: NAME={named}")
        sets[label] = named
    return sets


def split_folder(root: Path, trained: bool) -> Split:
    """Split a folder by its folders train/, val/ and test/; without them, at random, or all of it to judge on.

    Args:
        root: the folder.
        trained: it is trained on, too.

    Raises:
        UserError: it does not exist, holds no images, or too few.
    """
    if not root.is_dir():
        known = (*IMAGE_SETS, *BUILTIN)
        raise UserError(
            f"data: '{root}' is neither a folder nor a known image set{suggestion(str(root), known)}; known sets: "
            f"{', '.join(known)}"
        )
    if not (root / "train").is_dir():
        every = find_images(root, "data")
        return split_by_hash(every, root, seed=0) if trained else {"test": every}
    found = {part: find_images(root / part, "data") for part in ("train", "val", "test") if (root / part).is_dir()}
    if "val" in found and "test" in found:
        return found
    train, val = hold_out(found["train"], root)
    return {"train": train, "val": val, "test": found.get("test") or found.get("val") or []}


def _same(first: str, second: str) -> bool:
    """Say whether two sets are the same name, or spellings of the same folder."""
    if first == second or {first, second} & {*IMAGE_SETS, *BUILTIN}:
        return first == second
    return Path(first).resolve() == Path(second).resolve()


def _check_apart(trained: Sources, judged: Mapping[str, ImageSource]) -> None:
    """Raise if an image to judge on is trained on or chooses the best checkpoint."""
    used = _paths(trained["train"]) | _paths(trained["val"])
    for label, source in judged.items():
        shared = sorted(used & _paths(source))
        if shared:
            raise UserError(
                f"data.test: {len(shared)} image(s) of '{label}' are among those to train or validate on, such as "
                f"'{shared[0]}'; name folders that do not overlap"
            )


def _paths(source: ImageSource) -> set[Path]:
    return {file.path.resolve() for file in source.files} if isinstance(source, ImageFiles) else set()


def _first(source: ImageSource, count: int | None) -> ImageSource:
    return source if count is None or len(source) <= count else First(source, count)
