"""``nibkit synthesize IN OUT --checkpoint FILE``: photographs from label maps."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from nibkit.commands import Parser, whole
from nibkit.commands.images import Progress, Work, do_all, plan, reported_on_images
from nibkit.errors import UserError

WHY_PNG = "photographs are written as 8-bit RGB PNG, which loses nothing more"
LONGEST = 2**16  # pixels of a side that --size takes

EPILOG = """\
examples:
  nibkit synthesize labels/ photos/ --checkpoint RUN_DIR/checkpoints/best.ckpt
  nibkit synthesize labels/street.png street.png --checkpoint RUN_DIR/checkpoints/best.ckpt --size 256x512 --seed 7
  nibkit synthesize facades/ photos/ --checkpoint RUN_DIR/checkpoints/best.ckpt --first-id 1
  nibkit synthesize gtFine/val photos/ --checkpoint RUN_DIR/checkpoints/best.ckpt --instances gtFine/val

A label map is a PNG of class numbers: one channel of 8 or 16 bits, or a palette, whose indices are the numbers. They
are those of the data that the checkpoint was trained on, which it knows; others are refused. In a folder all PNG files
of its sub-folders are read, but for those below OUT; one that cannot be used does not stop the others. Where some are
named NAME_labelIds.png, as those of Cityscapes are, no others are read.

Any size works: a map is extended by its border to a multiple of what the network takes, and the photograph cropped. A
network does best at the size of what it was trained on. A map goes through the network as a whole; where that takes
too much memory, give a smaller --size.

The same map, name and --seed give the same photograph, whatever else is in the folder; seed 0 gives the one of a test
of the run, if the map is named as its photo. Another seed moves the noise of a NIB, and draws dropout and dynamic noise
anew. A network that has neither, such as SPADE with nib=none, makes one photograph of a map.
"""


def synthesize(arguments: Sequence[str] | None = None, prog: str = "nibkit synthesize") -> None:
    """Run the synthesize command."""
    with reported_on_images(prog):
        options = _parser(prog).parse_args(arguments)
        source, output = Path(options.input), Path(options.output)
        jobs = plan(source, output, WHY_PNG, _label_maps)
        do_all(jobs, _work(options, source), output)


def _parser(prog: str) -> Parser:
    parser = Parser(prog, "Turn label maps into photographs.", EPILOG)
    add = parser.add_argument
    add("input", metavar="IN", help="a label map, or a folder of label maps")
    add("output", metavar="OUT", help="a .png file, or a folder, which is made, for NAME.png of every label map")
    add("--checkpoint", required=True, metavar="FILE", help="of a run of task=semantic_synthesis")
    add("--size", type=_size, metavar="HxW", help="resize labels to H rows of W pixels first (default: as they are)")
    add("--seed", type=whole(0, 2**32 - 1), default=0, metavar="N", help="other photographs (default: 0)")
    add("--first-id", type=whole(0, 255), default=0, metavar="N",
        help="number of the first class in the files; 1 in those of CMP facades (default: 0)")  # fmt: skip
    add("--instances", metavar="DIR", help="maps of instances by the names of the label maps (of Cityscapes "
        "NAME_instanceIds.png), for a checkpoint trained with data.edges=true")  # fmt: skip
    return parser


def _label_maps(paths: list[Path]) -> list[Path]:
    """Return the label maps among images: PNG files, and of Cityscapes' those of one name."""
    maps = [path for path in paths if path.suffix.lower() == ".png"]
    if not maps:
        raise UserError(f"'{paths[0]}' is no label map; give PNG files of class numbers")
    return [path for path in maps if path.stem.endswith("_labelIds")] or maps


def _size(text: str) -> tuple[int, int]:
    """Return (height, width) of ``HxW``."""
    sides = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    height, width = map(int, sides.groups()) if sides else (0, 0)
    if not (1 <= height <= LONGEST and 1 <= width <= LONGEST):
        raise argparse.ArgumentTypeError(f"'{text}' is no HEIGHTxWIDTH in pixels, such as 256x512")
    return height, width


def _work(options: argparse.Namespace, source: Path) -> Work:
    """Return what makes a photograph of one label map."""
    folder = None if options.instances is None else Path(options.instances)
    if folder is not None and not folder.is_dir():
        raise UserError(f"--instances '{folder}' does not exist or is no folder; name the folder of the instance maps")
    # imports torch: --help is answered before
    from nibkit.synthesize import instances_of, load_generator, synthesize_file

    generator = load_generator(options.checkpoint)
    root = source if source.is_dir() else source.parent

    def work(label: Path, target: Path, /, *, progress: Progress) -> tuple[int, int]:
        instances = None if folder is None else instances_of(label, root, folder)
        return synthesize_file(label, target, generator, instances=instances, size=options.size,
                               first=options.first_id, seed=options.seed, progress=progress)  # fmt: skip

    return work
