"""SSIM of a binary halftone and its unfiltered gray: structure kept at full resolution.

torchmetrics computes it (Gaussian 11x11 sigma 1.5, C1 = .01^2, C2 = .03^2); here is only the range.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.image import StructuralSimilarityIndexMeasure


class HalftoneSSIM(StructuralSimilarityIndexMeasure):
    """The mean SSIM over images, measured on [0, 1]."""

    def __init__(self) -> None:
        super().__init__(sigma=1.5, kernel_size=11, data_range=1.0)
        # the sums of all ranks alike, whatever the network computes in: a rank without images makes its own in float32
        self.set_dtype(torch.float64)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add halftones and grays ``[B, 1, H, W]`` in [-1, 1]."""
        super().update((preds.float() + 1) / 2, (target.float() + 1) / 2)
