"""What the compiled methods share: images as planes, a separable filter, checks of options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nibkit.errors import UserError

Plane = NDArray[np.float64]
White = NDArray[np.bool_]


def per_plane(gray: Tensor, method: Callable[..., White], *starts: Tensor) -> Tensor:
    """Return the halftones (-1 or 1, on the CPU, dtype of ``gray``) that ``method`` makes of each image.

    Args:
        gray: ``[B, 1, H, W]`` in [-1, 1].
        method: maps a plane ``[H, W]`` in [0, 1], and the white pixels of its start, to white pixels ``[H, W]``.
        starts: a halftone to start from, same shape as ``gray``, or none.
    """
    planes = [_planes(gray.detach().cpu().double().add(1).mul_(0.5)), *(_planes(start > 0) for start in starts)]
    white = np.stack([method(*arguments) for arguments in zip(*planes, strict=True)])
    return torch.from_numpy(white).reshape(gray.shape).to(gray.dtype).mul_(2).sub_(1)


def _planes(images: Tensor) -> NDArray[Any]:
    return images.cpu().reshape(-1, *images.shape[-2:]).contiguous().numpy()


def spread(plane: NDArray[Any], kernel: NDArray[np.float64]) -> Plane:
    """Return the full separable correlation with a symmetric kernel ``[n]``: ``[H + n - 1, W + n - 1]``."""
    for _ in range(2):  # down the columns, then, transposed, down the rows
        wide = np.zeros((plane.shape[0] + len(kernel) - 1, plane.shape[1]))
        for shift, weight in enumerate(kernel):
            wide[shift : shift + len(plane)] += weight * plane
        plane = wide.T
    return np.ascontiguousarray(plane)


def require(condition: bool, message: str) -> None:
    """Refuse an option's value: raise :class:`UserError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise UserError(message)


def check_seed(seed: int) -> None:
    """Refuse a seed that no generator takes."""
    require(0 <= seed < 2**32, f"seed={seed} must be from 0 to 2^32 - 1")
