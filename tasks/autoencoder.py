"""Reconstruction through a latent: does the NIB harm the image? (Figure 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric

from nibkit.errors import UserError
from nibkit.metrics import ReconstructionMetrics
from nibkit.nib import NIB
from nibkit.precision import widened
from nibkit.sheet import error_map
from tasks.base import Batch, Task

ERROR_LIMIT = 0.1  # of the white range: the brightest colour of error maps


class AutoencoderTask(Task):
    """Give the input back.

    The paper compares ``nib=none``, ``nib=additive`` (noise in the input, a control) and ``nib=symmetric``.

    Args:
        backbone: see :class:`tasks.base.Task`; as many output channels as input channels.
        nib: likewise.
        optimizer: likewise.
        schedule: likewise.
        reconstruction_weight: of the mean squared error, on [-1, 1].
        l1_weight: of the mean absolute error.
        channels_last: see :class:`tasks.base.Task`.
    """

    makes_halftones = False

    def __init__(
        self,
        backbone: Mapping[str, Any],
        nib: Mapping[str, Any],
        optimizer: Mapping[str, Any],
        schedule: Mapping[str, Any],
        reconstruction_weight: float = 1.0,
        l1_weight: float = 0.0,
        channels_last: bool = True,
    ) -> None:
        super().__init__(backbone, nib, optimizer, schedule, channels_last)

    def configure_losses(self) -> None:
        """Take the terms whose weight is above 0."""
        inputs, outputs = self.backbone.in_channels, self.backbone.out_channels
        if inputs != outputs:
            raise UserError(
                f"backbone.out_channels={outputs}, but a reconstruction has as many channels as its input; "
                f"set backbone.out_channels={inputs}"
            )
        weights = {"reconstruction": self.hparams["reconstruction_weight"], "l1": self.hparams["l1_weight"]}
        self.weights = {name: float(weight) for name, weight in weights.items() if weight}

    def configure_metrics(self) -> None:
        """Set up the metrics per stage, and the mean that is the objective."""
        self.metrics = {stage: ReconstructionMetrics() for stage in ("val", "test")}
        self.squared_error = {"val": MeanMetric()}  # in a dictionary, no submodule: no metric state in checkpoints

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the errors of the reconstructed crops."""
        image = batch["image"]
        output = widened(self(image, batch["origin"]))
        terms = {"reconstruction": F.mse_loss, "l1": F.l1_loss}
        return {name: terms[name](output, image) for name in self.weights}

    def render(self, image: Tensor, origin: Tensor | None = None) -> Tensor:
        """Return the reconstruction, ``[B, C, H, W]`` in [-1, 1]."""
        answer: Tensor = self(image, origin).float().clamp(-1, 1)
        return answer

    def pictures(self, image: Tensor) -> list[tuple[str, Tensor]]:
        """Return an image ``[C, H, W]``, the noisy one of ``nib=additive``, the reconstruction and its error."""
        output = self.rendered(image)
        error = (output - image.cpu()).abs().mean(dim=0) / 2
        caption = f"error, 0 to {ERROR_LIMIT:g} of white"
        noisy = [("input + noise", self._noisy(image))] if self.backbone.nib.get("form") == "additive" else []
        return [("input", image), *noisy, ("reconstruction", output), (caption, error_map(error, ERROR_LIMIT))]

    @torch.no_grad()
    def _noisy(self, image: Tensor) -> Tensor:
        """Return what the network sees of ``image`` ``[C, H, W]`` where the noise is added to it."""
        stem = next(module for module in self.backbone.modules() if isinstance(module, NIB))
        return stem.planes(image[None].to(self.device))[0].clamp(-1, 1).cpu()

    def evaluate(self, stage: str, batch: Batch) -> None:
        """Compare reconstructions with their images; blue-noise grays and constant colours are left out."""
        image, set_name = batch["image"], batch["set"][0]
        if set_name in ("spectrum", "colour"):
            return
        output = self.render(image, batch["origin"])
        self.metrics[stage].update(set_name, output, image, batch["name"])
        if stage == "val" and "level" not in batch:
            errors = (output - image).square().flatten(1).mean(dim=1)
            self.squared_error["val"].to(image.device).update(errors)

    def figures(self, stage: str) -> dict[str, Tensor]:
        """Return the metrics; at ``val`` also the mean squared error of all images, on [-1, 1], as the objective."""
        figures = self.metrics[stage].compute()
        self.metrics[stage].reset()
        if stage == "val":
            figures["objective"] = self.squared_error["val"].to(self.device).compute()
            self.squared_error["val"].reset()
        return figures
