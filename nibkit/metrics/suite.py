"""All figures of a halftoning method, by evaluation set, under the names they are logged by.

photo       psnr_sigma1.5, psnr_sigma2.0, ssim
other sets  the same, prefixed: comic/psnr_sigma2.0
tone        tone_error, flat_std, dotted_levels                    (constant grays)
spectrum    low_frequency_ratio, anisotropy_db, each also _worst   (constant grays, 128 pixels and up)
"""

from __future__ import annotations

from torchmetrics import Metric

from nibkit.metrics.flat import DottedLevels, FlatStd, ToneError
from nibkit.metrics.psnr import FilteredPSNR
from nibkit.metrics.sets import MetricSets
from nibkit.metrics.spectrum import Anisotropy, LowFrequencyRatio
from nibkit.metrics.ssim import HalftoneSSIM


def image_metrics() -> dict[str, Metric]:
    """Return the metrics of (halftone, gray) by their logged names."""
    return {"psnr_sigma1.5": FilteredPSNR(1.5), "psnr_sigma2.0": FilteredPSNR(2.0), "ssim": HalftoneSSIM()}


def tone_metrics() -> dict[str, Metric]:
    """Return the metrics of (halftone, level) on constant grays of any size."""
    return {"tone_error": ToneError(), "flat_std": FlatStd(), "dotted_levels": DottedLevels()}


def spectrum_metrics() -> dict[str, Metric]:
    """Return the metrics of (halftone, level) on constant grays of the blue-noise protocol."""
    return {
        "low_frequency_ratio": LowFrequencyRatio(),
        "low_frequency_ratio_worst": LowFrequencyRatio("worst"),
        "anisotropy_db": Anisotropy(),
        "anisotropy_db_worst": Anisotropy("worst"),
    }


def halftone_metrics(set_name: str) -> dict[str, Metric]:
    """Return the metrics of a set; ``tone`` and ``spectrum`` are constant grays, anything else images."""
    makers = {"tone": tone_metrics, "spectrum": spectrum_metrics}
    return makers.get(set_name, image_metrics)()


class HalftoneMetrics(MetricSets):
    """All figures of halftones; images are compared with their gray, constant grays with their level ``[B]``."""

    def __init__(self) -> None:
        super().__init__(halftone_metrics)
