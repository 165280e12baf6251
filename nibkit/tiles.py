"""The answer of a network to an image of any size, block by block, in little memory.

Blocks lie on a fixed grid from the image's top left pixel and all have one shape, those at the right and lower
border too: a convolution over another shape may round in another order, and a dot would flip. Each block is read
with its true neighbours, as wide as the network sees, and at its own place in the noise field, so that the blocks
together are the answer to the whole image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nibkit.backbones.base import Backbone
from nibkit.data.gray import to_tone
from nibkit.data.images import Pixels
from nibkit.hashing import mix_bits
from nibkit.nib import NIB
from nibkit.noise import Dynamic, Scaled, Stationary

# [H, W] or [H, W, C]: integers from 0, black, to the largest of their type, white; floats in [-1, 1]
Plane = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]
Progress = Callable[[int, int], None]  # called with (done, all)

FIELD = 2**20  # a seed moves the noise field by fewer steps than this
SIDE = 256  # of a block, pixels; fastest for the ResNet: smaller ones pay for margins, larger ones leave the cache


def block_side(network: Backbone) -> int:
    """Return the side of the network's blocks: 256, or as many more as keep the margin below a quarter of it."""
    side = SIDE * max(1, -(-network.extension() * 4 // SIDE))
    return -(-side // network.multiple) * network.multiple


def answer_strips(
    network: Backbone,
    plane: Plane,
    tile: int | None = None,
    shift: tuple[int, int] = (0, 0),
    progress: Progress | None = None,
) -> Iterator[Tensor]:
    """Yield the network's raw answer to an image of any size, strips ``[out_channels, rows, W]`` from the top.

    The border is extended by replication as :meth:`Backbone.forward` does, also for a network with zero padding.

    Args:
        network: in eval mode, for images of so many channels.
        plane: the image, ``[H, W]`` or ``[H, W, C]``; see :data:`Plane`.
        tile: rows of a strip, rounded up to whole blocks; changes memory, not values.
        shift: of the noise field, pixels; multiples of the network's ``multiple``.
        progress: called after each block.
    """
    side = block_side(network)
    height, width = plane.shape[:2]
    corners = [(y, x) for y in range(0, height, side) for x in range(0, width, side)]
    per_strip = -(-width // side) * max(1, -(-(tile or side) // side))
    for first in range(0, len(corners), per_strip):
        places = corners[first : first + per_strip]
        top = places[0][0]
        strip = torch.empty(network.out_channels, min(places[-1][0] + side, height) - top, width)
        for index, (y, x) in enumerate(places, start=first + 1):
            inside = strip[:, y - top : y - top + side, x : x + side]
            inside.copy_(_answer_block(network, plane, y, x, shift)[:, : inside.shape[1], : inside.shape[2]])
            if progress:
                progress(index, len(corners))
        yield strip


@torch.inference_mode()
def _answer_block(network: Backbone, plane: Plane, y: int, x: int, shift: tuple[int, int]) -> Tensor:
    """Return the raw answer ``[out_channels, side, side]`` of the block at (y, x).

    One block at a time: how many images a convolution is given may change how it rounds, too.
    """
    reach, side = network.extension(), block_side(network)
    around = np.arange(-reach, side + reach)
    places = zip((y, x), plane.shape[:2], strict=True)
    rows, columns = ((around + start).clip(0, size - 1) for start, size in places)
    block = torch.from_numpy(_tones(plane[rows[:, None], columns]))
    block = block[None, None] if block.ndim == 2 else block.permute(2, 0, 1)[None]
    origin = torch.tensor([[y + shift[0], x + shift[1]]])
    return network.answer_extended(block.contiguous(memory_format=torch.channels_last), origin, reach)[0]


def _tones(pixels: Plane) -> Pixels:
    """Return the values of a part of a plane in [-1, 1], float32."""
    if pixels.dtype.kind == "f":
        return pixels.astype(np.float32, copy=False)
    wide = pixels.astype(np.uint16, copy=False)
    return to_tone(wide * np.uint16(257) if pixels.dtype == np.uint8 else wide)


def noise_shift(seed: int, multiple: int) -> tuple[int, int]:
    """Return how far (down, right) a seed moves the noise field, in multiples of ``multiple``; 0 by nothing."""
    if seed == 0:
        return 0, 0
    down, right = (mix_bits(torch.tensor([2 * seed, 2 * seed + 1])) % FIELD * multiple).tolist()
    return down, right


def hold_still(network: Backbone, seed: int = 0) -> Backbone:
    """Hold noise that is drawn anew at every call: one draw for the whole image, so that blocks fit together."""
    for module in network.modules():
        if isinstance(module, NIB) and isinstance(module.noise, Dynamic):
            module.noise = Stationary(module.noise.distribution, seed)
    return network


def scale_noise(network: Backbone, factor: float) -> Backbone:
    """Make the noise of every NIB so many times as strong as trained; 0 switches it off."""
    for module in network.modules():
        if isinstance(module, NIB) and factor != 1:
            module.noise = Scaled(module.noise, factor)
    return network
