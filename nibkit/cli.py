"""The command line: ``nibkit COMMAND ...``, ``python -m nibkit COMMAND ...``, and ``python train.py ...``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from nibkit import __version__
from nibkit.commands import reported
from nibkit.errors import UserError
from nibkit.memory import keep_freed_memory

EPILOG = """\
examples:
  python train.py task=dithering
  python train.py task=halftoning nib=none backbone=unet backbone.width=8
  python train.py -m task=halftoning seed=0,1,2 backbone=resnet,unet               (6 runs)
  python train.py data=folder data.root=DIR trainer.max_steps=20000 run_dir=runs/a
  python train.py run_dir=runs/a ckpt_path=auto                                    (begin, or go on)
  python train.py mode=test ckpt_path=RUN_DIR/checkpoints/best.ckpt
  python train.py mode=predict input=DIR output=DIR ckpt_path=RUN_DIR/checkpoints/best.ckpt
"""


# name: (one line of help, where its function is)
COMMANDS = {
    "dither": ("turn an image or a folder of images into black and white dots", "nibkit.commands.dither:dither"),
    "hide": ("hide the colours of an image in an ordinary gray one", "nibkit.commands.hide:hide"),
    "restore": ("bring back the colours of an image that hide made gray", "nibkit.commands.hide:restore"),
    "demo": ("open a page to try all this in the browser", "nibkit.commands.demo:demo"),
    "synthesize": ("turn label maps into photographs", "nibkit.commands.synthesize:synthesize"),
    "train": ("train, test or predict with a network", "nibkit.cli:train"),
    "export": ("write the network of a training checkpoint as a small file", "nibkit.commands.export:export"),
    "reproduce": ("do an experiment of the paper again, on your images", "nibkit.commands.reproduce:reproduce"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``nibkit COMMAND ...``; exit code 2 for what the user can put right."""
    parser = argparse.ArgumentParser(
        prog="nibkit",
        description="Image-generation CNNs that do not go flat.",
        epilog="options and examples of a command: nibkit COMMAND --help",
    )
    parser.add_argument("--version", action="version", version=f"nibkit {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for name, (purpose, _) in COMMANDS.items():
        commands.add_parser(name, help=purpose, add_help=False)
    keep_freed_memory()
    given = sys.argv[1:] if arguments is None else list(arguments)
    name = parser.parse_args(given[:1]).command
    module, _, function = COMMANDS[name][1].partition(":")
    getattr(import_module(module), function)(given[1:], prog=f"nibkit {name}")


def train(arguments: Sequence[str] | None = None, prog: str = "train.py") -> None:
    """Run the training command."""
    keep_freed_memory()
    with reported(prog):
        options, unknown = _train_parser(prog).parse_known_intermixed_args(arguments)
        if unknown:
            raise UserError(f"unknown option '{unknown[0]}'; settings are written KEY=VALUE, see {prog} --help")
        if options.multirun:
            _multirun(options, prog)
            return
        from nibkit.config import load_config

        config = load_config(options.overrides, options.config_dir)
        if options.cfg:
            from omegaconf import OmegaConf

            print(OmegaConf.to_yaml(config, resolve=True), end="")
            return
        from nibkit.run import run

        run(config)


def _multirun(options: argparse.Namespace, prog: str) -> None:
    """Run every point of a grid; exit code 1 if some failed."""
    if options.cfg:
        raise UserError("--cfg prints one configuration; leave out --multirun")
    from nibkit.multirun import multirun

    failed = multirun(options.overrides, options.config_dir)
    if failed:
        sys.exit("\n".join([f"{prog}: {len(failed)} run(s) failed:", *failed]))


def _train_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Train a network and test its best checkpoint. Settings are Hydra overrides: KEY=VALUE.",
        epilog=_choices() + EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="a group's choice or any key of the config")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with config groups of your own")
    parser.add_argument("-m", "--multirun", action="store_true", help="run each combination of the values in KEY=A,B")
    parser.add_argument("--cfg", action="store_true", help="print the resolved config and stop")
    return parser


def _choices() -> str:
    """Return the choices of each config group, read from the files of the package and of installed plug-ins."""
    from nibkit.plugins import config_folders

    roots = [Path(__file__).parent / "configs", *config_folders()]
    lines = ["groups and choices:"]
    for group in ("task", "data", "backbone", "nib", "trainer", "callbacks", "logger", "experiment"):
        names = sorted({file.stem for root in roots for file in (root / group).glob("*.yaml")})
        lines.append(f"  {group + '=':13}{', '.join(names)}")
    return "\n".join(lines) + "\n\nevery key, with its value: train.py --cfg\n\n"
