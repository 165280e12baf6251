"""Floyd and Steinberg 1976: error diffusion with weights 7, 3, 5, 1 of 16, on a serpentine path."""

from __future__ import annotations

import numba
import numpy as np
from torch import Tensor

from nibkit.classical.planes import Plane, White, per_plane


def floyd_steinberg(gray: Tensor) -> Tensor:
    """Return the halftone (-1 or 1) of each gray image ``[B, 1, H, W]`` in [-1, 1], on the CPU."""
    return per_plane(gray, _diffuse)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _diffuse(tone: Plane) -> White:
    """Return the white pixels of ``tone`` ``[H, W]`` in [0, 1]; odd rows run from right to left."""
    height, width = tone.shape
    value = tone.copy()
    halftone = np.empty((height, width), dtype=np.bool_)
    for y in range(height):
        step = 1 if y % 2 == 0 else -1
        x = 0 if step == 1 else width - 1
        for _ in range(width):
            white = value[y, x] > 0.5
            halftone[y, x] = white
            error = value[y, x] - white
            if 0 <= x + step < width:
                value[y, x + step] += error * 7 / 16
            if y + 1 < height:
                value[y + 1, x] += error * 5 / 16
                if 0 <= x - step < width:
                    value[y + 1, x - step] += error * 3 / 16
                if 0 <= x + step < width:
                    value[y + 1, x + step] += error * 1 / 16
            x += step
    return halftone
