"""All figures of a halftoning method, by evaluation set, under the names they are logged by.

photo       psnr_sigma1.5, psnr_sigma2.0, ssim
other sets  the same, prefixed: comic/psnr_sigma2.0
tone        tone_error, flat_std, dotted_levels                    (constant grays)
spectrum    low_frequency_ratio, anisotropy_db, each also _worst   (constant grays, 128 pixels and up)
"""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, distributed
from torchmetrics import Metric

from nibkit.metrics.flat import DottedLevels, FlatStd, ToneError
from nibkit.metrics.psnr import FilteredPSNR
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


class HalftoneMetrics:
    """Metrics per evaluation set, made when a set first shows up."""

    def __init__(self) -> None:
        self.metrics: dict[str, dict[str, Metric]] = {}

    def update(self, set_name: str, halftone: Tensor, gray: Tensor, level: Tensor | None = None) -> None:
        """Add a batch of the set ``set_name``.

        Args:
            set_name: ``tone`` and ``spectrum`` are constant grays, anything else images.
            halftone: ``[B, 1, H, W]``, -1 or 1.
            gray: same shape, in [-1, 1].
            level: ``[B]`` in [0, 1], for constant grays.
        """
        target = gray if level is None else level
        for metric in self._of(set_name, halftone.device).values():
            metric.update(halftone, target)

    def _of(self, set_name: str, device: torch.device) -> dict[str, Metric]:
        makers = {"tone": tone_metrics, "spectrum": spectrum_metrics}
        if set_name not in self.metrics:
            fresh = makers.get(set_name, image_metrics)()
            self.metrics[set_name] = {name: metric.to(device) for name, metric in fresh.items()}
        return self.metrics[set_name]

    def _sets_of_all_ranks(self) -> dict[str, dict[str, Metric]]:
        """Return the metrics per set, the same sets in the same order on every rank.

        A set with fewer images than there are ranks never showed up on some; those would not take part
        in its reduction, and the others would wait for them for ever.
        """
        if not (distributed.is_available() and distributed.is_initialized()):
            return self.metrics
        device = torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
        names: list[list[str]] = [[] for _ in range(distributed.get_world_size())]
        distributed.all_gather_object(names, list(self.metrics))
        return {name: self._of(name, device) for name in dict.fromkeys(chain(*names))}

    def compute(self) -> dict[str, Tensor]:
        """Return all figures by name; every rank must call it."""
        figures: dict[str, Tensor] = {}
        for set_name, metrics in self._sets_of_all_ranks().items():
            prefix = "" if set_name in ("photo", "tone", "spectrum") else f"{set_name}/"
            figures |= {prefix + name: metric.compute() for name, metric in metrics.items()}
        return figures

    def reset(self) -> None:
        """Start anew."""
        self.metrics.clear()
