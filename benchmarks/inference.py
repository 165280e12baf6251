"""Inference: megapixels per second of the shipped dithering network, block by block as ``nibkit dither`` works.

Its floor are its own convolutions run alone: those of one block, as often as there are blocks. To reach: 80 % of
their rate.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.convolutions import Convolution, Recorder, run
from benchmarks.figures import Figure
from benchmarks.timing import Times, interleave, ratios
from nibkit.backbones import Backbone
from nibkit.onnx_export import noise_for, save_onnx
from nibkit.refine import Refined, Refinement
from nibkit.tiles import SIDE, Plane, answer_strips
from nibkit.weights import load_weights, read_weights

PICTURE = 512  # pixels of a side: several blocks, or a single one of the refined network
SIDES = (128, 512)  # of blocks, against SIDE


def measure(quick: bool = False) -> Iterator[Figure]:
    """Yield the rates; all but the first two with as many threads as the process has."""
    network = load_weights("dithering").to(memory_format=torch.channels_last)
    repeats, threads = 5 if quick else 25, torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        try:
            yield against_convolutions(network, repeats, count)
        finally:
            torch.set_num_threads(threads)
    yield from block_sides(network, repeats)
    yield refined(network, repeats)
    yield compiled(network, repeats)
    yield onnx(network, repeats)


def against_convolutions(network: Backbone, repeats: int, threads: int) -> Figure:
    """Return the network's rate over that of its convolutions."""
    plane = picture(PICTURE)
    block = first_block(network, plane)
    convolutions = run([*block] * (PICTURE // SIDE) ** 2, backward=False)
    times = interleave({"network": partial(answer, network, plane), "convolutions": convolutions}, repeats)
    name = f"rate / its convolutions' alone, {threads} thread{'s' * (threads > 1)}"
    return compare(name, times, "convolutions", "network", PICTURE, goal=0.8)


def block_sides(network: Backbone, repeats: int) -> Iterator[Figure]:
    """Yield the rates with blocks of other sides over that of the usual one."""
    plane = picture(PICTURE)

    def with_side(side: int) -> None:
        with patch("nibkit.tiles.SIDE", side):
            answer(network, plane)

    times = interleave({str(side): partial(with_side, side) for side in (SIDE, *SIDES)}, repeats)
    for side in SIDES:
        yield compare(f"rate, blocks of {side} / {SIDE}", times, str(SIDE), str(side), PICTURE)


def refined(network: Backbone, repeats: int) -> Figure:
    """Return the rate with the refinement that the weights ask for over that of the network alone."""
    both = Refined(network, Refinement(**read_weights("dithering").refinement)).eval()
    plane = picture(PICTURE)
    cases = {"alone": partial(answer, network, plane), "refined": partial(answer, both, plane)}
    return compare("rate refined / unrefined", interleave(cases, repeats), "alone", "refined", PICTURE)


def compiled(network: Backbone, repeats: int) -> Figure:
    """Return the rate on one block with torch.compile over that without; compiling, a minute or so, is left out."""
    image = torch.from_numpy(picture(SIDE)[None, None])
    fast = torch.compile(network)
    start = time.perf_counter()
    try:
        _call(fast, image)
    except Exception as error:  # no compiler on this machine, or one that torch cannot use
        return Figure("rate torch.compile / eager", [0.0], note=f"not possible here: {type(error).__name__}")
    spent = time.perf_counter() - start
    cases: dict[str, Callable[[], object]] = {
        "eager": partial(_call, network, image),
        "compiled": partial(_call, fast, image),
    }
    figure = compare("rate torch.compile / eager", interleave(cases, repeats), "eager", "compiled", SIDE)
    return replace(figure, note=f"{figure.note}; compiled in {spent:.0f} s")


def onnx(network: Backbone, repeats: int) -> Figure:
    """Return the rate of ONNX Runtime on one block over that of PyTorch, both with the same number of threads."""
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        save_onnx(path, network, task="dithering")
        session = onnxruntime.InferenceSession(str(path), options)
    image = picture(SIDE)[None, None]
    feed = {"image": image, "noise": noise_for(network, SIDE, SIDE)}
    cases: dict[str, Callable[[], object]] = {
        "eager": partial(_call, network, torch.from_numpy(image)),
        "onnx": partial(session.run, None, feed),
    }
    return compare("rate ONNX Runtime / eager", interleave(cases, repeats), "eager", "onnx", SIDE)


def compare(name: str, times: Times, base: str, case: str, side: int, goal: float | None = None) -> Figure:
    """Return how much faster a case is than its base, both for a picture of this side."""
    rates = {key: side**2 / 1e6 / statistics.median(times[key]) for key in (case, base)}
    note = ", ".join(f"{key} {rate:.2f} MP/s" for key, rate in rates.items())
    return Figure(name, ratios(times, base, case), goal=goal, note=note)


def picture(side: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Return smooth tones with grain, ``[side, side]`` in [-1, 1]."""
    grain = np.random.default_rng(0).normal(0, 0.1, (side, side))
    tones = np.linspace(-0.9, 0.9, side)[:, None] * np.cos(np.linspace(0, 9, side))
    return np.clip(tones + grain, -1, 1).astype(np.float32)


def first_block(network: Backbone, plane: Plane) -> Sequence[Convolution]:
    """Return the convolutions of one block of a picture."""
    with Recorder(network) as convolutions:
        answer(network, plane[:SIDE, :SIDE])
    return convolutions


def answer(network: Backbone, plane: Plane) -> None:
    """Answer a whole picture."""
    for _ in answer_strips(network, plane):
        pass


@torch.inference_mode()
def _call(network: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor) -> torch.Tensor:
    return network(image)
