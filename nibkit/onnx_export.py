"""Trained networks as ONNX files, for onnxruntime and other places without PyTorch.

    image [B, C, H, W] in [-1, 1], noise [B, N, Hx, Wx]  ->  answer [B, out_channels, H, W]

The answer is that of ``Backbone.forward``; batch, height and width are free. The graph extends the image and crops
the answer itself. The noise of the NIB is an input, so that one kind of graph serves every noise mode: the field
under the extended image, which begins ``extension`` pixels above and left of the image,

    Hx = ceil(H / multiple) * multiple + 2 * extension,   Wx alike.

:func:`noise_for` makes it. A network without NIB takes the image only. The metadata of the file say all this:

    session = onnxruntime.InferenceSession("mine.onnx")
    noise = noise_for(session.get_modelmeta().custom_metadata_map, height, width)
    (answer,) = session.run(None, {"image": image, "noise": noise})

A refined network (:mod:`nibkit.refine`) is one graph, too. It decides inside, and may decide otherwise than PyTorch
where two choices are a tie within rounding: measured on photos with a trained network for none of 344 904 pixels, on
noise-like pictures for about 1 in 8 000, a third of what PyTorch itself flips if the image is moved by one rounding.
To write such a graph takes about twelve seconds per sweep.

Of invertible grayscale each half is a graph of its own: give ``network.encoder`` or ``network.decoder``.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nibkit.backbones import Backbone, InvertibleGrayscale
from nibkit.errors import UserError
from nibkit.files import whole_file
from nibkit.nib import NIB, make_stem
from nibkit.refine import Refined

FORMAT_VERSION = "1"
PACKAGES = ("onnx", "onnxscript")
EXAMPLE = (2, 19, 26)  # batch, height, width of what is traced: no two alike, none 1 or a multiple of 8
FREE = {
    "image": {0: "batch", 2: "height", 3: "width"},
    "noise": {0: "batch", 2: "noise_height", 3: "noise_width"},
}


def save_onnx(path: str | Path, network: Backbone, *, task: str, about: str = "") -> None:
    """Write a trained network to ``path``, whole or not at all.

    Args:
        path: of the file, ``.onnx``.
        network: of any backbone; it stays as it is.
        task: what it was trained for: ``dithering``, ``halftoning``, ...
        about: one line for people.

    Raises:
        UserError: a package is missing, the network is a pair, or the file cannot be written.
    """
    if isinstance(network, InvertibleGrayscale):  # its halves are used apart, and each has sizes and noise of its own
        raise UserError(
            "an encoder and its decoder are no single ONNX graph; from Python write each by itself: "
            "save_onnx(PATH, network.encoder, task=...), and network.decoder alike"
        )
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(f'to write ONNX, {" and ".join(missing)} must be installed: pip install "nibkit[export]"')
    network = copy.deepcopy(network).cpu().float().eval()
    facts = {"format_version": FORMAT_VERSION, "task": task, "about": " ".join(about.split()), **describe(network)}
    with _quiet():
        model = _translate(network)
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)
    with whole_file(Path(path)) as partial:
        partial.write_bytes(model.SerializeToString())


def noise_for(
    network: Backbone | Mapping[str, str], height: int, width: int, batch: int = 1, origin: tuple[int, int] = (0, 0)
) -> NDArray[np.float32]:
    """Return the second input of a network's ONNX graph, ``[batch, N, Hx, Wx]``: the noise that PyTorch would add.

    Args:
        network: in eval mode, or the metadata of its ONNX file.
        height: of the image, pixels.
        width: likewise.
        batch: number of images.
        origin: absolute (y, x) of the images' top left pixel in the noise field. A dynamic field has none: it is
            drawn anew at each call from torch's global generator.

    Raises:
        UserError: a size below 1, a network without NIB, metadata that are not of :func:`save_onnx`.
    """
    if min(height, width, batch) < 1:
        raise UserError(f"height={height}, width={width} and batch={batch} must be at least 1")
    facts = describe(network) if isinstance(network, Backbone) else network
    nib = _nib(facts)
    multiple, extension = int(facts["multiple"]), int(facts["extension"])
    sides = [-(-side // multiple) * multiple + 2 * extension for side in (height, width)]
    corner = torch.tensor([origin]).expand(batch, 2) - extension
    field: NDArray[np.float32] = nib.noise(batch, nib.noise_channels, sides[0], sides[1], corner).contiguous().numpy()
    return field


def describe(network: Backbone) -> dict[str, str]:
    """Return what a network, in eval mode, takes and answers: most of the metadata of its ONNX file."""
    extension = network.extension() if network.padding == "extend" else 0
    facts = {
        "image": f"[B, {network.in_channels}, H, W] float32 in [-1, 1]: -1 black, 1 white",
        "answer": f"[B, {network.out_channels}, H, W] float32, unbounded: a halftone is white where it is above 0",
        "in_channels": str(network.in_channels),
        "margin": str(network.margin),
        "multiple": str(network.multiple),
        "extension": str(extension),
        "nib": json.dumps(network.nib),
        "refinement": json.dumps(asdict(network.refinement) if isinstance(network, Refined) else {}),
    }
    return facts | {"noise": _noise_in_words(facts)}


def _noise_in_words(facts: Mapping[str, str]) -> str:
    """Return shape, kind and seed of the noise, and how to make it."""
    if not _has_nib(facts):
        return "none: this network has no NIB"
    nib, extension = _nib(facts), facts["extension"]
    sides = ", ".join(f"ceil({side} / {facts['multiple']}) * {facts['multiple']} + 2 * {extension}" for side in "HW")
    return (
        f"[B, {nib.noise_channels}, {sides}] float32: {nib.noise}, from {extension} pixels above and left of the "
        "image; made by nibkit.onnx_export.noise_for(metadata, H, W, B)"
    )


def _has_nib(facts: Mapping[str, str]) -> bool:
    return isinstance(_stem(facts), NIB)


def _nib(facts: Mapping[str, str]) -> NIB:
    """Return a NIB with the noise that the metadata tell; its convolution is without meaning."""
    stem = _stem(facts)
    if not isinstance(stem, NIB):
        raise UserError("this network has no NIB and takes no noise")
    return stem


def _stem(facts: Mapping[str, str]) -> nn.Module:
    try:
        with torch.device("meta"):  # no memory, and no numbers drawn from torch's generator
            return make_stem(int(facts["in_channels"]), 1, 1, json.loads(facts["nib"]))
    except (KeyError, ValueError, TypeError) as error:
        raise UserError("the metadata are not those of an ONNX file of nibkit") from error


class _Given:
    """Noise that was made outside: the part of it that is asked for, from its top left pixel."""

    field: Tensor

    def __call__(self, batch: int, channels: int, height: int, width: int, origin: Tensor) -> Tensor:
        """Return ``[batch, channels, height, width]``; ``origin`` is known to who made it."""
        rows, columns = torch.arange(height), torch.arange(width)
        # chosen one by one, not cut out: the exporter would ask how the sizes of field and image compare
        return self.field[:, :channels].index_select(2, rows).index_select(3, columns)


class _NoiseAsInput(nn.Module):
    """A network that takes its noise beside the image; it changes the network."""

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.network = network
        self.given = _Given()
        for module in network.modules():
            if isinstance(module, NIB):
                module.noise = self.given

    def forward(self, image: Tensor, noise: Tensor) -> Tensor:
        """Return the raw answer ``[B, out_channels, H, W]``."""
        self.given.field = noise
        answer: Tensor = self.network(image)
        return answer


def _translate(network: Backbone) -> Any:
    """Return the ONNX model of a network, which is changed by this."""
    from onnxscript.function_libs.torch_lib.ops.core import aten_bitwise_right_shift

    batch, height, width = EXAMPLE
    example = [torch.zeros(batch, network.in_channels, height, width)]
    model: nn.Module = network
    if _has_nib(describe(network)):
        example.append(torch.from_numpy(noise_for(network, height, width, batch)))
        model = _NoiseAsInput(network).eval()
    with torch.no_grad():
        model(*example)  # fills what functions remember with values; while tracing they would remember symbols
    names = list(FREE)[: len(example)]
    program = torch.onnx.export(
        model,
        tuple(example),
        dynamo=True,
        dynamic_shapes=tuple(FREE[name] for name in names),
        input_names=names,
        output_names=["answer"],
        # the operator >> of two tensors has no translation under its own name
        custom_translation_table={torch.ops.aten.__rshift__.Tensor: aten_bitwise_right_shift},
        verbose=False,
    )
    assert program is not None
    return _without_traces(program.model_proto)


def _without_traces(model: Any) -> Any:
    """Return the ONNX model less the exporter's notes on each node: long, and with the paths of this machine."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings and log lines of the exporter, which say nothing to its user, from the console."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
