"""Random draws that belong to a sample: dropout, dynamic noise, Bernoulli pixels.

Each sample of training carries a key under ``draw``, a hash of (seed, epoch, index), and each of evaluation one of its
name. Within :func:`drawn_for` all draws are functions of these keys and of how many draws came before: not of the
process that makes them, nor of the other samples of the batch, nor of whether the run was resumed. Elsewhere they come
from torch's global generator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn

from nibkit.hashing import MASK, hashed_uniform, mix_bits


class _Draws:
    """The keys of a batch ``[B]``, and how many times they were drawn from."""

    def __init__(self, keys: Tensor) -> None:
        self.keys, self.calls = keys, 0


_current: list[_Draws] = []  # the innermost last


def training_key(seed: int, epoch: int, index: int) -> int:
    """Return the key of a training sample."""
    return crc32(f"{seed} {epoch} {index}".encode())


def evaluation_key(name: str) -> int:
    """Return the key of an image that is judged."""
    return crc32(name.encode())


@contextmanager
def drawn_for(batch: Mapping[str, Any]) -> Iterator[None]:
    """Let all draws belong to the samples of a batch; one without ``draw`` changes nothing."""
    if "draw" not in batch:
        yield
        return
    _current.append(_Draws(batch["draw"]))
    try:
        yield
    finally:
        _current.pop()


def draw_keys(count: int) -> Tensor:
    """Return a fresh key for each of ``count`` images, ``[count]`` below 2^32.

    Images beyond the batch's are what a task has put behind them, constant grays say: the first of them belongs to the
    first sample again.
    """
    if not _current:
        return torch.randint(MASK, (count,))
    draws = _current[-1]
    draws.calls += 1
    number = torch.arange(count, device=draws.keys.device)
    keys = draws.keys[number % len(draws.keys)]
    return mix_bits(mix_bits(keys + number // len(draws.keys)) ^ draws.calls)


def uniform_like(image: Tensor) -> Tensor:
    """Return fresh numbers uniform in (0, 1) for images ``[B, C, H, W]``."""
    batch, channels, height, width = image.shape
    keys = draw_keys(batch).to(image.device)
    origin = torch.zeros(batch, 2, dtype=torch.int64, device=image.device)
    return hashed_uniform(keys, channels, height, width, origin).to(image.dtype)


class Dropout(nn.Module):
    """Dropout of single features ``[B, C, H, W]`` whose draws belong to the samples.

    Args:
        share: of features that are dropped.
        live: stays on when the network is used.
    """

    def __init__(self, share: float, live: bool = False) -> None:
        super().__init__()
        self.share, self.live = share, live

    def forward(self, x: Tensor) -> Tensor:
        """Drop features, and scale the others to keep the mean."""
        if not (self.training or self.live) or not self.share:
            return x
        return x * (uniform_like(x) >= self.share) / (1 - self.share)
