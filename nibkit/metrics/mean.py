"""The mean of a figure per image: exact on any number of processes, whatever share each has."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class ImageMean(Metric):
    """Base of metrics that are means over images; a subclass gives the figure of each."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def figure(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the figure of each image, ``[B]``; arguments as of :meth:`update`."""
        raise NotImplementedError

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add images.

        Args:
            output: ``[B, C, H, W]`` in [-1, 1].
            target: the same of what it shall be; for constant grays their levels ``[B]`` in [0, 1].
        """
        self.total += self.figure(output, target).double().sum()
        self.count += len(output)

    def compute(self) -> Tensor:
        """Return the mean over images."""
        return self.total / self.count
