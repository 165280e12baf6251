"""Ostromoukhov 2001, A Simple and Efficient Error-Diffusion Algorithm: weights that depend on the tone.

Serpentine error diffusion in 8-bit units: a pixel is white where its value exceeds 127.5, and its error goes
to the next pixel, the one below and behind, and the one below, by the weights of the level it had in the
image (see :mod:`nibkit.classical.ostromoukhov_table`). The weight of the one below is what the other two
leave. Black stays black whatever error reaches it.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nibkit.classical.ostromoukhov_table import COEFFICIENTS
from nibkit.classical.planes import Plane, White, per_plane


def ostromoukhov(gray: Tensor) -> Tensor:
    """Return the halftone (-1 or 1) of each gray image ``[B, 1, H, W]`` in [-1, 1], on the CPU.

    Levels between those of 8 bit keep their tone and take the weights of the nearest.
    """
    return per_plane(gray, lambda plane: _diffuse(plane, _WEIGHTS))


def _weights() -> NDArray[np.float64]:
    """Return the weights of the next and the lower rear pixel, ``[256, 2]``; levels above 127 mirror those below."""
    table = np.asarray(COEFFICIENTS, dtype=np.float64)
    table = table[:, :2] / table.sum(axis=1, keepdims=True)
    return np.concatenate((table, table[::-1]))


_WEIGHTS = _weights()


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _diffuse(plane: Plane, weights: NDArray[np.float64]) -> White:
    """Return the white pixels of ``plane`` ``[H, W]`` in [0, 1]; odd rows run from right to left."""
    height, width = plane.shape
    white = np.empty((height, width), dtype=np.bool_)
    below = np.zeros(width + 2)  # error from the row above, one pixel of margin on each side
    for y in range(height):
        above, below = below, np.zeros(width + 2)
        step = 1 if y % 2 == 0 else -1
        x = 0 if step == 1 else width - 1
        ahead = 0.0
        for _ in range(width):
            tone = plane[y, x] * 255
            level = min(max(int(tone + 0.5), 0), 255)
            if abs(tone - level) < 1e-3:  # an 8-bit level in float32: ties must fall as they do in integers
                tone = float(level)
            value = (tone + above[x + 1]) + ahead
            white[y, x] = value > 127.5 and tone > 0
            error = value - 255 if white[y, x] else value
            ahead = error * weights[level, 0]
            behind = error * weights[level, 1]
            below[x + 1 - step] += behind
            below[x + 1] += error - ahead - behind
            x += step
    return white
