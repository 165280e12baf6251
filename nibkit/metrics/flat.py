"""What a halftone makes of constant gray: its tone, and whether there are dots at all."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class _FlatMean(Metric):
    """The mean of a figure per constant-gray halftone."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def _figure(self, dots: Tensor, level: Tensor) -> Tensor:
        """Return a figure ``[B]`` for halftones ``[B, pixels]`` in [-1, 1] of tones ``[B]`` in [0, 1]."""
        raise NotImplementedError

    def update(self, halftone: Tensor, level: Tensor) -> None:
        """Add halftones ``[B, 1, H, W]`` in [-1, 1] of constant grays ``level`` ``[B]`` in [0, 1]."""
        self.total += self._figure(halftone.double().flatten(1), level.double()).sum()
        self.count += len(halftone)

    def compute(self) -> Tensor:
        """Return the mean over levels."""
        return self.total / self.count


class ToneError(_FlatMean):
    """Mean over levels of | share of white dots - level |, in [0, 1]."""

    def _figure(self, dots: Tensor, level: Tensor) -> Tensor:
        return ((dots.mean(dim=1) + 1) / 2 - level).abs()


class FlatStd(_FlatMean):
    """Mean over levels of the halftone's standard deviation on [-1, 1]: 0 is flatness degradation.

    A halftone of tone g has 2 sqrt(g (1 - g)), .85 in the mean over 5 % to 95 %.
    """

    def _figure(self, dots: Tensor, level: Tensor) -> Tensor:
        return dots.std(dim=1, correction=0)


class DottedLevels(_FlatMean):
    """Share of the levels whose halftone has both black and white dots, in [0, 1]."""

    def _figure(self, dots: Tensor, level: Tensor) -> Tensor:
        return ((dots > 0).any(dim=1) & (dots < 0).any(dim=1)).double()
