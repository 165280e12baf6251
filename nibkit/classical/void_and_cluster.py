"""Void-and-cluster masks (Ulichney 1993): threshold arrays whose dot patterns are blue noise at every level.

A dot's energy is the sum of a periodic Gaussian over all dots. The tightest cluster is the dot of highest
energy, the largest void the empty pixel of lowest. Ranks below the initial pattern come from removing
clusters, those above from filling voids; the Gaussian being periodic and linear, the cluster of empty
pixels that Ulichney's third phase looks for is the largest void of the dots, so one loop fills to the end.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nibkit.classical.planes import Plane, White, check_seed, require

SHARE = 0.1  # of the pixels set in the initial pattern; Ulichney's figure

Ranks = NDArray[np.int32]


class Pattern(NamedTuple):
    """Dots, and where each row's candidates are: a change searches only the rows it touches."""

    dots: White  # [size, size]
    energy: Plane  # [size, size]
    kernel: Plane  # the Gaussian, odd sides
    voids: Ranks  # [size]: column of each row's largest void, -1 where the row is full
    clusters: Ranks  # [size]: column of each row's tightest cluster, -1 where it is empty


@lru_cache(maxsize=8)
def blue_noise_mask(size: int = 64, sigma: float = 1.5, seed: int = 0) -> Ranks:
    """Return the ranks 0 .. size^2 - 1 of a periodic blue-noise mask ``[size, size]``.

    Args:
        size: side, pixels; above ten sigma.
        sigma: of the Gaussian, pixels; Ulichney's 1.5.
        seed: of the initial pattern.

    Raises:
        UserError: the Gaussian does not fit the mask.
    """
    require(0 < sigma < math.inf, f"sigma={sigma} of a blue-noise mask must be above 0 (pixels)")
    least = 2 * math.ceil(5 * sigma) + 1
    require(size >= least, f"a blue-noise mask with sigma={sigma} needs size={least} or more (pixels), not {size}")
    check_seed(seed)
    dots = np.zeros(size * size, dtype=np.bool_)
    chosen = np.random.default_rng(seed).choice(size * size, max(1, round(SHARE * size * size)), replace=False)
    dots[chosen] = True
    pattern, rank = _make_pattern(dots.reshape(size, size), sigma), np.empty((size, size), dtype=np.int32)
    _even_out(pattern)
    _rank_dots(Pattern._make(part.copy() for part in pattern), rank)
    _rank_voids(pattern, rank)
    return rank


def void_and_cluster(gray: Tensor, size: int = 64, sigma: float = 1.5, seed: int = 0) -> Tensor:
    """Return the halftone (-1 or 1) of ``gray`` ``[B, 1, H, W]`` in [-1, 1], on the CPU, by a repeated mask.

    Args:
        gray: images.
        size: side of the mask, pixels.
        sigma: of its Gaussian, pixels.
        seed: of its initial pattern.

    Raises:
        UserError: an option is out of its range.
    """
    return threshold(gray, torch.from_numpy((blue_noise_mask(size, sigma, seed) + 0.5) / size**2))


def threshold(gray: Tensor, mask: Tensor) -> Tensor:
    """Return the halftone (-1 or 1) of ``gray`` ``[B, 1, H, W]``, on the CPU, by a repeated mask in (0, 1)."""
    height, width = gray.shape[-2:]
    tiled = mask.tile(-(-height // mask.shape[0]), -(-width // mask.shape[1]))[:height, :width]
    return torch.where((gray.detach().cpu().double() + 1) / 2 > tiled, 1.0, -1.0).to(gray.dtype)


def _make_pattern(dots: White, sigma: float) -> Pattern:
    """Return the pattern of ``dots``."""
    radius, size = math.ceil(5 * sigma), len(dots)
    squares = np.arange(-radius, radius + 1, dtype=np.float64) ** 2
    kernel = np.exp(-(squares[:, None] + squares[None, :]) / (2 * sigma**2))
    candidates = np.zeros((2, size), dtype=np.int32)
    pattern = Pattern(dots, np.zeros((size, size)), kernel, *candidates)
    for y, x in np.argwhere(dots):
        _set(pattern, y, x, True)
    for y in range(size):
        _search_row(pattern, y)
    return pattern


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _even_out(pattern: Pattern) -> None:
    """Move the tightest cluster to the largest void until it is its own."""
    while True:
        y, x = _cluster(pattern)
        _set(pattern, y, x, False)
        v, u = _void(pattern)
        _set(pattern, v, u, True)
        if v == y and u == x:
            break


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _rank_dots(pattern: Pattern, rank: Ranks) -> None:
    """Rank the dots downwards, removing the tightest cluster of those left."""
    for place in range(pattern.dots.sum() - 1, -1, -1):
        y, x = _cluster(pattern)
        rank[y, x] = place
        _set(pattern, y, x, False)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _rank_voids(pattern: Pattern, rank: Ranks) -> None:
    """Rank the empty pixels upwards, filling the largest void of those left."""
    for place in range(pattern.dots.sum(), pattern.dots.size):
        y, x = _void(pattern)
        rank[y, x] = place
        _set(pattern, y, x, True)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _set(pattern: Pattern, y: int, x: int, dot: bool) -> None:
    """Set or clear a dot: add or take its periodic Gaussian, and search the rows that this touches."""
    size, radius = len(pattern.dots), len(pattern.kernel) // 2
    pattern.dots[y, x] = dot
    sign = 1.0 if dot else -1.0
    for i in range(len(pattern.kernel)):
        row = (y + i - radius) % size
        for j in range(len(pattern.kernel)):
            pattern.energy[row, (x + j - radius) % size] += sign * pattern.kernel[i, j]
        _search_row(pattern, row)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _search_row(pattern: Pattern, y: int) -> None:
    """Find the largest void and the tightest cluster of a row."""
    void, cluster, energy = -1, -1, pattern.energy[y]
    for x in range(len(energy)):
        if pattern.dots[y, x]:
            if cluster < 0 or energy[x] > energy[cluster]:
                cluster = x
        elif void < 0 or energy[x] < energy[void]:
            void = x
    pattern.voids[y], pattern.clusters[y] = void, cluster


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _void(pattern: Pattern) -> tuple[int, int]:
    """Return the largest void, the first of equals."""
    best, energy, columns = -1, pattern.energy, pattern.voids
    for y in range(len(columns)):
        if columns[y] >= 0 and (best < 0 or energy[y, columns[y]] < energy[best, columns[best]]):
            best = y
    return best, columns[best]


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _cluster(pattern: Pattern) -> tuple[int, int]:
    """Return the tightest cluster, the first of equals."""
    best, energy, columns = -1, pattern.energy, pattern.clusters
    for y in range(len(columns)):
        if columns[y] >= 0 and (best < 0 or energy[y, columns[y]] > energy[best, columns[best]]):
            best = y
    return best, columns[best]
