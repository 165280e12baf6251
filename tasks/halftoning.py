"""Halftoning by tone alone: the paper's analysis task (Table 1, Figures 3 and 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric

from nibkit.color import luminance
from nibkit.errors import UserError
from nibkit.estimators import binarize, get_estimator
from nibkit.filters import gaussian_filter
from nibkit.losses import Binarization, HalftoneLoss, Tone
from nibkit.metrics import HalftoneMetrics
from nibkit.precision import widened
from tasks.base import Batch, Task


class HalftoningTask(Task):
    """Reproduce the tone of a gray image by black and white pixels.

    Args:
        backbone: see :class:`tasks.base.Task`; one output channel.
        nib: likewise.
        optimizer: likewise.
        schedule: likewise.
        estimator: ``relaxed``, ``straight_through`` or ``per_pixel``; see :mod:`nibkit.estimators`.
        sigma: of the tone filter, pixels.
        tone_padding: of the tone filter.
        tone_weight: of the tone loss.
        binarization_weight: of the binarization loss, for ``relaxed`` only: the others are binary already.
        channels_last: see :class:`tasks.base.Task`.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        nib: Mapping[str, Any],
        optimizer: Mapping[str, Any],
        schedule: Mapping[str, Any],
        estimator: str = "per_pixel",
        sigma: float = 2.0,
        tone_padding: str = "valid",
        tone_weight: float = 1.0,
        binarization_weight: float = 0.1,
        channels_last: bool = True,
    ) -> None:
        super().__init__(backbone, nib, optimizer, schedule, channels_last)

    def configure_losses(self) -> None:
        """Set up the terms on images; subclasses add to ``image_terms``, ``flat_terms`` and ``weights``."""
        if self.backbone.out_channels != 1:
            raise UserError(f"backbone.out_channels={self.backbone.out_channels} but a halftone has 1")
        options = self.hparams
        self.estimator = get_estimator(options["estimator"])
        self.image_terms = nn.ModuleDict()
        self.flat_terms = nn.ModuleDict()
        self.add_image_term("tone", Tone(options["sigma"], options["tone_padding"]), options["tone_weight"])
        self.add_image_term("binarization", Binarization(), self.binarization_weight)

    @property
    def binarization_weight(self) -> float:
        """The weight of the binarization loss: 0 where the pixels are binary already."""
        return float(self.hparams["binarization_weight"]) if self.hparams["estimator"] == "relaxed" else 0.0

    def add_image_term(self, name: str, term: HalftoneLoss, weight: float) -> None:
        """Add a loss term on natural images; a weight of 0 leaves it out."""
        if weight:
            self.image_terms[name] = term
            self.weights[name] = weight

    def add_flat_term(self, name: str, term: HalftoneLoss, weight: float) -> None:
        """Add a loss term on constant grays, called ``flat_NAME``; a weight of 0 leaves it out."""
        if weight:
            self.flat_terms[f"flat_{name}"] = term
            self.weights[f"flat_{name}"] = weight

    def configure_metrics(self) -> None:
        """Set up the metrics per stage, and the sums that make the objective."""
        self.metrics = {stage: HalftoneMetrics() for stage in ("val", "test")}
        # not submodules: no metric state in checkpoints; all terms on every rank, so that all ranks agree
        self.term_means = {name: MeanMetric() for name in (*self.image_terms, *self.flat_terms)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms on the images and on as many constant grays, run through the network at once."""
        images, origins = batch["image"], batch["origin"]
        count = len(images)
        if self.flat_terms:
            flats = flat_images(batch["level"], images)
            # the flats read the field elsewhere than the images beside them
            images, origins = torch.cat((images, flats)), torch.cat((origins, origins.flip(1)))
        output = widened(self(images, origins))
        gray = widened(luminance(images))
        terms = self.estimator(output[:count], gray[:count], self.image_terms)  # type: ignore[arg-type]
        if self.flat_terms:
            terms |= self.estimator(output[count:], gray[count:], self.flat_terms)  # type: ignore[arg-type]
        return terms

    def render(self, image: Tensor, origin: Tensor | None = None) -> Tensor:
        """Return the halftone, -1 or 1, ``[B, 1, H, W]``."""
        return binarize(self(image, origin).float())

    def render_flat(self, image: Tensor, origin: Tensor | None = None) -> Tensor:
        """Return the halftone of a constant image, free of what zero padding leaks in from the border."""
        if self.backbone.padding == "extend":
            return self.render(image, origin)
        reach, (height, width) = self.backbone.extension(), image.shape[-2:]
        start = None if origin is None else origin - reach
        halftone = self.render(F.pad(image, (reach, reach, reach, reach), mode="replicate"), start)
        return halftone[..., reach : reach + height, reach : reach + width]

    def pictures(self, image: Tensor) -> list[tuple[str, Tensor]]:
        """Return an image ``[C, H, W]``, its halftone, and the halftone as the eye sees it."""
        halftone = self.rendered(image)
        seen = gaussian_filter(halftone, 2.0)
        return [("input", image), ("halftone", halftone), ("halftone, filtered (sigma 2)", seen)]

    def evaluate(self, stage: str, batch: Batch) -> None:
        """Judge the binary halftones of a batch; constant colours, which are grays to a halftone, are left out."""
        gray, set_name = luminance(batch["image"]), batch["set"][0]
        if set_name == "colour":
            return
        level = (gray[:, 0, 0, 0] + 1) / 2 if "level" in batch else None
        render = self.render if level is None else self.render_flat
        halftone = render(batch["image"], batch["origin"])
        self.metrics[stage].update(set_name, halftone, gray if level is None else level, batch.get("name", ()))
        if stage == "val":
            terms = self.image_terms if level is None else self.flat_terms
            for one, original in zip(torch.split(halftone, 1), torch.split(gray, 1), strict=True):
                for name, term in terms.items():
                    self.term_means[name].to(one.device).update(term(one, original))

    def figures(self, stage: str) -> dict[str, Tensor]:
        """Return the metrics; at ``val`` also the terms on binary halftones and their weighted sum."""
        figures = self.metrics[stage].compute()
        self.metrics[stage].reset()
        return figures | self.term_figures(self.weights) if stage == "val" else figures


def flat_images(level: Tensor, like: Tensor) -> Tensor:
    """Return constant images in [-1, 1] of tones ``level`` ``[B, C]`` in [0, 1], shaped as ``like``."""
    return (2 * level - 1)[..., None, None].expand_as(like)
