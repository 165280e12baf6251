"""Segmentation: the class of every pixel. Such a network judges generated photographs (Table 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nibkit.errors import UserError
from nibkit.label_pictures import Palette, paint, scored_palette
from nibkit.labels import IGNORE
from nibkit.metrics.segmentation import SegmentationMetrics
from nibkit.precision import widened
from nibkit.ranks import mean_of_ranks
from tasks.base import Batch, Task


class SegmentationTask(Task):
    """Name the class of every pixel of a photograph.

    Args:
        backbone: see :class:`tasks.base.Task`; as many output channels as scored classes.
        nib: likewise; a segmenter has none.
        optimizer: likewise.
        schedule: likewise.
        class_names: of the scored classes; None for those that the data give. They travel with the checkpoint, so
            that it cannot judge data of other classes.
        class_map: of the data: the scored class of each class in label maps, for the colours of pictures.
        class_balance: let a rare class weigh more, by 1 / log(1.02 + its share of the batch) (Paszke et al. 2016).
        channels_last: see :class:`tasks.base.Task`.
    """

    makes_halftones = False

    def __init__(
        self,
        backbone: Mapping[str, Any],
        nib: Mapping[str, Any],
        optimizer: Mapping[str, Any],
        schedule: Mapping[str, Any],
        class_names: Sequence[str] | None = None,
        class_map: Sequence[int | None] | None = None,
        class_balance: bool = False,
        channels_last: bool = True,
    ) -> None:
        super().__init__(backbone, nib, optimizer, schedule, channels_last)

    @property
    def classes(self) -> int:
        """The number of scored classes."""
        return self.backbone.out_channels

    def configure_losses(self) -> None:
        """There is one term."""
        self.weights = {"cross_entropy": 1.0}

    def configure_metrics(self) -> None:
        """Set up a confusion matrix per stage."""
        names = self.hparams["class_names"] or [f"class {number}" for number in range(self.classes)]
        if len(names) != self.classes:
            raise UserError(
                f"task.class_names has {len(names)} names, but backbone.out_channels={self.classes}; give a name per "
                "scored class"
            )
        self.scores = {stage: SegmentationMetrics(names) for stage in ("val", "test")}  # no submodules

    def check_data(self, data: Any) -> None:
        """Raise unless the data have label maps of this network's classes; take their names if it has none yet."""
        if not hasattr(data, "num_classes"):
            raise UserError(
                "segmentation needs photos with label maps; choose data=builtin, labelled, camvid, facades or "
                "cityscapes"
            )
        if data.scored_classes != self.classes or self.backbone.in_channels != 3:
            raise UserError(
                f"the data are photos of 3 channels with {data.scored_classes} scored classes, but the network has "
                f"backbone.in_channels={self.backbone.in_channels} and backbone.out_channels={self.classes}; set both "
                "to match, or choose the data it was trained with"
            )
        self._check_names(list(data.class_names))
        self._check_size(data)

    def _check_names(self, names: list[str]) -> None:
        known = self.hparams["class_names"]
        if known is not None and list(known) != names:
            number = next(i for i, pair in enumerate(zip(known, names, strict=True)) if pair[0] != pair[1])
            raise UserError(
                f"class {number} of the data is '{names[number]}', but '{known[number]}' to this network; choose the "
                "data it was trained with"
            )
        self.hparams["class_names"] = names
        self.configure_metrics()

    def _check_size(self, data: Any) -> None:
        values = data.batch_size * prod(-(-side // self.backbone.coarsest) for side in data.size)
        if values < 2 or data.batch_size < self.backbone.smallest_batch:
            raise UserError(
                f"data.batch_size={data.batch_size} with data.size={list(data.size)} leaves this network a single "
                "value per channel, which cannot be normalised; use data.batch_size=2 or more"
            )

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean cross entropy of the pixels of all processes that are not void; 0 if there are none."""
        target = batch["target"]
        logits = widened(self(batch["image"]))
        each = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
        share = self._class_weights(target).to(each)[target.clamp(max=self.classes - 1)] * (target != IGNORE)
        return {"cross_entropy": (each * share).sum() / mean_of_ranks(share.sum()).clamp(min=1e-6)}

    def _class_weights(self, target: Tensor) -> Tensor:
        """Return the weight of each class in a batch, of all processes in training, ``[K]``."""
        if not self.hparams["class_balance"]:
            return torch.ones(self.classes, device=target.device)
        counts = mean_of_ranks(torch.bincount(target[target != IGNORE], minlength=self.classes).float())
        return 1 / torch.log(1.02 + counts / counts.sum().clamp(min=1))

    def segment(self, image: Tensor) -> Tensor:
        """Return the class ids ``[B, H, W]`` of images ``[B, 3, H, W]`` in [-1, 1]."""
        ids: Tensor = self(image).argmax(dim=1)
        return ids

    def render(self, image: Tensor, origin: Tensor | None = None) -> Tensor:
        """Return class ids as gray, ``[B, 1, H, W]`` in [-1, 1]: as 8-bit PNGs they are label maps."""
        return self.segment(image)[:, None].float() / 127.5 - 1

    def evaluate(self, stage: str, batch: Batch) -> None:
        """Count the classes of a batch of photographs."""
        self.scores[stage].to(self.device).update(self.segment(batch["image"]), batch["target"])

    def figures(self, stage: str) -> dict[str, Tensor]:
        """Return the figures of the confusion matrix; at ``val`` 1 - mIoU as the objective."""
        figures: dict[str, Tensor] = self.scores[stage].to(self.device).compute()
        self.scores[stage].reset()
        return figures | ({"objective": 1 - figures["miou"]} if stage == "val" else {})

    def batch_pictures(self, batch: Batch, palette: Palette) -> list[list[tuple[str, Tensor]]]:
        """Return a row per image: photograph, its scored classes and the predicted ones; pictures in [-1, 1].

        Args:
            batch: of evaluation.
            palette: 8-bit colours of the classes in label maps, ``[classes, 3]``.
        """
        with self.evaluating():
            predictions = self.segment(batch["image"])
        colours = scored_palette(palette, self.hparams["class_map"], self.classes)
        return [
            [(f"{name}: photo", photo.cpu()), ("labels", paint(target, colours).cpu()),
             ("predicted", paint(prediction, colours).cpu())]
            for name, photo, target, prediction in zip(
                batch["name"], batch["image"], batch["target"], predictions, strict=True
            )
        ]  # fmt: skip
