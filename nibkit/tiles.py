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
from torch import Tensor

from nibkit.backbones.base import Backbone
from nibkit.data.gray import GrayPlane, to_tone

Progress = Callable[[int, int], None]  # called with (done, all)

SIDE = 256  # of a block, pixels; fastest for the ResNet: smaller ones pay for margins, larger ones leave the cache


def block_side(network: Backbone) -> int:
    """Return the side of the network's blocks: 256, or as many more as keep the margin below a quarter of it."""
    side = SIDE * max(1, -(-network.extension() * 4 // SIDE))
    return -(-side // network.multiple) * network.multiple


def answer_strips(
    network: Backbone,
    plane: GrayPlane,
    tile: int | None = None,
    shift: tuple[int, int] = (0, 0),
    progress: Progress | None = None,
) -> Iterator[Tensor]:
    """Yield the network's raw answer to a gray image ``[H, W]``, strips ``[out_channels, rows, W]`` from the top.

    The border is extended by replication as :meth:`Backbone.forward` does, also for a network with zero padding.

    Args:
        network: in eval mode, for images of one channel.
        plane: the image.
        tile: rows of a strip, rounded up to whole blocks; changes memory, not values.
        shift: of the noise field, pixels; multiples of the network's ``multiple``.
        progress: called after each block.
    """
    side = block_side(network)
    height, width = plane.shape
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
def _answer_block(network: Backbone, plane: GrayPlane, y: int, x: int, shift: tuple[int, int]) -> Tensor:
    """Return the raw answer ``[out_channels, side, side]`` of the block at (y, x).

    One block at a time: how many images a convolution is given may change how it rounds, too.
    """
    reach, side = network.extension(), block_side(network)
    around = np.arange(-reach, side + reach)
    rows, columns = ((around + start).clip(0, size - 1) for start, size in zip((y, x), plane.shape, strict=True))
    block = torch.from_numpy(to_tone(plane[rows[:, None], columns]))[None, None]
    origin = torch.tensor([[y + shift[0], x + shift[1]]])
    return network.answer_extended(block.contiguous(memory_format=torch.channels_last), origin, reach)[0]
