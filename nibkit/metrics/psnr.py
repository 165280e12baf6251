"""PSNR of the Gaussian-filtered halftone: tone fidelity as the eye sees it.

    PSNR = -10 log10 mean (G * h - G * g)^2,   images on [0, 1], G 11x11, reflecting border

The paper does not say its sigma; 1.5 and 2.0 pixels are both reported, named so. The figure is the mean
of per-image values (not one PSNR over the pooled error).
"""

from __future__ import annotations

import torch
from torch import Tensor

from nibkit.filters import gaussian_filter
from nibkit.metrics.mean import ImageMean

LIMIT_DB = 100.0


def filtered_psnr(halftone: Tensor, gray: Tensor, sigma: float) -> Tensor:
    """Return the PSNR in dB of each image, ``[B]``.

    An exact match would be infinite and so would any mean with it: figures end at 100 dB.

    Args:
        halftone: ``[B, 1, H, W]`` in [-1, 1].
        gray: same shape and range.
        sigma: of the Gaussian, pixels.

    Examples:
        >>> gray = torch.zeros(1, 1, 32, 32)
        >>> filtered_psnr(gray, gray, sigma=2.0).tolist()
        [100.0]
        >>> halftone = torch.ones(1, 1, 32, 32)  # all white: half the range off
        >>> [round(value, 2) for value in filtered_psnr(halftone, gray, sigma=2.0).tolist()]
        [6.02]
    """
    error = gaussian_filter((halftone.float() - gray.float()) / 2, sigma)
    mse = error.square().flatten(1).mean(dim=1)
    return (-10 * torch.log10(mse)).clamp(max=LIMIT_DB)


class FilteredPSNR(ImageMean):
    """The mean of :func:`filtered_psnr` over images, dB."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def figure(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the PSNR of each halftone and its gray."""
        return filtered_psnr(output, target, self.sigma)
