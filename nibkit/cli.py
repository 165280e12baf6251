"""The command line: ``python train.py ...``, ``python -m nibkit train ...`` and ``nibkit train ...``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nibkit import __version__
from nibkit.errors import UserError

EPILOG = """\
examples:
  python train.py task=dithering
  python train.py task=halftoning nib=none backbone=unet backbone.width=8
  python train.py data=folder data.root=DIR trainer.max_steps=20000 run_dir=runs/a
  python train.py ckpt_path=RUN_DIR/checkpoints/last.ckpt run_dir=RUN_DIR          (resume)
  python train.py mode=test ckpt_path=RUN_DIR/checkpoints/best.ckpt
  python train.py mode=predict input=DIR output=DIR ckpt_path=RUN_DIR/checkpoints/best.ckpt
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``nibkit COMMAND ...``; exit code 2 for what the user can put right."""
    parser = argparse.ArgumentParser(prog="nibkit", description="Image-generation CNNs that do not go flat.")
    parser.add_argument("--version", action="version", version=f"nibkit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("train", help="train, test or predict; see nibkit train --help", add_help=False)
    options, rest = parser.parse_known_args(arguments)
    if options.command == "train":
        train(rest, prog="nibkit train")


def train(arguments: Sequence[str] | None = None, prog: str = "train.py") -> None:
    """Run the training command."""
    parser = _train_parser(prog)
    options, unknown = parser.parse_known_intermixed_args(arguments)
    try:
        if unknown:
            raise UserError(f"unknown option '{unknown[0]}'; settings are written KEY=VALUE, see {prog} --help")
        from nibkit.config import load_config

        config = load_config(options.overrides, options.config_dir)
        if options.cfg:
            from omegaconf import OmegaConf

            print(OmegaConf.to_yaml(config, resolve=True), end="")
            return
        from nibkit.run import run

        run(config)
    except UserError as error:
        print(f"{prog}: error: {_sentence(error)}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno is None:
            raise
        # of the machine, not of the program: no space for a logger, a folder that may not be searched
        where = f": '{error.filename}'" if error.filename else ""
        print(f"{prog}: error: {error.strerror}{where}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _sentence(error: UserError) -> str:
    """Return the error's own sentence, without the traceback that a loader process wraps around it."""
    text = str(error)
    return text.strip().splitlines()[-1].partition("UserError: ")[2] if "Original Traceback" in text else text


def _train_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Train a network and test its best checkpoint. Settings are Hydra overrides: KEY=VALUE.",
        epilog=_choices() + EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="a group's choice or any key of the config")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with config groups of your own")
    parser.add_argument("--cfg", action="store_true", help="print the resolved config and stop")
    return parser


def _choices() -> str:
    """Return the shipped choices of each config group, read from the package's files."""
    from importlib.resources import files

    root = files("nibkit") / "configs"
    lines = ["groups and choices:"]
    for group in ("task", "data", "backbone", "nib", "trainer", "callbacks", "logger", "experiment"):
        names = sorted(f.name.removesuffix(".yaml") for f in (root / group).iterdir() if f.name.endswith(".yaml"))
        lines.append(f"  {group + '=':13}{', '.join(names)}")
    return "\n".join(lines) + "\n\nevery key, with its value: train.py --cfg\n\n"
