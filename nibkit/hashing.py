"""Random numbers as pure functions of where they stand: the same on every device, process and tile."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MASK = 0xFFFFFFFF  # of 32 bits


def hashed_uniform(key: Tensor, channels: int, height: int, width: int, origin: Tensor) -> Tensor:
    """Hash (key, channel, y, x) to float32 uniform in (0, 1), ``[B, channels, height, width]``.

    Rows and columns are hashed apart and joined by one more round per pixel: two cheap vectors and a
    single pass over the pixels. The bits are identical on every device.

    Args:
        key: one integer per image, ``[B]``.
        channels: number of channels, each an independent field.
        height: rows.
        width: columns.
        origin: absolute (y, x) of the top left pixel, integers ``[B, 2]``.
    """
    device = origin.device
    rows = origin[:, :1].long() + torch.arange(height, device=device)
    columns = origin[:, 1:].long() + torch.arange(width, device=device)
    stream = mix_bits(mix_bits(key[:, None]) + torch.arange(channels, device=device))  # [B, C]
    row_hash = mix_bits(rows[:, None, :] ^ stream[:, :, None])  # [B, C, H]
    column_hash = mix_bits((columns + 0x9E3779B9)[:, None, :] ^ mix_bits(stream)[:, :, None])
    return _uniform(_mix_words(_words(row_hash)[..., :, None] ^ _words(column_hash)[..., None, :]))


def mix_bits(x: Tensor) -> Tensor:
    """Mix 32-bit words held in int64 (Wellons' lowbias32): each input bit flips half the output bits."""
    x = x & MASK
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & MASK
    return x ^ (x >> 16)


def _words(x: Tensor) -> Tensor:
    """Return 32-bit words held in int64 as int32, the same bits: the upper half of them become negative."""
    return torch.where(x > MASK >> 1, x - MASK - 1, x).int()


def _mix_words(x: Tensor) -> Tensor:
    """Mix words held in int32 as :func:`mix_bits` does, in place: half the memory, and products wrap by themselves."""
    x ^= (x >> 16) & 0xFFFF  # the mask, as the sign would move in
    x *= 0x7FEB352D
    x ^= (x >> 15) & 0x1FFFF
    x *= 0x846CA68B - (MASK + 1)
    x ^= (x >> 16) & 0xFFFF
    return x


def _uniform(words: Tensor) -> Tensor:
    """Return words held in int32 as float32 in (0, 1)."""
    # 23 bits and a half are exact in float32: with 24 the largest would round to 1, whose normal quantile is infinite
    return (((words >> 9) & 0x7FFFFF).float() + 0.5) * math.ldexp(1.0, -23)
