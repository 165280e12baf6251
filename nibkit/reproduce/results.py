"""The files of an experiment: where they go, of which version they are, and how they are written."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nibkit import __version__
from nibkit.errors import UserError
from nibkit.files import check_writable, whole_file, write_json
from nibkit.reproduce import Options


def check_folders(options: Options, files: Sequence[str]) -> None:
    """Raise if the results, or what is kept, could not be written."""
    for folder, key in ((options.out, "--out"), (options.runs, "--runs")):
        check_writable(folder, key, "choose another folder")
    for name in files:
        if (options.out / name).is_dir():
            raise UserError(f"--out: '{options.out / name}' is a folder where a file shall be; choose another folder")


def check_version(place: Path, record: Path, fix: str) -> None:
    """Raise if ``place`` is of another version of nibkit: figures of two versions are not put into one table.

    Args:
        place: of which the sentence speaks.
        record: a JSON file with ``versions``.
        fix: what the user can do.
    """
    try:
        made_by = json.loads(record.read_text())["versions"]["nibkit"]
    except (OSError, ValueError, KeyError, TypeError):
        made_by = None
    if made_by != __version__:
        raise UserError(f"'{place}' is of nibkit {made_by or 'of an unknown version'}, this is {__version__}; {fix}")


def write_files(out: Path, names: Sequence[str], text: str, content: dict[str, Any], picture: bytes, html: str) -> None:
    """Write Markdown, JSON, PNG and HTML, each whole or not at all."""
    write_json(out / names[1], content)
    for name, data in zip((names[0], *names[2:]), (text.encode(), picture, html.encode()), strict=True):
        with whole_file(out / name) as partial:
            partial.write_bytes(data)
    say(f"wrote {', '.join(names)} to {out}")


def say(line: str) -> None:
    """Tell on standard error what is being done; standard output is the table's."""
    print(line, file=sys.stderr, flush=True)
