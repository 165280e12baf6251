"""What happens to a gray file on its way, and whether the colours it hides survive.

A gray that hides colours does so by fine texture. :data:`ATTACKS` names what may become of it: compression, an error
of its last bit, a turn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nibkit.data.images import to_bytes
from nibkit.errors import UserError
from nibkit.quantize import half_level

SEED = 20180  # not that of a network or of its training: their noise fields would be repeated here


def jpeg(gray: Tensor, quality: int) -> Tensor:
    """Return what a JPEG file leaves of gray images.

    Args:
        gray: ``[B, 1, H, W]`` in [-1, 1], on the 8-bit levels; others are rounded to them.
        quality: Pillow's, 1 to 100.

    Returns:
        The same shape, on the 8-bit levels.

    Raises:
        UserError: there is no such quality.
    """
    if not 1 <= quality <= 100:
        raise UserError(f"a JPEG file of quality {quality} is not possible; use 1 to 100")
    files = np.stack([_through_jpeg(to_bytes(image), quality) for image in gray])
    return torch.from_numpy(files)[:, None].to(gray.device) / 255 * 2 - 1


def _through_jpeg(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    file = BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=quality)
    return np.array(Image.open(file))


def half_level_noise(gray: Tensor) -> Tensor:
    """Return ``gray`` with uniform noise of at most half an 8-bit level, the same at every call.

    It is as much as rounding can do, but not rounded again; black and white leave [-1, 1] by as much.

    Args:
        gray: ``[B, 1, H, W]`` in [-1, 1].
    """
    return gray + half_level(gray, SEED)


def turned(image: Tensor) -> Tensor:
    """Return images ``[B, C, H, W]`` turned left by a quarter, ``[B, C, W, H]``."""
    return image.rot90(1, (-2, -1))


def turned_back(image: Tensor) -> Tensor:
    """Undo :func:`turned`."""
    return image.rot90(-1, (-2, -1))


def _as_it_is(image: Tensor) -> Tensor:
    return image


class Attack(NamedTuple):
    """What happens to a gray image, and how the image that is restored from it is put back."""

    attack: Callable[[Tensor], Tensor]
    put_back: Callable[[Tensor], Tensor] = _as_it_is


ATTACKS = {
    "jpeg95": Attack(partial(jpeg, quality=95)),
    "jpeg85": Attack(partial(jpeg, quality=85)),
    "jpeg75": Attack(partial(jpeg, quality=75)),
    "half_level": Attack(half_level_noise),
    "rotated": Attack(turned, turned_back),
}
