"""Flatness probe: what Figure 3 of the paper shows, for the network that was just tested."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nibkit.backbones import Backbone, InvertibleGrayscale
from nibkit.data.images import to_tensor
from nibkit.probe import convolutions, enlarge, first_channels, inner, spread_over
from nibkit.sheet import colorize, draw_sheet, save_picture


class FlatnessProbe(pl.Callback):
    """Draws the first feature channel at several layers for a constant and a textured input.

    Args:
        folder: where ``flatness.png`` goes.
        layers: how many convolutions are shown, first and last among them.
        size: side of the inputs, pixels.
        level: of the constant input, in [0, 1].
    """

    def __init__(self, folder: str, layers: int = 5, size: int = 160, level: float = 0.4) -> None:
        self.folder, self.layers, self.size, self.level = Path(folder), layers, size, level

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Probe the backbone; all ranks compute, one writes."""
        backbone = getattr(pl_module, "backbone", None)
        if backbone is None:
            return
        if isinstance(backbone, InvertibleGrayscale):
            backbone = backbone.encoder  # the decoder's input, a gray that hides colours, is not constant
        source = next(iter(trainer.datamodule.evaluation_images["test"].values()))  # type: ignore[attr-defined]
        pixels = to_tensor(source.read(0))
        top, left = ((side - self.size) // 2 for side in pixels.shape[-2:])
        textured = pixels[:, max(0, top) : max(0, top) + self.size, max(0, left) : max(0, left) + self.size]
        constant = torch.full_like(textured, 2 * self.level - 1)
        rows = [
            self._row("constant", constant, backbone, pl_module.device),
            self._row("textured", textured, backbone, pl_module.device),
        ]
        if trainer.is_global_zero:
            title = "first channel of some convolutions, each stretched to its own range (std in the caption)"
            save_picture(draw_sheet(rows, title), self.folder / "flatness.png")

    def _row(self, name: str, image: Tensor, backbone: nn.Module, device: torch.device) -> list[tuple[str, Tensor]]:
        reach = int(backbone.extension()) if isinstance(backbone, Backbone) else 0
        # zero padding leaks in from the border, which is no part of the picture; the other kind extends by itself
        ahead = reach if getattr(backbone, "padding", "") == "zeros" else 0
        extended = F.pad(image[None], (ahead, ahead, ahead, ahead), mode="replicate")
        indices = spread_over(self.layers, len(convolutions(backbone)))
        features = first_channels(backbone, extended.to(device), indices)
        planes = [(label, inner(plane, self.size, self.size + 2 * reach)) for label, plane in features]
        cells = [(f"{label}: {plane.std():.1e}", colorize(enlarge(plane, self.size))) for label, plane in planes]
        return [(f"{name} input", image), *cells]
