"""Finding images in folders and checking them before training starts.

Headers are read always; every file is decoded in full once, in parallel, and remembered by name, size
and time, so that a second run starts at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from nibkit.data.images import EXTENSIONS, read_image, reason
from nibkit.errors import UserError
from nibkit.files import write_json

SHOWN = 20  # bad files named in a message; the rest are counted


@dataclass(frozen=True)
class ImageFile:
    """An image file that was checked; sizes in pixels, upright."""

    path: Path
    width: int
    height: int


def find_images(folder: Path, key: str = "data.root") -> list[Path]:
    """Return all image files below ``folder``, sorted; hidden files and folders are left out.

    Args:
        folder: where to look.
        key: of the config, that the user would set to another folder.

    Raises:
        UserError: the folder is missing, not readable, or holds no image.
    """
    if not folder.is_dir():
        raise UserError(f"image folder '{folder}' does not exist or is no folder; set {key} to a folder of images")
    problems: list[OSError] = []
    found = [
        Path(directory) / name
        for directory, folders, names in os.walk(folder, onerror=problems.append, followlinks=True)
        if _enter(folders)
        for name in names
        if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
    ]
    if problems:
        raise UserError(f"image folder '{problems[0].filename}' cannot be read: {problems[0].strerror}")
    if not found:
        raise UserError(
            f"image folder '{folder}' holds no images; looked for {', '.join(EXTENSIONS)} in all its folders"
        )
    return sorted(found)


def _enter(folders: list[str]) -> bool:
    """Keep ``os.walk`` out of hidden folders, and in order; always true."""
    folders[:] = sorted(name for name in folders if not name.startswith("."))
    return True


def split_by_hash(paths: Sequence[Path], root: Path, seed: int) -> dict[str, list[Path]]:
    """Split files into 80 % train, 10 % val, 10 % test, at least one each.

    The order is a hash of seed and relative name, so it does not depend on the file system.

    Raises:
        UserError: fewer than three files.
    """
    if len(paths) < 3:
        raise UserError(
            f"image folder '{root}' holds {len(paths)} image(s), too few to split; "
            "give at least 3, or folders train/ and val/"
        )
    order = sorted(paths, key=lambda p: hashlib.sha256(f"{seed}/{p.relative_to(root).as_posix()}".encode()).digest())
    part = max(1, round(len(order) / 10))
    return {"test": order[:part], "val": order[part : 2 * part], "train": order[2 * part :]}


def check_images(
    paths: Sequence[Path],
    minimum: int | Mapping[Path, int] = 1,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[ImageFile]:
    """Check that every file is a whole image that is large enough.

    Args:
        paths: image files.
        minimum: shortest side allowed, pixels; for all, or for each.
        cache: folder of the index of files decoded before.
        progress: called with (files decoded, files to decode).

    Raises:
        UserError: names all bad files at once.
    """
    index = FileIndex(cache, paths)
    with ThreadPoolExecutor() as pool:
        headers = list(pool.map(_read_header, paths))
        problems = {path: text for path, text in zip(paths, headers, strict=True) if isinstance(text, str)}
        fresh = [path for path in paths if path not in problems and not index.knows(path)]
        for done, (path, problem) in enumerate(zip(fresh, pool.map(_decode, fresh), strict=True), start=1):
            if problem:
                problems[path] = problem
            else:
                index.add(path)
            if progress:
                progress(done, len(fresh))
    index.save()
    files = [ImageFile(path, *size) for path, size in zip(paths, headers, strict=True) if not isinstance(size, str)]
    for file in files:
        side = minimum if isinstance(minimum, int) else minimum[file.path]
        if min(file.width, file.height) < side:
            problems.setdefault(file.path, f"{file.width}x{file.height} pixels, smaller than {side}x{side}")
    if problems:
        raise UserError(_bad_files(problems))
    return files


def _bad_files(problems: dict[Path, str]) -> str:
    named = [f"{path} ({text})" for path, text in sorted(problems.items())]
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    fix = "remove or replace them"
    if any("smaller than" in text for text in problems.values()):
        fix += ", or lower data.crop_size"
    return f"{len(named)} image file(s) cannot be used: {'; '.join(named[:SHOWN])}{more}; {fix}"


def _read_header(path: Path) -> tuple[int, int] | str:
    """Return (width, height) upright, or what is wrong."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else (image.width, image.height)
    except Exception as error:  # Pillow raises many kinds for a broken file
        return reason(error)


def _decode(path: Path) -> str | None:
    """Read the whole file as training will; return what is wrong, if anything."""
    try:
        read_image(path)
    except UserError as error:
        return reason(error.__cause__ or error)
    return None


class FileIndex:
    """Files that were checked in full before, by name, size and time.

    Args:
        cache: folder of the index; None for none.
        paths: the files.
        kind: what they were checked for.
    """

    def __init__(self, cache: Path | None, paths: Iterable[Path], kind: str = "images") -> None:
        root = os.path.commonpath([path.parent.resolve() for path in paths])
        name = hashlib.sha256(root.encode()).hexdigest()[:16]
        self._file = cache / f"{kind}-{name}.json" if cache else None
        self._known = self._load()
        self._changed = False

    def _load(self) -> dict[str, list[int]]:
        try:
            known = json.loads(self._file.read_text()) if self._file else {}
        except (OSError, ValueError):
            known = {}
        return known if isinstance(known, dict) else {}

    @staticmethod
    def _stamp(path: Path) -> list[int]:
        status = path.stat()
        return [status.st_size, status.st_mtime_ns]

    def knows(self, path: Path) -> bool:
        """Say whether this very file was checked before."""
        return self._known.get(str(path.resolve())) == self._stamp(path)

    def add(self, path: Path) -> None:
        """Remember a file that was checked."""
        self._known[str(path.resolve())] = self._stamp(path)
        self._changed = True

    def save(self) -> None:
        """Write the index; a cache that cannot be written costs time, not the run."""
        if not self._file or not self._changed:
            return
        with contextlib.suppress(UserError):
            write_json(self._file, self._known)


def cache_folder() -> Path:
    """Return the user's cache folder of nibkit (``NIBKIT_CACHE`` or the XDG cache)."""
    base = os.environ.get("NIBKIT_CACHE")
    return Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nibkit"
