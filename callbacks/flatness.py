"""Flatness probe: what Figure 3 of the paper shows, for the network that was just tested."""

from __future__ import annotations

import math
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nibkit.backbones import Backbone
from nibkit.data.images import to_tensor
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
        features = first_channels(backbone, extended.to(device), self.layers)
        planes = [(label, inner(plane, self.size, self.size + 2 * reach)) for label, plane in features]
        cells = [(f"{label}: {plane.std():.1e}", colorize(enlarge(plane, self.size))) for label, plane in planes]
        return [(f"{name} input", image), *cells]


@torch.no_grad()
def first_channels(network: nn.Module, image: Tensor, count: int) -> list[tuple[str, Tensor]]:
    """Return the first feature channel ``[H, W]`` of ``count`` convolutions of ``network``, by layer name."""
    convolutions = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d)]
    chosen = [convolutions[round(i * (len(convolutions) - 1) / max(1, count - 1))] for i in range(count)]
    seen: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(
            lambda _m, _i, output, name=name: seen.__setitem__(name, output[0, 0].float().cpu().clone())
        )
        for name, module in dict(chosen).items()
    ]
    try:
        network(image)
    finally:
        for handle in handles:
            handle.remove()
    return list(seen.items())


def inner(plane: Tensor, size: int, extended: int) -> Tensor:
    """Return the part of a feature plane that shows the image itself.

    Args:
        plane: ``[H, W]``, of an image extended from ``size`` to about ``extended`` pixels a side, and of it at
            full, half, quarter ... resolution.
        size: of the image, pixels.
        extended: likewise.
    """
    stride = 2 ** max(0, round(math.log2(extended / plane.shape[-1])))
    side = size // stride
    top, left = (max(0, length - side) // 2 for length in plane.shape)
    return plane[top : top + side, left : left + side]


def enlarge(plane: Tensor, size: int) -> Tensor:
    """Repeat the pixels of a smaller plane ``[H, W]`` so that it is about ``size`` wide."""
    times = max(1, size // plane.shape[-1])
    return plane.repeat_interleave(times, dim=0).repeat_interleave(times, dim=1)
