"""Invertible grayscale: gray images that hide their colours and give them back (Table 3, Figure 7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric

from nibkit.backbones import InvertibleGrayscale
from nibkit.color import luminance
from nibkit.config_rules import number
from nibkit.errors import UserError, choose
from nibkit.grayscale_pictures import grayscale_pictures
from nibkit.losses import Contrast, lightness_loss, local_structure_loss, quantization_loss
from nibkit.metrics.grayscale import GrayscaleMetrics
from nibkit.precision import widened
from nibkit.quantize import ROUNDINGS, to_8_bit
from nibkit.robustness import ATTACKS
from nibkit.vgg import check_vgg, vgg_features
from tasks.base import Batch, Task

JUDGED_ELSEWHERE = ("tone", "spectrum")  # grays of halftoning; constant colours are the set "colour"


class InvertibleGrayscaleTask(Task):
    """Hide the colours of an image in its gray version, and restore them from a file of 8 bit.

    The loss is the published one (Xia et al. 2018), on [-1, 1], in two stages of one run::

        reconstruction |restored - image|^2 + contrast VGG + structure TV + lightness + quantization

    and ``likeness``, our own: the mean squared distance of gray and luminance, which the published tolerance of 70
    levels leaves open.

    Args:
        backbone: see :class:`tasks.base.Task`; a pair with ``encode`` and ``decode``.
        nib: likewise, of the encoder.
        optimizer: likewise.
        schedule: likewise.
        reconstruction_weight: of the mean squared error of the restored colours.
        contrast_weight: of VGG's features; published 1e-7. 0 needs no VGG weights.
        structure_weight: of the difference of total variation.
        lightness_weight: of the distance from luminance beyond the tolerance.
        lightness_tolerance: on [-1, 1]; published 70/127.
        likeness_weight: of the mean squared distance from luminance.
        quantization_weight: of the distance to the nearest 8-bit level; published 10 in the second stage.
        second_stage: ``start``, the share of the steps after which it begins (a run bounded by time alone has none),
            and weights ``NAME_weight`` that then replace the first ones; empty for one stage.
        rounding: how 8 bit are simulated in training: ``straight_through``, ``noise`` or ``none``.
        flats: constant colours that join every batch of crops.
        robustness: judge in a test what JPEG, noise and rotation of the gray leave of the colours.
        vgg_weights: a file of VGG16 or VGG19; None for torchvision's VGG19.
        channels_last: see :class:`tasks.base.Task`.
    """

    makes_halftones = False
    backbone: InvertibleGrayscale

    def __init__(
        self,
        backbone: Mapping[str, Any],
        nib: Mapping[str, Any],
        optimizer: Mapping[str, Any],
        schedule: Mapping[str, Any],
        reconstruction_weight: float = 3.0,
        contrast_weight: float = 0.0,
        structure_weight: float = 0.5,
        lightness_weight: float = 1.0,
        lightness_tolerance: float = 70 / 127,
        likeness_weight: float = 0.0,
        quantization_weight: float = 0.0,
        second_stage: Mapping[str, float] | None = None,
        rounding: str = "straight_through",
        flats: int = 0,
        robustness: bool = True,
        vgg_weights: str | None = None,
        channels_last: bool = True,
    ) -> None:
        super().__init__(backbone, nib, optimizer, schedule, channels_last)

    def configure_losses(self) -> None:
        """Set up the rounding and the weights of both stages."""
        if not isinstance(self.backbone, InvertibleGrayscale):
            raise UserError(
                f"backbone.name={self.hparams['backbone']['name']} has no encoder and decoder; invertible grayscale "
                "needs backbone=invertible_grayscale, or a class of your own that is derived from it"
            )
        if (channels := (self.backbone.in_channels, self.backbone.out_channels)) != (3, 3):
            raise UserError(
                f"backbone.in_channels={channels[0]} and backbone.out_channels={channels[1]} are no colours that could "
                "be hidden and restored; set both to 3"
            )
        self.rounding = ROUNDINGS[choose("task.rounding", self.hparams["rounding"], ROUNDINGS)]
        self.stages = self._stages()
        self.weights = self.stages[0]
        self.contrast: list[Contrast] = []  # no submodule: VGG shall neither be trained nor saved

    def prepare(self) -> None:
        """Look for VGG's weights, which training alone needs."""
        if any("contrast" in stage for stage in self.stages):
            check_vgg(self.hparams["vgg_weights"])

    def setup(self, stage: str) -> None:
        """Load VGG for training and its validation."""
        if stage in ("fit", "validate") and any("contrast" in weights for weights in self.stages):
            self.contrast = [Contrast(vgg_features(weights_path=self.hparams["vgg_weights"])).to(self.device)]

    def _stages(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return the weights of both stages, those above 0 by the names of the terms."""
        terms = ("reconstruction", "contrast", "structure", "lightness", "likeness", "quantization")
        first = {f"{term}_weight": float(self.hparams[f"{term}_weight"]) for term in terms}
        changes = {key: value for key, value in self._second_stage().items() if key != "start"}
        for key, value in changes.items():
            choose("key of task.second_stage", key, ("start", *first))
            if problem := number(0)(value):
                raise UserError(f"task.second_stage.{key}={value} {problem}")
        both = [
            {name.removesuffix("_weight"): weight for name, weight in stage.items() if weight}
            for stage in (first, first | changes)
        ]
        if both[0] and not both[1]:
            raise UserError("all weights of the second stage are 0; give one of task.second_stage.*_weight more")
        return both[0], both[1]

    def _second_stage(self) -> Mapping[str, Any]:
        second = self.hparams["second_stage"] or {}
        if not isinstance(second, Mapping):
            raise UserError(f"task.second_stage={second} has no keys; give {{start: SHARE, NAME_weight: W}}, or null")
        return second

    def configure_metrics(self) -> None:
        """Set up the metrics per stage, and the mean that is the objective."""
        attacks = tuple(ATTACKS) if self.hparams["robustness"] else ()
        self.metrics = {"val": GrayscaleMetrics(), "test": GrayscaleMetrics(attacks)}
        self.term_means = {name: MeanMetric() for name in self.stages[1]}  # no submodules: not in checkpoints

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Take the weights of the stage that the step belongs to; a resumed run so finds its own."""
        start = float(self._second_stage().get("start", 1.0))
        begun = start == 0 or self.global_step >= start * self.trainer.estimated_stepping_batches
        self.weights = self.stages[begun]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of a batch of crops and of the constant colours that join it."""
        images, origins = self._with_flats(batch)
        gray = widened(self.backbone.encode(images, origins))
        restored = widened(self.backbone.decode(self.rounding(gray, origins), origins))
        return self._terms(gray, restored, images, self.weights)

    def _with_flats(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return images and origins of the batch, and of constant colours at other places of the noise field."""
        images, origins, count = batch["image"], batch["origin"], self.hparams["flats"]
        if not count:
            return images, origins
        # a batch smaller than their number gives its colours in another order of channels
        levels = torch.cat([batch["level"].roll(turn, dims=1) for turn in range(-(-count // len(images)))])[:count]
        flats = (2 * levels - 1)[..., None, None].expand(-1, -1, *images.shape[-2:])
        places = origins.flip(1).repeat(-(-count // len(images)), 1)[:count]
        return torch.cat((images, flats)), torch.cat((origins, places))

    def _terms(self, gray: Tensor, restored: Tensor, image: Tensor, names: Mapping[str, float]) -> dict[str, Tensor]:
        """Return the named terms of gray and restored images."""
        light = luminance(image)
        tolerance = float(self.hparams["lightness_tolerance"])
        terms: dict[str, Callable[[], Tensor]] = {
            "reconstruction": lambda: F.mse_loss(restored, image),
            "contrast": lambda: self.contrast[0].to(image.device)(gray, image),
            "structure": lambda: local_structure_loss(gray, light),
            "lightness": lambda: lightness_loss(gray, light, tolerance),
            "likeness": lambda: F.mse_loss(gray, light),
            "quantization": lambda: quantization_loss(gray),
        }
        return {name: terms[name]() for name in names}

    def hide(self, image: Tensor, origin: Tensor | None = None) -> Tensor:
        """Return the gray ``[B, 1, H, W]`` that hides the colours of ``image``, on the levels of 8 bit."""
        return to_8_bit(self.backbone.encode(image, origin).float())

    def restore(self, gray: Tensor, origin: Tensor | None = None) -> Tensor:
        """Return the colours ``[B, 3, H, W]`` in [-1, 1] that a gray hides."""
        return self.backbone.decode(gray, origin).float().clamp(-1, 1)

    def render(self, image: Tensor, origin: Tensor | None = None) -> Tensor:
        """Return the restored image, by way of 8-bit gray."""
        return self.restore(self.hide(image, origin), origin)

    def pictures(self, image: Tensor) -> list[tuple[str, Tensor]]:
        """Return an image ``[C, H, W]``, its gray, the gray's texture amplified, the restored image and its error."""
        with self.evaluating():
            gray = self.hide(image[None].to(self.device))
            restored = self.restore(gray)[0].cpu()
        return grayscale_pictures(image.cpu(), gray[0].cpu(), restored)

    def evaluate(self, stage: str, batch: Batch) -> None:
        """Judge gray and restored images; those of 8 bit, as files are."""
        image, set_name = batch["image"], batch["set"][0]
        if set_name in JUDGED_ELSEWHERE:
            return
        origin = batch["origin"]
        gray = self.hide(image, origin)
        outputs = {"gray": gray, "restored": self.restore(gray, origin)}
        if stage == "test" and set_name != "colour" and self.hparams["robustness"]:
            outputs |= {name: back(self.restore(attack(gray), origin)) for name, (attack, back) in ATTACKS.items()}
        self.metrics[stage].update(set_name, outputs, image, batch["name"])
        if stage == "val":
            self._update_objective(gray, outputs["restored"], image)

    def _update_objective(self, gray: Tensor, restored: Tensor, image: Tensor) -> None:
        for one in zip(*(torch.split(each, 1) for each in (gray, restored, image)), strict=True):
            for name, term in self._terms(one[0], one[1], one[2], self.stages[1]).items():
                self.term_means[name].to(image.device).update(term)

    def figures(self, stage: str) -> dict[str, Tensor]:
        """Return the metrics; at ``val`` also the second stage's terms and their weighted sum, the objective."""
        figures = self.metrics[stage].compute()
        self.metrics[stage].reset()
        return figures | self.term_figures(self.stages[1]) if stage == "val" else figures
