"""Looking into a network: the first channel of some of its convolutions (Figure 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def convolutions(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the convolutions of a network by name, in the order they are defined."""
    return [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]


def spread_over(count: int, length: int) -> list[int]:
    """Return ``count`` indices below ``length``, the first and the last among them."""
    return [round(i * (length - 1) / max(1, count - 1)) for i in range(count)]


@torch.no_grad()
def first_channels(network: nn.Module, image: Tensor, indices: Sequence[int]) -> list[tuple[str, Tensor]]:
    """Return the first feature channel ``[H, W]`` of some convolutions, by layer name.

    Args:
        network: takes ``image``.
        image: ``[1, C, H, W]`` in [-1, 1].
        indices: of the convolutions, 0 for the first.
    """
    every = convolutions(network)
    seen: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(
            lambda _m, _i, output, name=name: seen.__setitem__(name, output[0, 0].float().cpu().clone())
        )
        for name, module in dict(every[index] for index in indices).items()
    ]
    try:
        network(image)
    finally:
        for handle in handles:
            handle.remove()
    return list(seen.items())


def inner(plane: Tensor, size: int, extended: int) -> Tensor:
    """Return the part of a feature plane that shows the image itself.

    Args:
        plane: ``[H, W]``, of an image extended from ``size`` to about ``extended`` pixels a side, and of it at
            full, half, quarter ... resolution.
        size: of the image, pixels.
        extended: likewise.
    """
    stride = 2 ** max(0, round(math.log2(extended / plane.shape[-1])))
    side = size // stride
    top, left = (max(0, length - side) // 2 for length in plane.shape)
    return plane[top : top + side, left : left + side]


def enlarge(plane: Tensor, size: int) -> Tensor:
    """Repeat the pixels of a smaller plane ``[H, W]`` so that it is about ``size`` wide."""
    times = max(1, size // plane.shape[-1])
    return plane.repeat_interleave(times, dim=0).repeat_interleave(times, dim=1)
