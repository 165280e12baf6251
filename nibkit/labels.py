"""Label maps as networks read them: one plane per class."""

from __future__ import annotations

import torch
from torch import Tensor

IGNORE = 255  # the target of a pixel that is never scored: void, and classes outside the evaluation


def condition(label: Tensor, channels: int, edges: Tensor | None = None) -> Tensor:
    """Return what a generator reads, ``[B, channels, H, W]`` float32: one-hot classes, then the edges of instances.

    Args:
        label: class ids ``[B, H, W]``, integers; checked when the data were indexed.
        channels: of the result: classes, a plane of its own for void where the data have it, and one for ``edges``.
        edges: borders between instances ``[B, 1, H, W]``, 0 or 1.
    """
    classes = channels if edges is None else channels - 1
    batch, height, width = label.shape
    planes = torch.zeros(batch, classes, height, width, device=label.device)
    planes.scatter_(1, label[:, None], 1.0)
    return planes if edges is None else torch.cat((planes, edges.to(planes)), dim=1)
