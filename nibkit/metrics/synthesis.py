"""What generated photographs are judged by, together: distributions, segmentation, texture.

The networks that judge are held by plain objects, so that no task's checkpoint and no optimizer ever sees them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nibkit.data.scan import cache_folder
from nibkit.errors import UserError, choose
from nibkit.inception import find_inception
from nibkit.labels import IGNORE
from nibkit.metrics.frechet import DistributionMetrics, inception_metrics, vgg_metrics
from nibkit.metrics.segmentation import SegmentationMetrics
from nibkit.metrics.texture import TextureMetrics
from nibkit.segmenter import Segmenter, load_segmenter

MODES = ("auto", "on", "off")


class SynthesisMetrics:
    """All figures of generated photographs.

    Args:
        distributions: each with a feature network of its own.
        segmenter: that reads the photographs; None for none.
        segmentation: its confusion matrix.
        texture: of large regions; None for none.
        void: the input class that is void; None for none.
    """

    def __init__(
        self,
        distributions: list[DistributionMetrics],
        segmenter: Segmenter | None,
        segmentation: SegmentationMetrics | None,
        texture: TextureMetrics | None,
        void: int | None,
    ) -> None:
        self.distributions, self.segmenter, self.segmentation = distributions, segmenter, segmentation
        self.texture, self.void = texture, void

    def to(self, device: torch.device) -> SynthesisMetrics:
        """Compute on a device."""
        for part in (*self.distributions, self.segmenter, self.segmentation, self.texture):
            if part is not None:
                part.to(device)
        return self

    @torch.no_grad()
    def update(self, fake: Tensor, batch: Mapping[str, Any]) -> None:
        """Add photographs ``[B, 3, H, W]`` in [-1, 1] of a batch of labelled data."""
        for distribution in self.distributions:
            distribution.update(batch["image"], fake, batch["name"])
        if self.segmenter is not None and self.segmentation is not None:
            self.segmentation.update(self.segmenter(fake), batch["target"])
        if self.texture is not None:
            self.texture.update(fake, batch["image"], batch["label"], self.void)

    def compute(self) -> dict[str, Tensor]:
        """Return all figures by name; every rank must call it."""
        parts = [*self.distributions, self.segmentation, self.texture]
        return {name: value for part in parts if part is not None for name, value in part.compute().items()}

    def reset(self) -> None:
        """Start anew."""
        for part in (*self.distributions, self.segmentation, self.texture):
            if part is not None:
                part.reset()
