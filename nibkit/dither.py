"""Images of any size to halftones: a network block by block, or a classical method on the whole.

dither_file(Path("photo.jpg"), Path("photo.png"), neural("dithering"))
dither_file(Path("photo.jpg"), Path("photo.png"), classical("dbs", ["sigma=1.0"]))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from nibkit.data.gray import GrayPlane, read_gray, to_tone
from nibkit.errors import UserError
from nibkit.png import Bits, write_bits
from nibkit.refine import Refined, Refinement
from nibkit.tiles import Progress, answer_strips, hold_still, noise_shift, scale_noise
from nibkit.weights import build_network, check_weights_task, read_weights

Halftoner = Callable[[GrayPlane, Progress | None], Iterator[Bits]]  # strips of rows from the top, true is white

TASKS = ("dithering", "halftoning")  # whose networks make halftones


def neural(
    weights: str = "dithering", tile: int | None = None, seed: int = 0, sweeps: int | None = None, noise: float = 1.0
) -> Halftoner:
    """Return the halftoner of a trained network, with the refinement that its weights ask for.

    Args:
        weights: a shipped name, a ``.safetensors`` file or a training checkpoint.
        tile: rows computed at a time; see :func:`nibkit.tiles.answer_strips`.
        seed: moves the noise field; 0 leaves it.
        sweeps: of the refinement (:mod:`nibkit.refine`), in place of what the weights ask for; 0: the network alone.
        noise: strength of the NIB's noise, times what the network was trained with; 0 switches it off.

    Raises:
        UserError: the weights cannot be used.
    """
    stored = read_weights(weights)
    check_weights_task(stored, TASKS, weights)
    network = build_network(stored, weights)
    if (network.in_channels, network.out_channels) != (1, 1):
        raise UserError(f"weights '{weights}' take {network.in_channels} channel(s) and give {network.out_channels}; "
                        "dithering a gray image needs 1 and 1")  # fmt: skip
    refinement = Refinement(**({"sweeps": 0} | stored.refinement | ({} if sweeps is None else {"sweeps": sweeps})))
    network = scale_noise(hold_still(network, seed), noise).to(memory_format=torch.channels_last)
    network = Refined(network, refinement).eval() if refinement.sweeps else network
    shift = noise_shift(seed, network.multiple)

    def halftone(plane: GrayPlane, progress: Progress | None = None) -> Iterator[Bits]:
        for strip in answer_strips(network, plane, tile, shift, progress):
            yield (strip[0] > 0).numpy()

    return halftone


def classical(method: str, settings: Sequence[str] = (), seed: int = 0) -> Halftoner:
    """Return the halftoner of a classical method, which works on the whole image at once.

    Args:
        method: a name of :data:`nibkit.classical.METHODS`.
        settings: its options, ``KEY=VALUE``.
        seed: its option ``seed``, if it has one and ``settings`` do not set it.

    Raises:
        UserError: no such method or option, or a value out of its range.
    """
    from nibkit.classical import find_method, method_options, parse_options  # numba: a network starts without

    function, options = find_method(method), parse_options(method, settings)
    if "seed" in method_options(method):
        options = {"seed": seed} | options
    function(torch.zeros(1, 1, 4, 4), **options)  # a value out of range is told now, not image by image

    def halftone(plane: GrayPlane, progress: Progress | None = None) -> Iterator[Bits]:
        yield (function(torch.from_numpy(to_tone(plane))[None, None], **options)[0, 0] > 0).numpy()

    return halftone


def dither_file(
    source: Path,
    target: Path,
    halftone: Halftoner,
    *,
    dot_size: int = 1,
    linear_light: bool = False,
    progress: Progress | None = None,
) -> tuple[int, int]:
    """Write the halftone of an image file as 1-bit PNG, whole or not at all; return its (width, height).

    Args:
        source: the image; see :func:`nibkit.data.images.read_image`.
        target: the PNG.
        halftone: :func:`neural` or :func:`classical`.
        dot_size: side of a dot in pixels. The image is reduced by it with an area filter, halftoned, and enlarged
            again; only whole dots are written, so width and height are rounded up to multiples of it.
        linear_light: as of :func:`nibkit.data.gray.read_gray`.
        progress: called with (done, all) parts of the image, where the method has parts.

    Raises:
        UserError: the image cannot be read or the halftone not written.
    """
    plane = read_gray(source, dot_size, linear_light)
    height, width = (side * dot_size for side in plane.shape)
    write_bits(target, width, height, enlarged(halftone(plane, progress), dot_size))
    return width, height


def enlarged(strips: Iterable[Bits], size: int) -> Iterator[Bits]:
    """Yield strips ``[H, W]`` as ``[H size, W size]``, each pixel a square; row by row, as they are large."""
    for strip in strips:
        for part in np.split(strip, len(strip)) if size > 1 else [strip]:
            yield part.repeat(size, axis=0).repeat(size, axis=1)
