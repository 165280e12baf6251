"""``nibkit reproduce NAME``: an experiment of the paper on the user's images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from nibkit.commands import Parser, reported, whole
from nibkit.errors import UserError, choose
from nibkit.reproduce import EXPERIMENTS, SCALES, Options, default_home

FILES = ("segmenter", "inception", "vgg")  # of networks that judge photos of label maps
OF_LABELS = ("labels", "label_settings", *FILES)
OF_IMAGES = ("images", "flat", "train_images", "weights")
# what an experiment leaves aside, where it is more than --weights and the options of label maps
UNUSED = {
    "table2": OF_IMAGES,
    "table4": ("flat", "cells", "home", "launcher", *OF_LABELS),
    "figure1": ("weights", "cells", *FILES),
    "figure3": ("weights", "cells", *OF_LABELS),
    "figure6": (*OF_IMAGES, "cells", *FILES),
    "figure7": ("weights", "cells", *OF_LABELS),
}
EPILOG = """\
experiments:
{experiments}

examples:
  nibkit reproduce table1                                            (embedded images; a first look)
  nibkit reproduce table1 --images photos/ --flat cartoons/ --seeds 0,1,2
  nibkit reproduce table1 --images photos/ --flat cartoons/ --cells resnet,resnet_nib
  nibkit reproduce table2 --labels camvid --home /data --vgg vgg16.pth
  nibkit reproduce table2 --labels my/streets --label-settings num_classes=11 void_id=11
  nibkit reproduce figure1 --images photos/ --flat cartoons/ --labels camvid --home /data
  nibkit reproduce table1 --scale paper --home /data --launcher submitit_slurm --launch partition=gpu gpus_per_node=1
  nibkit reproduce table4 --images photos/ --no-train --weights mine.safetensors

What is trained and measured is kept below --runs: the same call again does only what is missing, whether it was
stopped or images, seeds or weights were added; started several times at once, the calls share the cells. A folder of
images with train/, val/ and test/ in it is split so; another is split at random where it is trained on.
--scale small takes a minute per cell on a CPU (table3: four, table2: 16), medium four times as long (table3: eight
times); paper has the paper's sizes and data, hours per cell on a GPU.
"""


def reproduce(arguments: Sequence[str] | None = None, prog: str = "nibkit reproduce") -> None:
    """Run the reproduce command."""
    with reported(prog):
        given = _parser(prog).parse_args(arguments)
        name = choose("experiment", given.name, EXPERIMENTS)
        _check_used(name, given)
        options = _options(given)
        module, _, function = EXPERIMENTS[name][1].partition(":")
        print(getattr(import_module(module), function)(options))


def _parser(prog: str) -> Parser:
    listed = "\n".join(f"  {name:10}{purpose}" for name, (purpose, _) in EXPERIMENTS.items())
    parser = Parser(prog, "Do an experiment of the paper again, on your images.", EPILOG.format(experiments=listed))
    add = parser.add_argument
    add("name", metavar="NAME", help=", ".join(EXPERIMENTS))
    add("--images", metavar="DIR", help="photos to judge on; and to train on, if split (default: embedded ones)")
    add("--flat", metavar="DIR", help="flat material to judge on, such as comics (default: embedded pages)")
    add("--out", default="results", metavar="DIR", help="folder for NAME.md, .json, .png, .html (default: %(default)s)")
    add("--scale", default="small", metavar="SCALE", help=f"of training: {', '.join(SCALES)} (default: %(default)s)")
    add("--runs", metavar="DIR", help="what was trained and measured before (default: outputs/reproduce)")
    add("--limit", type=whole(1, 10**9), metavar="N", help="only the first N images of each set by name")
    add("--seeds", type=_seeds, default=(0, 1, 2), metavar="N,N", help="of the networks trained (default: 0,1,2)")
    add("--cells", type=_names, default=(), metavar="NAME,NAME", help="train only these rows of a table or figure")
    add("--train-images", metavar="DIR", help="folder of images to train on (default: that of --images)")
    add(
        "--home",
        metavar="DIR",
        help="folder of sets by name, of --labels and --scale paper (default: $NIBKIT_DATA or data)",
    )
    add("--launcher", metavar="NAME", help="train the cells by a launcher of Hydra, such as submitit_slurm")
    add("--launch", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the launcher, such as partition=gpu")
    add(
        "--labels",
        metavar="NAME",
        help="table2, figure1, figure6: photos with label maps: builtin, camvid, facades, cityscapes "
        "below --home, or a folder (default: builtin; at scale paper cityscapes)",
    )
    add("--label-settings", nargs="+", default=[], metavar="KEY=VALUE", help="of these data, such as num_classes=11")
    add("--segmenter", metavar="FILE", help="table2: the network that reads photos for mIoU (default: one is trained)")
    add("--inception", metavar="FILE", help="table2: Inception's weights, for FID (default: if they are found)")
    add("--vgg", metavar="FILE", help="table2: weights of VGG16 or VGG19, for a Fréchet distance of its features")
    add("--weights", nargs="+", default=[], metavar="NAME", help="table4: further networks, .safetensors or .ckpt")
    add("--no-train", action="store_true", help="leave the rows empty whose networks are not trained yet")
    return parser


def _names(text: str) -> tuple[str, ...]:
    """Read ``a,b``; a name that is given twice counts once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _seeds(text: str) -> tuple[int, ...]:
    """Read ``0,1,2``; a seed that is given twice counts once."""
    seed = whole(0, 2**32 - 1)
    return tuple(dict.fromkeys(seed(part.strip()) for part in text.split(",")))


def _check_used(name: str, given: argparse.Namespace) -> None:
    """Raise if an option is given that this experiment would not heed."""
    for option in UNUSED.get(name, ("weights", *OF_LABELS)):
        if getattr(given, option):
            raise UserError(f"--{option.replace('_', '-')} is not for {name}; leave it out")


def _options(given: argparse.Namespace) -> Options:
    """Check what needs no image and no network."""
    if given.no_train and (given.train_images or given.launcher):
        option = "--train-images" if given.train_images else "--launcher"
        raise UserError(f"{option} is for training, but --no-train is given; leave one of them out")
    if given.launch and not given.launcher:
        raise UserError("--launch has settings for a launcher, but --launcher is not given; name one")
    return Options(
        images=_folder("--images", given.images),
        flat=_folder("--flat", given.flat),
        out=Path(given.out),
        runs=Path(given.runs or "outputs/reproduce"),
        scale=choose("--scale", given.scale, SCALES),
        limit=given.limit,
        weights=tuple(dict.fromkeys(given.weights)),
        seeds=given.seeds,
        train=not given.no_train,
        train_images=_folder("--train-images", given.train_images),
        home=Path(given.home) if given.home else default_home(),
        cells=given.cells,
        launcher=given.launcher,
        launcher_options=tuple(f"hydra.launcher.{setting}" for setting in given.launch),
        labels=given.labels,
        label_settings=tuple(given.label_settings),
        segmenter=_file("--segmenter", given.segmenter),
        inception=_file("--inception", given.inception),
        vgg=_file("--vgg", given.vgg),
    )


def _folder(option: str, name: str | None) -> Path | None:
    """Return a folder that was given."""
    if name is not None and not Path(name).is_dir():
        raise UserError(f"{option}='{name}' does not exist or is no folder; name a folder of images")
    return Path(name) if name is not None else None


def _file(option: str, name: str | None) -> Path | None:
    """Return a file that was given."""
    if name is not None and not Path(name).is_file():
        raise UserError(f"{option}='{name}' does not exist or is no file; name a file of weights")
    return Path(name) if name is not None else None
