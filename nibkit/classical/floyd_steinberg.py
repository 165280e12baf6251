"""Floyd and Steinberg 1976: error diffusion with weights 7, 3, 5, 1 of 16, on a serpentine path."""

from __future__ import annotations

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def floyd_steinberg(gray: Tensor) -> Tensor:
    """Return the halftone (-1 or 1) of each gray image ``[B, 1, H, W]`` in [-1, 1], on the CPU."""
    planes = gray.detach().cpu().double().reshape(-1, *gray.shape[-2:]).numpy()
    halftones = np.stack([_diffuse((plane + 1) / 2) for plane in planes])
    return torch.from_numpy(halftones).reshape(gray.shape).to(gray.dtype)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _diffuse(tone: NDArray[np.float64]) -> NDArray[np.float64]:
    """Diffuse the error of ``tone`` ``[H, W]`` in [0, 1]; odd rows run from right to left."""
    height, width = tone.shape
    value = tone.copy()
    halftone = np.empty_like(tone)
    for y in range(height):
        step = 1 if y % 2 == 0 else -1
        x = 0 if step == 1 else width - 1
        for _ in range(width):
            white = 1.0 if value[y, x] > 0.5 else 0.0
            halftone[y, x] = 2.0 * white - 1.0
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
