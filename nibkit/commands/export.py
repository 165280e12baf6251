"""``nibkit export CHECKPOINT OUT.safetensors``: the network of a training checkpoint as a small file, or as ONNX."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from nibkit.commands import Parser, reported
from nibkit.errors import UserError

EPILOG = """\
examples:
  nibkit export RUN_DIR/checkpoints/best.ckpt mine.safetensors --half --about "trained on my photos"
  nibkit dither photo.jpg photo.png --weights mine.safetensors
  nibkit export mine.safetensors mine.onnx              (for onnxruntime; CHECKPOINT may be a shipped name, too)
"""


def export(arguments: Sequence[str] | None = None, prog: str = "nibkit export") -> None:
    """Run the export command."""
    with reported(prog):
        options = _parser(prog).parse_args(arguments)
        write = _writer(Path(options.output))
        if not Path(options.output).absolute().parent.is_dir():
            raise UserError(f"the folder '{Path(options.output).parent}' of OUT does not exist; make it first")
        write(options)
        print(f"wrote {options.output}")


def _writer(output: Path) -> Callable[[argparse.Namespace], None]:
    """Return what writes files of this suffix."""
    writers = {".safetensors": _safetensors, ".onnx": _onnx}
    if output.suffix not in writers:
        raise UserError(f"OUT '{output}' has no suffix that can be written; end it in {' or '.join(writers)}")
    return writers[output.suffix]


def _safetensors(options: argparse.Namespace) -> None:
    from nibkit.weights import build_network, read_weights, save_weights

    weights = read_weights(options.checkpoint)
    build_network(weights, options.checkpoint)  # what is written can be loaded
    about = weights.about if options.about is None else options.about
    groups = weights.backbone, weights.nib
    save_weights(options.output, *groups, weights.state, task=weights.task, about=about, half=options.half)


def _onnx(options: argparse.Namespace) -> None:
    from nibkit.onnx_export import save_onnx
    from nibkit.weights import build_network, read_weights

    if options.half:
        raise UserError("--half is for .safetensors; an .onnx is written in single precision")
    weights = read_weights(options.checkpoint)
    network = build_network(weights, options.checkpoint)
    about = weights.about if options.about is None else options.about
    save_onnx(options.output, network, task=weights.task, about=about)


def _parser(prog: str) -> Parser:
    parser = Parser(prog, "Write the network of a training checkpoint, without the state of its training.", EPILOG)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a .ckpt of a run, a .safetensors or a shipped name")
    parser.add_argument("output", metavar="OUT.safetensors", help="the file, or OUT.onnx; its folder must exist")
    parser.add_argument("--half", action="store_true", help="half-precision numbers: half the size, loaded as float32")
    parser.add_argument("--about", metavar="TEXT", help="one line for people, kept in the file")
    return parser
