"""Figures of a segmentation, all from one confusion matrix over the whole set.

miou                         mean over the classes that occur in a target or a prediction
iou_NAME                     of each class; one that occurs nowhere has none
pixel_accuracy               share of the pixels that are right, void left out
pixel_accuracy_void_wrong    the same with void pixels counted as wrong, as some papers have it

Void (target 255) is in no row and no column: what is predicted there helps and harms no class.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix

from nibkit.labels import IGNORE


class SegmentationMetrics(Metric):
    """All figures of a segmentation by name; whole numbers are summed, so any number of processes gives the same.

    Args:
        class_names: of the scored classes, by id.
    """

    full_state_update = False
    confusion: Tensor
    pixels: Tensor

    def __init__(self, class_names: Sequence[str]) -> None:
        super().__init__()
        self.class_names = list(class_names)
        classes = len(self.class_names)
        self.add_state("confusion", torch.zeros(classes, classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("pixels", torch.tensor(0), dist_reduce_fx="sum")  # void included

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add images.

        Args:
            prediction: class ids ``[B, H, W]``, 0 to classes - 1.
            target: the same of the truth, with ``IGNORE`` (255) for void.
        """
        self.confusion += multiclass_confusion_matrix(  # rows are true classes, columns predicted ones
            prediction, target, len(self.class_names), ignore_index=IGNORE, validate_args=False
        )
        self.pixels += target.numel()

    def compute(self) -> dict[str, Tensor]:
        """Return the figures by name, float64; NaN for those that do not exist."""
        confusion = self.confusion.double()
        right = confusion.diagonal()
        iou = right / (confusion.sum(dim=0) + confusion.sum(dim=1) - right)  # 0 / 0 of a class that occurs nowhere
        figures = {
            "miou": iou.nanmean(),
            "pixel_accuracy": right.sum() / confusion.sum(),
            "pixel_accuracy_void_wrong": right.sum() / self.pixels,
        }
        return figures | {f"iou_{name}": value for name, value in zip(self.class_names, iou, strict=True)}
