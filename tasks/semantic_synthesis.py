"""Semantic synthesis: photographs from label maps, by Pix2Pix or SPADE (Table 2, Figure 6)."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric

from nibkit.draws import drawn_for
from nibkit.errors import UserError
from nibkit.label_pictures import paint
from nibkit.labels import condition
from nibkit.losses import Perceptual, feature_matching_loss
from nibkit.vgg import PERCEPTUAL_LAYER, check_vgg, vgg_features
from tasks.adversarial import AdversarialTask, Features
from tasks.base import Batch

TERMS = ("adversarial", "feature_matching", "perceptual", "l1")


class SemanticSynthesisTask(AdversarialTask):
    """Photographs from label maps.

    Args:
        backbone: the generator, see :class:`tasks.base.Task`; its input channels are the planes of the label map.
        nib: likewise.
        optimizer: see :class:`tasks.adversarial.AdversarialTask`.
        schedule: likewise.
        discriminator: likewise.
        discriminator_optimizer: likewise.
        gan_loss: likewise.
        adversarial_weight: likewise.
        discriminator_weight: likewise.
        feature_matching_weight: of the distance of the discriminator's features; published 10 for SPADE.
        perceptual_weight: of the distance of VGG's features; published 10 for SPADE. 0 needs no VGG weights.
        l1_weight: of the mean absolute error; published 100 for Pix2Pix.
        classes: of the data: their ``number``, the ``void_id`` in label files, whether there are ``edges`` of
            instances, and the ``names`` of the scored ones. They travel with the checkpoint.
        vgg_weights: a file of VGG16 or VGG19; None for torchvision's VGG19.
        channels_last: see :class:`tasks.base.Task`.
    """

    makes_halftones = False
    reads_images = False  # but label maps

    def __init__(
        self,
        backbone: Mapping[str, Any],
        nib: Mapping[str, Any],
        optimizer: Mapping[str, Any] | None,
        schedule: Mapping[str, Any],
        discriminator: Mapping[str, Any] | None = None,
        discriminator_optimizer: Mapping[str, Any] | None = None,
        gan_loss: str = "hinge",
        adversarial_weight: float = 1.0,
        discriminator_weight: float = 1.0,
        feature_matching_weight: float = 0.0,
        perceptual_weight: float = 0.0,
        l1_weight: float = 0.0,
        classes: Mapping[str, Any] | None = None,
        vgg_weights: str | None = None,
        channels_last: bool = True,
    ) -> None:
        super().__init__(
            backbone, nib, optimizer, schedule, discriminator, discriminator_optimizer, gan_loss, adversarial_weight,
            discriminator_weight, channels_last,
        )  # fmt: skip

    def configure_losses(self) -> None:
        """Take the terms whose weight is above 0."""
        weights = {name: float(self.hparams[f"{name}_weight"]) for name in TERMS}
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.perceptual: list[Perceptual] = []  # no submodule: VGG shall neither be trained nor saved

    def configure_metrics(self) -> None:
        """Set up the mean error; what tells more is measured by callbacks (see the config section ``metrics``)."""
        self.l1 = {"val": MeanMetric(), "test": MeanMetric()}

    def check_data(self, data: Any) -> None:
        """Raise unless the data have label maps with the classes that the network was made for."""
        number = getattr(data, "num_classes", None)
        if number is None:
            raise UserError(
                "semantic synthesis needs photos with label maps; choose data=builtin, labelled, camvid, facades or "
                "cityscapes"
            )
        if data.channels != self.backbone.in_channels:
            raise UserError(
                f"the data have label maps of {data.channels} planes ({number} classes, void and edges included), but "
                f"the network takes {self.backbone.in_channels}; set backbone.in_channels={data.channels}, or choose "
                "the data it was trained with"
            )
        self._check_classes(data)
        self._check_size(data)

    def _check_classes(self, data: Any) -> None:
        """Raise if the classes are others than those that the network was trained with, in the same number."""
        classes = self.hparams["classes"] or {}
        names = classes.get("names")
        if (classes and classes["number"] != data.num_classes) or (names and list(names) != list(data.class_names)):
            raise UserError(
                f"the network was trained with the classes {', '.join(names or [str(classes['number'])])}, but the "
                f"data have {', '.join(data.class_names)}; choose the data it was trained with"
            )

    def _check_size(self, data: Any) -> None:
        multiple = self.backbone.multiple
        if any(side % multiple for side in data.size):
            sides = [max(1, round(side / multiple)) * multiple for side in data.size]
            raise UserError(
                f"data.size={list(data.size)} is not possible with this generator, whose sides are multiples of "
                f"{multiple}; use data.size={sides}"
            )
        if data.batch_size * prod(side // self.backbone.coarsest for side in data.size) < 2:
            raise UserError(
                f"data.size={list(data.size)} with data.batch_size=1 leaves a single value per channel, which cannot "
                "be normalised; use larger images or data.batch_size=2"
            )
        self._check_discriminator(data)

    def _check_discriminator(self, data: Any) -> None:
        """Raise if the images are too small for the discriminator, whose every layer makes them smaller."""
        self.discriminator.eval()
        try:
            with torch.no_grad():
                self.discriminator(torch.zeros(1, self.judged_channels(), *data.size, device=self.device))
        except RuntimeError as error:
            raise UserError(
                f"data.size={list(data.size)} is too small for the discriminator; use larger images or a lower "
                f"discriminator.layers than {self.hparams['discriminator'].get('layers', 'its default')}"
            ) from error
        finally:
            self.discriminator.train()

    def prepare(self) -> None:
        """Look for VGG's weights, which training alone needs."""
        if "perceptual" in self.weights:
            check_vgg(self.hparams["vgg_weights"], layer=PERCEPTUAL_LAYER)

    def setup(self, stage: str) -> None:
        """Load VGG for training."""
        if stage == "fit" and "perceptual" in self.weights:
            features = vgg_features(weights_path=self.hparams["vgg_weights"], layer=PERCEPTUAL_LAYER)
            self.perceptual = [Perceptual(features)]

    @property
    def compares_features(self) -> bool:
        """Whether feature matching is among the terms."""
        return "feature_matching" in self.weights

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Make the planes of the label maps once, for both networks and every time they are read."""
        return {**batch, "planes": self.condition(batch)} if "label" in batch else batch

    def condition(self, batch: Batch) -> Tensor:
        """Return the planes of a batch's label maps, ``[B, C, H, W]``."""
        if "planes" in batch:
            return batch["planes"]  # type: ignore[no-any-return]
        return condition(batch["label"], self.backbone.in_channels, batch.get("edges"))

    def generate(self, batch: Batch) -> Tensor:
        """Return generated photographs."""
        fake: Tensor = self.backbone(self.condition(batch), batch["origin"])
        return fake

    def judged(self, batch: Batch, image: Tensor) -> Tensor:
        """Return label maps and images side by side."""
        return torch.cat((self.condition(batch).to(image.dtype), image), dim=1)

    def generator_terms(self, batch: Batch, fake: Tensor, judged: Features, real: Features | None) -> dict[str, Tensor]:
        """Return the terms that compare a generated photograph with the true one."""
        terms: dict[str, Tensor] = {}
        if real is not None:
            terms["feature_matching"] = feature_matching_loss(judged, real)
        if "perceptual" in self.weights:
            terms["perceptual"] = self.perceptual[0].to(fake.device)(fake, batch["image"])
        if "l1" in self.weights:
            terms["l1"] = F.l1_loss(fake, batch["image"])
        return terms

    def render(self, image: Tensor, origin: Tensor | None = None) -> Tensor:
        """Return photographs ``[B, 3, H, W]`` in [-1, 1] of the planes of label maps, ``image`` ``[B, C, H, W]``."""
        fake: Tensor = self.backbone(image, origin)
        return fake.float().clamp(-1, 1)

    def render_batch(self, batch: Batch) -> Tensor:
        """Return photographs of an evaluation batch; what is random in each depends on its name alone."""
        with drawn_for(batch):
            return self.render(self.condition(batch), batch["origin"])

    def evaluate(self, stage: str, batch: Batch) -> Tensor:
        """Return the photographs of a batch, and keep their mean absolute error."""
        fake = self.render_batch(batch)
        for error in (fake - batch["image"]).abs().mean(dim=(1, 2, 3)):
            self.l1[stage].to(fake.device).update(error)
        return fake

    def figures(self, stage: str) -> dict[str, Tensor]:
        """Return the mean absolute error on [-1, 1]."""
        error = self.l1[stage].to(self.device).compute()
        self.l1[stage].reset()
        return {"l1": error} | ({"objective": error} if stage == "val" else {})

    def batch_pictures(self, batch: Batch, palette: Any) -> list[list[tuple[str, Tensor]]]:
        """Return a row per image: label map, generated and true photograph; captions and pictures in [-1, 1]."""
        with self.evaluating():
            fakes = self.render_batch(batch).cpu()
        maps = [paint(label.cpu(), palette) for label in batch["label"]]
        return [
            [(f"{name}: labels", labels), ("generated", fake), ("photo", photo.cpu())]
            for name, labels, fake, photo in zip(batch["name"], maps, fakes, batch["image"], strict=True)
        ]
