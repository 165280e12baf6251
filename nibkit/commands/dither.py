"""``nibkit dither IN OUT``: images to true 1-bit PNGs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from nibkit.commands import Parser, whole
from nibkit.commands.images import Work, add_in_and_out, do_all, plan, reported_on_images
from nibkit.errors import UserError, choose

METHODS = (
    "neural", "floyd_steinberg", "ostromoukhov", "pang", "dbs", "block_descent", "void_and_cluster", "white_noise",
)  # fmt: skip
WHY_PNG = "halftones are written as 1-bit PNG, which keeps every dot"

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
    with reported_on_images(prog):
        options = _parser(prog).parse_args(arguments)
        _check(options)
        output = Path(options.output)
        jobs = plan(Path(options.input), output, WHY_PNG)
        do_all(jobs, _work(options), output)


def _parser(prog: str) -> Parser:
    parser = Parser(prog, "Turn images into halftones: black and white dots that look like the image.", EPILOG)
    add_in_and_out(parser)
    add = parser.add_argument
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


def _work(options: argparse.Namespace) -> Work:
    """Return what halftones one image file."""
    from nibkit.dither import classical, dither_file, neural  # imports torch: --help is answered before

    if options.method == "neural":
        halftone = neural(options.weights or "dithering", options.tile, options.seed, options.refine)
    else:
        halftone = classical(options.method, options.set, options.seed)

    return partial(dither_file, halftone=halftone, dot_size=options.dot_size, linear_light=options.linear_light)
