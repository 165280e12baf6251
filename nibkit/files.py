"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nibkit.errors import UserError


def check_writable(folder: Path, key: str, fix: str = "") -> None:
    """Raise if ``folder`` could not be made or written to; ``key`` is what the user would set to another."""
    fix = fix or f"set {key}= to another folder"
    try:
        existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            raise UserError(f"{key}='{folder}' cannot be written ('{existing}' refuses it); {fix}")
    except OSError as error:  # a name that is too long, a parent that may not be searched
        raise UserError(f"{key}='{folder}' cannot be written: {error.strerror}; {fix}") from error


def png_names(images: Sequence[Path], root: Path, output: Path) -> list[tuple[Path, Path]]:
    """Return (image, PNG of the same stem below ``output``) of images below ``root``; sub-folders are kept.

    Raises:
        UserError: two images would become one file, or one would be overwritten.
    """
    jobs = [(image, (output / image.relative_to(root)).with_suffix(".png")) for image in images]
    taken: dict[Path, Path] = {}
    for image, target in jobs:
        if target in taken:
            raise UserError(f"'{image}' and '{taken[target]}' would both become '{target}'; rename one")
        if target.resolve() == image.resolve():
            raise UserError(f"output='{output}' would overwrite the input '{image}'; choose another folder")
        taken[target] = image
    return jobs


@contextmanager
def whole_file(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yield a partial path beside ``path`` to write to; it takes the place of ``path`` at the end.

    Args:
        path: of the file.
        durable: wait until it is on the disk, so that a power cut leaves one of the two whole.

    Raises:
        UserError: the file cannot be written; what stood there before stays whole.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if durable:
            _flush(partial)
        partial.replace(path)
        if durable:
            _flush(path.parent)
    except OSError as error:
        raise UserError(f"cannot write '{path}': {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # where it could not be written there may be nothing to remove
            partial.unlink()


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Any) -> None:
    """Write plain values as JSON; NaN is an error."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
