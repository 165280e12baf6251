"""PSNR of the Gaussian-filtered halftone: tone fidelity as the eye sees it.

    PSNR = -10 log10 mean (G * h - G * g)^2,   images on [0, 1], G 11x11, reflecting border

The paper does not say its sigma; 1.5 and 2.0 pixels are both reported, named so. The figure is the mean
of per-image values (not one PSNR over the pooled error).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from nibkit.filters import gaussian_filter

LIMIT_DB = 100.0


def filtered_psnr(halftone: Tensor, gray: Tensor, sigma: float) -> Tensor:
    """Return the PSNR in dB of each image, ``[B]``.

    An exact match would be infinite and so would any mean with it: figures end at 100 dB.

    Args:
        halftone: ``[B, 1, H, W]`` in [-1, 1].
        gray: same shape and range.
        sigma: of the Gaussian, pixels.
    """
    error = gaussian_filter((halftone.float() - gray.float()) / 2, sigma)
    mse = error.square().flatten(1).mean(dim=1)
    return (-10 * torch.log10(mse)).clamp(max=LIMIT_DB)


class FilteredPSNR(Metric):
    """The mean of :func:`filtered_psnr` over images, dB."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, halftone: Tensor, gray: Tensor) -> None:
        """Add images ``[B, 1, H, W]`` in [-1, 1]."""
        self.total += filtered_psnr(halftone, gray, self.sigma).double().sum()
        self.count += len(halftone)

    def compute(self) -> Tensor:
        """Return the mean over images, dB."""
        return self.total / self.count
