"""``nibkit reproduce NAME``: an experiment of the paper on the user's images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from nibkit.commands import Parser, reported, whole
from nibkit.errors import UserError, choose
from nibkit.reproduce import EXPERIMENTS, SCALES, Options

EPILOG = """\
experiments:
{experiments}

examples:
  nibkit reproduce table4 --images photos/
  nibkit reproduce table4 --images photos/ --no-train --weights mine.safetensors
  nibkit reproduce table4 --images photos/ --scale paper --train-images other_photos/ --seeds 0,1,2

What is trained and measured is kept below --runs: the same call again does only what is missing, whether it was
stopped or images, seeds or weights were added. --scale small trains the default configuration for 2,000 steps on
each seed, minutes on a CPU; paper trains networks of 32 channels for 50,000 steps of 8 crops, hours on a GPU.
"""


def reproduce(arguments: Sequence[str] | None = None, prog: str = "nibkit reproduce") -> None:
    """Run the reproduce command."""
    with reported(prog):
        given = _parser(prog).parse_args(arguments)
        name, options = choose("experiment", given.name, EXPERIMENTS), _options(given)
        module, _, function = EXPERIMENTS[name][1].partition(":")
        print(getattr(import_module(module), function)(options))


def _parser(prog: str) -> Parser:
    listed = "\n".join(f"  {name:10}{purpose}" for name, (purpose, _) in EXPERIMENTS.items())
    parser = Parser(prog, "Do an experiment of the paper again, on your images.", EPILOG.format(experiments=listed))
    add = parser.add_argument
    add("name", metavar="NAME", help=", ".join(EXPERIMENTS))
    add("--images", required=True, metavar="DIR", help="images that all methods are judged on; none to train on")
    add("--out", default="results", metavar="DIR", help="folder for NAME.md, .json and .png (default: %(default)s)")
    add("--scale", default="small", metavar="SCALE", help=f"of training: {', '.join(SCALES)} (default: %(default)s)")
    add("--runs", metavar="DIR", help="what was trained and measured before (default: outputs/reproduce/NAME)")
    add("--limit", type=whole(1, 10**9), metavar="N", help="only the first N images by name")
    add("--weights", nargs="+", default=[], metavar="NAME", help="further networks: .safetensors or .ckpt files")
    add("--seeds", type=_seeds, default=(0, 1, 2), metavar="N,N", help="of the networks trained (default: 0,1,2)")
    add("--train-images", metavar="DIR", help="folder of images to train on (default: the embedded data)")
    add("--no-train", action="store_true", help="leave the rows empty whose networks are not trained yet")
    return parser


def _seeds(text: str) -> tuple[int, ...]:
    """Read ``0,1,2``; a seed that is given twice counts once."""
    seed = whole(0, 2**32 - 1)
    return tuple(dict.fromkeys(seed(part.strip()) for part in text.split(",")))


def _options(given: argparse.Namespace) -> Options:
    """Check what needs no image and no network."""
    if given.no_train and given.train_images:
        raise UserError("--train-images is for training, but --no-train is given; leave one of them out")
    return Options(
        images=Path(given.images),
        out=Path(given.out),
        runs=Path(given.runs or f"outputs/reproduce/{given.name}"),
        scale=choose("--scale", given.scale, SCALES),
        limit=given.limit,
        weights=tuple(dict.fromkeys(given.weights)),
        seeds=given.seeds,
        train=not given.no_train,
        train_images=Path(given.train_images) if given.train_images else None,
    )
