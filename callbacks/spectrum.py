"""Spectrum plot at the end of a test: power and anisotropy of constant grays against white noise."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor

from nibkit.metrics.spectrum import CROP, power_spectrum, radial_average, ring_anisotropy
from nibkit.plots import save_plot, spectrum_figure

LEVELS = (32 / 255, 64 / 255, 96 / 255, 128 / 255)


class SpectrumPlot(pl.Callback):
    """Plots RAPSD and anisotropy of halftoned grays.

    Args:
        folder: where ``spectrum.png`` goes.
        size: side of the halftones, pixels; a multiple of 128.
    """

    def __init__(self, folder: str, size: int = 512) -> None:
        self.folder, self.size = Path(folder), size

    @torch.no_grad()
    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Halftone the grays and plot; all ranks compute, one writes."""
        if not hasattr(pl_module, "render_flat"):
            return
        curves: dict[float, tuple[Tensor, Tensor]] = {}
        channels = int(getattr(pl_module.backbone, "in_channels", 1))
        for level in LEVELS:
            gray = torch.full((1, channels, self.size, self.size), 2 * level - 1, device=pl_module.device)
            power = power_spectrum(pl_module.render_flat(gray).cpu())  # type: ignore[operator]
            curves[level] = (radial_average(power) / (level * (1 - level)), ring_anisotropy(power))
        if trainer.is_global_zero:
            save_plot(spectrum_figure(curves, (self.size // CROP) ** 2), self.folder / "spectrum.png")
