"""What the commands that turn images into images share: IN and OUT as files or folders, and doing all of them."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from nibkit.commands import Parser, reported
from nibkit.errors import UserError

SHOWN = 20  # failures named in a message; the rest are counted

Job = tuple[Path, Path]  # image, what is made of it
Progress = Callable[[int, int], None]  # called with (done, all) parts of an image
Choose = Callable[[list[Path]], list[Path]]  # which files of those found are meant; raises UserError if none is


class Work(Protocol):
    """Does one job."""

    def __call__(self, source: Path, target: Path, /, *, progress: Progress) -> tuple[int, int]:
        """Write ``target``, return its (width, height); raise :class:`UserError` if it cannot be done."""
        ...


@contextmanager
def reported_on_images(prog: str) -> Iterator[None]:
    """Report errors as :func:`nibkit.commands.reported` does, but no warnings."""
    with reported(prog), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about odd files that it reads all the same
        yield


def add_in_and_out(parser: Parser) -> None:
    """Add the arguments IN and OUT, as ``input`` and ``output``."""
    parser.add_argument("input", metavar="IN", help="an image file, or a folder of images")
    parser.add_argument(
        "output", metavar="OUT", help="a .png file, or a folder, which is made, for NAME.png of every image"
    )


def plan(source: Path, output: Path, why_png: str, choose: Choose = list) -> list[Job]:
    """Return the jobs of an image file or of all images of a folder.

    Args:
        source: IN.
        output: OUT; of a folder a folder, of a file either.
        why_png: what a file with another suffix than .png is told.
        choose: which of the images are meant; all by default.

    Raises:
        UserError: nothing to read, or nowhere to write.
    """
    if not source.exists():
        raise UserError(f"IN '{source}' does not exist; give an image file or a folder of images")
    if source.is_dir():
        return _folder_jobs(source, output, choose)
    return [_file_job(path, output, why_png) for path in choose([source])]


def _file_job(source: Path, output: Path, why_png: str) -> Job:
    """Return the one job of a file; an existing folder gets the file's stem."""
    target = output / f"{source.stem}.png" if output.is_dir() else output
    if target.suffix.lower() != ".png":
        raise UserError(f"OUT '{target}' must end in .png: {why_png}")
    if not target.parent.is_dir():
        raise UserError(f"the folder '{target.parent}' of OUT does not exist; make it first")
    if target.resolve() == source.resolve():
        raise UserError(f"OUT '{target}' would overwrite IN; choose another name")
    return source, target


def _folder_jobs(source: Path, output: Path, choose: Choose) -> list[Job]:
    """Return the jobs of all images below ``source``, but for those below ``output``: made by a previous call."""
    from nibkit.data.scan import find_images  # imports torch: --help and wrong paths are answered before
    from nibkit.files import check_writable, png_names

    if output.suffix.lower() == ".png" or output.is_file():
        raise UserError(f"OUT '{output}' is a file but IN '{source}' is a folder; give a folder as OUT")
    if output.resolve() == source.resolve():
        raise UserError(f"OUT '{output}' is IN; choose another folder")
    check_writable(output, "OUT", "choose another folder")
    images = [path for path in find_images(source, "IN") if not path.resolve().is_relative_to(output.resolve())]
    if not images:
        raise UserError(f"IN '{source}' holds no images but those below OUT '{output}'")
    return png_names(choose(images), source, output)


def do_all(jobs: Sequence[Job], work: Work, output: Path) -> None:
    """Do all jobs and say so; one that fails does not stop the others.

    Raises:
        UserError: names and counts at the end what failed.
    """
    start, pixels, failures = time.perf_counter(), 0, []
    with _bars(jobs) as bars:
        for (source, target), progress in bars:
            try:
                width, height = work(source, target, progress=progress)
                pixels += width * height
            except UserError as error:
                failures.append(str(error))
    if len(jobs) == 1 and failures:
        raise UserError(failures[0])
    where = jobs[0][1] if len(jobs) == 1 else output
    done = f"{len(jobs) - len(failures)} of {len(jobs)} images to " if len(jobs) > 1 else ""
    print(f"wrote {done}{where}: {pixels / 1e6:.2f} megapixels in {time.perf_counter() - start:.1f} s")
    if failures:
        more = f"; and {len(failures) - SHOWN} more" if len(failures) > SHOWN else ""
        raise UserError(f"{len(failures)} of {len(jobs)} images failed: {'; '.join(failures[:SHOWN])}{more}")


@contextmanager
def _bars(jobs: Sequence[Job]) -> Iterator[Iterator[tuple[Job, Progress]]]:
    """Show, on a terminal, a bar of all images and one of the current; yield each job with what moves the latter."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    console = Console(file=sys.stderr)
    with Bars(console=console, transient=True, disable=not console.is_terminal) as bars:
        images = bars.add_task("images", total=len(jobs), visible=len(jobs) > 1)
        current = bars.add_task("", total=None)

        def each() -> Iterator[tuple[Job, Progress]]:
            for job in jobs:
                bars.reset(current, description=job[0].name, total=None)
                yield job, lambda done, total: bars.update(current, completed=done, total=total)
                bars.advance(images)

        yield each()
