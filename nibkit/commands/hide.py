"""``nibkit hide IN OUT`` and ``nibkit restore IN OUT``: colours in the texture of a gray PNG, and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from nibkit.commands import Parser, whole
from nibkit.commands.images import add_in_and_out, do_all, plan, reported_on_images

WHY_GRAY = "JPEG would destroy the texture that hides the colours, PNG keeps every level"
WHY_COLOR = "restored images are written as 8-bit PNG, which loses nothing more"

HIDE_EPILOG = """\
examples:
  nibkit hide photo.jpg gray.png
  nibkit hide photos/ grays/
  nibkit hide photo.jpg gray.png --seed 7
  nibkit hide photo.jpg gray.png --weights RUN_DIR/checkpoints/best.ckpt
  nibkit restore gray.png colour.png

The gray image is an ordinary 8-bit PNG that every program opens. Its fine texture holds the colours, and nibkit
restore brings them back, as long as the pixels stay as they are: do not scale or turn it, do not save it as JPEG or
with fewer levels, and crop it at the top and left by even numbers of pixels only. A text in the file says which
weights hid the colours; restore needs the same.

An image is read upright, transparency is laid on white, 16 bits are rounded to 8, and a gray image is hidden as one
with three equal channels. The file is the same whatever --tile. In a folder all images of its sub-folders are read
too, but for those below OUT; one that cannot be read does not stop the others.

memory: 7 MB a megapixel, and .6 GB for the program: 100 megapixels stay under 2 GB.
"""

RESTORE_EPILOG = """\
examples:
  nibkit restore gray.png colour.png
  nibkit restore grays/ colours/
  nibkit restore gray.png colour.png --weights RUN_DIR/checkpoints/best.ckpt

IN is the 8-bit gray PNG of nibkit hide. Scaled, turned, saved as JPEG or with fewer levels, it has lost its colours;
what a crop leaves has them, if it took even numbers of pixels at the top and left. Gray that a program saved as RGB
with three equal channels is taken, too. Where the file still says which weights hid the colours, others are refused.
OUT is an 8-bit RGB PNG, the same whatever --tile. In a folder all images of its sub-folders are read too, but for
those below OUT; one that cannot be restored does not stop the others.

memory: 4 MB a megapixel, and .6 GB for the program: 100 megapixels stay under 2 GB.
"""


def hide(arguments: Sequence[str] | None = None, prog: str = "nibkit hide") -> None:
    """Run the hide command."""
    with reported_on_images(prog):
        parser = _parser(prog, "Turn images into gray ones that hide the colours in their texture.", HIDE_EPILOG)
        parser.add_argument("--seed", type=whole(0, 2**32 - 1), default=0, metavar="N",
            help="another texture; restore need not know it (default: 0)")  # fmt: skip
        options = parser.parse_args(arguments)
        output = Path(options.output)
        jobs = plan(Path(options.input), output, WHY_GRAY)
        from nibkit.hide import hide_file, load_pair  # imports torch: --help and wrong paths are answered before

        pair = load_pair(options.weights)
        do_all(jobs, partial(hide_file, pair=pair, tile=options.tile, seed=options.seed), output)


def restore(arguments: Sequence[str] | None = None, prog: str = "nibkit restore") -> None:
    """Run the restore command."""
    with reported_on_images(prog):
        parser = _parser(prog, "Bring back the colours of images that nibkit hide made gray.", RESTORE_EPILOG)
        options = parser.parse_args(arguments)
        output = Path(options.output)
        jobs = plan(Path(options.input), output, WHY_COLOR)
        from nibkit.hide import load_pair, restore_file

        do_all(jobs, partial(restore_file, pair=load_pair(options.weights), tile=options.tile), output)


def _parser(prog: str, description: str, epilog: str) -> Parser:
    """Return the parser of what both commands take."""
    parser = Parser(prog, description, epilog)
    add_in_and_out(parser)
    parser.add_argument("--weights", default="invertible_grayscale", metavar="NAME",
        help="shipped weights, a .safetensors or .ckpt file; the same for hide and restore "
        "(default: %(default)s)")  # fmt: skip
    parser.add_argument("--tile", type=whole(1, 2**20), metavar="N",
        help="rows held at a time, rounded up to whole blocks; the file stays the same")  # fmt: skip
    return parser
