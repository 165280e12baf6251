"""``nibkit export CHECKPOINT OUT.safetensors``: the network of a training checkpoint as a small file, or as ONNX."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nibkit.commands import Parser, reported, whole
from nibkit.errors import UserError

if TYPE_CHECKING:  # torch is imported where it is used, so that bad input is told at once
    from nibkit.backbones import Backbone
    from nibkit.weights import Weights

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
    from nibkit.weights import save_weights

    weights, _ = _read(options)
    about, refinement = weights.about, weights.refinement
    groups = weights.backbone, weights.nib, weights.state
    save_weights(options.output, *groups, task=weights.task, about=about, half=options.half, refinement=refinement)


def _onnx(options: argparse.Namespace) -> None:
    from nibkit.onnx_export import save_onnx

    if options.half:
        raise UserError("--half is for .safetensors; an .onnx is written in single precision")
    weights, network = _read(options)
    save_onnx(options.output, network, task=weights.task, about=weights.about)


def _read(options: argparse.Namespace) -> tuple[Weights, Backbone]:
    """Return what is to be written, and the network built of it: what cannot be built is not written."""
    from nibkit.refine import Refined, Refinement
    from nibkit.weights import build_network, read_weights

    weights = read_weights(options.checkpoint)
    network = build_network(weights, options.checkpoint)
    given = {"sweeps": options.refine, "structure": options.structure}
    changed = weights.refinement | {key: value for key, value in given.items() if value is not None}
    about = weights.about if options.about is None else options.about
    weights = replace(weights, about=about, refinement=changed)
    refinement = Refinement(**({"sweeps": 0} | weights.refinement))
    if refinement.sweeps and (network.in_channels, network.out_channels) != (1, 1):
        raise UserError(f"the answer of '{options.checkpoint}' is no halftone that could be refined; use --refine 0")
    return weights, Refined(network, refinement).eval() if refinement.sweeps else network


def _parser(prog: str) -> Parser:
    parser = Parser(prog, "Write the network of a training checkpoint, without the state of its training.", EPILOG)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a .ckpt of a run, a .safetensors or a shipped name")
    parser.add_argument("output", metavar="OUT.safetensors", help="the file, or OUT.onnx; its folder must exist")
    parser.add_argument("--half", action="store_true", help="half-precision numbers: half the size, loaded as float32")
    sweeps = "sweeps of refinement that its halftones get; default: as in CHECKPOINT; inside the graph of an .onnx"
    parser.add_argument("--refine", type=whole(0, 100), metavar="N", help=sweeps)
    parser.add_argument("--structure", type=float, metavar="W", help="weight of structure in the refinement")
    parser.add_argument("--about", metavar="TEXT", help="one line for people, kept in the file")
    return parser
