"""Metrics of halftones, reconstructions and invertible grays, one family per file; all take images in [-1, 1]."""

from nibkit.metrics.flat import DottedLevels, FlatStd, ToneError
from nibkit.metrics.grayscale import GrayscaleMetrics
from nibkit.metrics.psnr import FilteredPSNR
from nibkit.metrics.reconstruction import PSNR, PooledPSNR, ReconstructionMetrics
from nibkit.metrics.spectrum import Anisotropy, LowFrequencyRatio
from nibkit.metrics.ssim import HalftoneSSIM
from nibkit.metrics.suite import HalftoneMetrics

__all__ = [
    "PSNR",
    "Anisotropy",
    "DottedLevels",
    "FilteredPSNR",
    "FlatStd",
    "GrayscaleMetrics",
    "HalftoneMetrics",
    "HalftoneSSIM",
    "LowFrequencyRatio",
    "PooledPSNR",
    "ReconstructionMetrics",
    "ToneError",
]
