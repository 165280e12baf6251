"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nibkit.errors import UserError


def check_writable(folder: Path, key: str) -> None:
    """Raise if ``folder`` could not be made or written to; ``key`` is what the user would set to another."""
    fix = f"set {key}= to another folder"
    try:
        existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            raise UserError(f"{key}='{folder}' cannot be written ('{existing}' refuses it); {fix}")
    except OSError as error:  # a name that is too long, a parent that may not be searched
        raise UserError(f"{key}='{folder}' cannot be written: {error.strerror}; {fix}") from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a partial path beside ``path`` to write to; it takes the place of ``path`` at the end.

    Raises:
        UserError: the file cannot be written; what stood there before stays whole.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise UserError(f"cannot write '{path}': {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # where it could not be written there may be nothing to remove
            partial.unlink()


def write_json(path: Path, content: Any) -> None:
    """Write plain values as JSON; NaN is an error."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
