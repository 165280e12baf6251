"""Figures of a reconstruction: how near the output is to the input, pixel by pixel.

image sets   psnr, psnr_pooled, ssim; further sets prefixed: comic/psnr
tone         flat_psnr                                            (constant grays)

``psnr`` is the mean of per-image values, ``psnr_pooled`` one PSNR over the error of all pixels of the set.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.image import PeakSignalNoiseRatio

from nibkit.metrics.mean import ImageMean
from nibkit.metrics.psnr import LIMIT_DB
from nibkit.metrics.sets import MetricSets
from nibkit.metrics.ssim import HalftoneSSIM


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """Return the PSNR in dB of each image, ``[B]``, at most 100: an exact match would be infinite.

    Args:
        output: ``[B, C, H, W]`` in [-1, 1].
        target: same shape and range.
    """
    mse = ((output.float() - target.float()) / 2).square().flatten(1).mean(dim=1)
    return (-10 * torch.log10(mse)).clamp(max=LIMIT_DB)


class PSNR(ImageMean):
    """The mean of :func:`psnr` over images, dB."""

    def figure(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the PSNR of each image."""
        return psnr(output, target)


class PooledPSNR(PeakSignalNoiseRatio):
    """One PSNR over all pixels of a set, dB, measured on [0, 1]."""

    def __init__(self) -> None:
        super().__init__(data_range=1.0)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add images ``[B, C, H, W]`` in [-1, 1]."""
        super().update((preds.float() + 1) / 2, (target.float() + 1) / 2)


def reconstruction_metrics(set_name: str) -> dict[str, Metric]:
    """Return the metrics of (output, input) of a set; ``tone`` are constant grays, anything else images."""
    if set_name == "tone":
        return {"flat_psnr": PSNR()}
    return {"psnr": PSNR(), "psnr_pooled": PooledPSNR(), "ssim": HalftoneSSIM()}  # a SSIM over channels, too


class ReconstructionMetrics(MetricSets):
    """All figures of reconstructions; each output is compared with its input."""

    def __init__(self) -> None:
        super().__init__(reconstruction_metrics)
