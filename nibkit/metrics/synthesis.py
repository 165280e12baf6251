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
            distribution.update(batch["image"], fake)
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


def make_metrics(spec: Mapping[str, Any], data: Any) -> tuple[SynthesisMetrics, list[str]]:
    """Return the metrics that a config section ``metrics`` asks for, and what they use or lack, in words.

    Args:
        spec: ``fid``, ``frechet``, ``segmenter`` and ``texture``; see ``configs/metrics/synthesis.yaml``.
        data: the data module of labelled data; it need not be prepared.

    Raises:
        UserError: weights that were asked for are missing or cannot be used; a segmenter of other classes.
    """
    distributions, notes = _distributions(spec["fid"], spec["frechet"])
    segmenter, segmentation = None, None
    if spec["segmenter"]["source"]:
        segmenter = load_segmenter(spec["segmenter"], data.class_names, data.size)
        segmentation = SegmentationMetrics(data.class_names)
        notes.append(f"mIoU and accuracy by the segmenter '{spec['segmenter']['source']}'")
    else:
        notes.append("no mIoU: metrics.segmenter.source names no segmenter (train one: task=segmentation)")
    texture = TextureMetrics(classes=data.num_classes + 1) if spec["texture"] else None
    void = data.num_classes if data.void else None
    return SynthesisMetrics(distributions, segmenter, segmentation, texture, void), notes


def _distributions(fid: Mapping[str, Any], frechet: Mapping[str, Any]) -> tuple[list[DistributionMetrics], list[str]]:
    """Return the distances that are asked for or, where that is left open, can be had here."""
    found, notes, cache = [], [], cache_folder()
    if _wants_inception(fid):
        found.append(inception_metrics(fid["weights_path"], fid["mode"] == "on", cache, fid["kid"]))
        notes.append("FID" + (" and KID" if fid["kid"] else "") + " by torch-fidelity's Inception")
    elif fid["mode"] == "auto":
        notes.append(
            "no FID: Inception's weights are not on this machine; metrics.fid.mode=on downloads them, "
            "metrics.fid.weights_path names a file, metrics.frechet.weights_path another network's"
        )
    if frechet["weights_path"]:
        found.append(vgg_metrics(frechet["weights_path"], cache))
        notes.append(f"{found[-1].name} and {found[-1].kernel_name}: distances of VGG's features, which are no FID")
    return found, notes


def _wants_inception(fid: Mapping[str, Any]) -> bool:
    if choose("metrics.fid.mode", fid["mode"], MODES) == "off":
        return False
    if fid["mode"] == "on" or fid["weights_path"]:
        return True
    try:
        find_inception()
    except UserError:
        return False
    return True
