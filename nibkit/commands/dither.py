"""``nibkit dither IN OUT``: images to true 1-bit PNGs."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nibkit.commands import Parser, reported, whole
from nibkit.errors import UserError, choose

if TYPE_CHECKING:  # they import torch: --help and wrong paths are answered before
    from nibkit.dither import Halftoner

METHODS = (
    "neural", "floyd_steinberg", "ostromoukhov", "pang", "dbs", "block_descent", "void_and_cluster", "white_noise",
)  # fmt: skip
SHOWN = 20  # failures named in a message; the rest are counted

Job = tuple[Path, Path]  # image, halftone
Progress = Callable[[int, int], None]

EPILOG = """\
examples:
  nibkit dither photo.jpg photo.png
  nibkit dither photo.jpg poster.png --dot-size 4 --linear-light
  nibkit dither photo.jpg photo.png --refine 12
  nibkit dither photos/ halftones/ --method dbs --set sigma=1.0
  nibkit dither photo.jpg photo.png --weights RUN_DIR/checkpoints/best.ckpt

An image is read upright, transparency is laid on white, and gray is .299 R + .587 G + .114 B. The halftone is a
true 1-bit PNG, the same file whatever --tile. In a folder all images of its sub-folders are read too, but for those
below OUT; one that cannot be read does not stop the others.

memory: neural holds 2 bytes a pixel beside the decoded image, 2 GiB do for 100 megapixels. The classical methods
work on the whole image at once: 100 megapixels take about 4 GiB for white_noise, void_and_cluster and error diffusion
(floyd_steinberg, ostromoukhov), 5 GiB for dbs and 14 GiB for pang.
"""


def dither(arguments: Sequence[str] | None = None, prog: str = "nibkit dither") -> None:
    """Run the dither command."""
    with reported(prog), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about odd files that it reads all the same
        options = _parser(prog).parse_args(arguments)
        _check(options)
        source, output = Path(options.input), Path(options.output)
        jobs = _folder_jobs(source, output) if _is_folder(source) else [_file_job(source, output)]
        _run(jobs, _halftoner(options), options, output)


def _parser(prog: str) -> Parser:
    parser = Parser(prog, "Turn images into halftones: black and white dots that look like the image.", EPILOG)
    add = parser.add_argument
    add("input", metavar="IN", help="an image file, or a folder of images")
    add("output", metavar="OUT", help="a .png file, or a folder, which is made, for NAME.png of every image")
    add("--method", default="neural", metavar="NAME", help=f"{', '.join(METHODS)} (default: %(default)s)")
    add("--weights", metavar="NAME", help="neural: shipped weights, a .safetensors or .ckpt file (default: dithering)")
    add("--tile", type=whole(1, 2**20), metavar="N", help="neural: rows held at a time, rounded up to whole blocks")
    add("--refine", type=whole(0, 100), metavar="N", help="neural: sweeps of refinement; 0: the network alone "
        "(default: what the weights ask for, 5 for the shipped dithering)")  # fmt: skip
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="an option of a classical method; repeatable")
    add("--dot-size", type=whole(1, 256), default=1, metavar="N",
        help="dots of NxN pixels: the image is reduced by N (area filter), dithered and enlarged; "
        "width and height are rounded up to multiples of N")  # fmt: skip
    add("--seed", type=whole(0, 2**32 - 1), default=0, metavar="N",
        help="another pattern of dots, where the method draws one (default: 0)")  # fmt: skip
    add(
        "--linear-light",
        action="store_true",
        help="gray is the luminance of linear light: for screens and print without dot gain",
    )
    return parser


def _check(options: argparse.Namespace) -> None:
    """Refuse an unknown method, and options of another method."""
    choose("--method", options.method, METHODS)
    if options.method == "neural" and options.set:
        raise UserError(f"--set {options.set[0]} is for the classical methods; add --method with one of them")
    for name in ("weights", "tile", "refine"):
        if options.method != "neural" and getattr(options, name) is not None:
            raise UserError(f"--{name} is for --method neural, not for {options.method}; leave one of them out")


def _halftoner(options: argparse.Namespace) -> Halftoner:
    from nibkit.dither import classical, neural

    if options.method == "neural":
        return neural(options.weights or "dithering", options.tile, options.seed, options.refine)
    return classical(options.method, options.set, options.seed)


def _is_folder(source: Path) -> bool:
    if not source.exists():
        raise UserError(f"IN '{source}' does not exist; give an image file or a folder of images")
    return source.is_dir()


def _file_job(source: Path, output: Path) -> Job:
    """Return the one job of a file; an existing folder gets the file's stem."""
    target = output / f"{source.stem}.png" if output.is_dir() else output
    if target.suffix.lower() != ".png":
        raise UserError(f"OUT '{target}' must end in .png: halftones are written as 1-bit PNG, which keeps every dot")
    if not target.parent.is_dir():
        raise UserError(f"the folder '{target.parent}' of OUT does not exist; make it first")
    if target.resolve() == source.resolve():
        raise UserError(f"OUT '{target}' would overwrite IN; choose another name")
    return source, target


def _folder_jobs(source: Path, output: Path) -> list[Job]:
    """Return the jobs of all images below ``source``, but for those below ``output``: halftones of a previous call."""
    from nibkit.data.scan import find_images
    from nibkit.files import check_writable, png_names

    if output.suffix.lower() == ".png" or output.is_file():
        raise UserError(f"OUT '{output}' is a file but IN '{source}' is a folder; give a folder as OUT")
    if output.resolve() == source.resolve():
        raise UserError(f"OUT '{output}' is IN; choose another folder")
    check_writable(output, "OUT", "choose another folder")
    images = [path for path in find_images(source, "IN") if not path.resolve().is_relative_to(output.resolve())]
    if not images:
        raise UserError(f"IN '{source}' holds no images but those below OUT '{output}'")
    return png_names(images, source, output)


def _run(jobs: Sequence[Job], halftone: Halftoner, options: argparse.Namespace, output: Path) -> None:
    """Do all jobs; name and count at the end what failed."""
    from nibkit.dither import dither_file

    start, pixels, failures = time.perf_counter(), 0, []
    settings = {"dot_size": options.dot_size, "linear_light": options.linear_light}
    with _bars(jobs) as bars:
        for (source, target), progress in bars:
            try:
                width, height = dither_file(source, target, halftone, progress=progress, **settings)
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
