"""Metrics of halftones, one family per file; all take images in [-1, 1]."""

from nibkit.metrics.flat import DottedLevels, FlatStd, ToneError
from nibkit.metrics.psnr import FilteredPSNR
from nibkit.metrics.spectrum import Anisotropy, LowFrequencyRatio
from nibkit.metrics.ssim import HalftoneSSIM
from nibkit.metrics.suite import HalftoneMetrics

__all__ = [
    "Anisotropy",
    "DottedLevels",
    "FilteredPSNR",
    "FlatStd",
    "HalftoneMetrics",
    "HalftoneSSIM",
    "LowFrequencyRatio",
    "ToneError",
]
