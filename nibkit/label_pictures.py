"""Label maps in colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nibkit.labels import IGNORE

Palette = NDArray[np.uint8]


def paint(label: Tensor, palette: Palette) -> Tensor:
    """Return a label map in the colours of its classes, ``[3, H, W]`` float32 in [-1, 1].

    Args:
        label: class ids ``[H, W]``, integers; ``IGNORE`` (255) is black.
        palette: 8-bit colours by class id, ``[classes, 3]``.
    """
    table = np.zeros((IGNORE + 1, 3), dtype=np.uint8)
    table[: len(palette)] = palette
    table[IGNORE] = 0
    colours = torch.from_numpy(table).to(label.device)[label.long()]
    return colours.permute(2, 0, 1).float() / 127.5 - 1


def scored_palette(palette: Palette, class_map: Sequence[int | None] | None, scored: int) -> Palette:
    """Return the colours of the scored classes, ``[scored, 3]``: each has that of the first class mapped to it.

    Args:
        palette: 8-bit colours of the classes in label maps, ``[classes, 3]``.
        class_map: the scored class of each class, None for those not scored; None if all are.
        scored: how many scored classes there are.
    """
    return palette[:scored] if class_map is None else palette[[list(class_map).index(k) for k in range(scored)]]
