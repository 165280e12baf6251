"""Plots of measured spectra."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from nibkit.files import whole_file
from nibkit.metrics.spectrum import CROP


def spectrum_figure(curves: Mapping[float, tuple[Tensor, Tensor]], crops: int) -> Figure:
    """Return RAPSD and anisotropy over radial frequency, white noise dashed.

    Args:
        curves: by level in [0, 1]: the RAPSD ``[64]`` divided by g (1 - g), and the anisotropy ``[62]`` of
            rings 2..63 (ratio, not dB).
        crops: number of crops averaged; white noise has an anisotropy of 1 / crops.
    """
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    power, anisotropy = figure.subplots(1, 2)
    frequency = np.arange(CROP // 2) / CROP
    colors = ("#440154", "#31688e", "#35b779", "#e59b1c")
    dotless = []
    for color, (level, (rapsd, ring)) in zip(colors * len(curves), curves.items(), strict=False):
        if not rapsd.any():
            dotless.append(f"{level:.2f}")
            continue
        principal = min(math.sqrt(min(level, 1 - level)), 0.5)
        power.plot(frequency[1:], rapsd[1:], color=color, label=f"gray {level:.2f}")
        power.axvline(principal, color=color, linewidth=0.8, linestyle=":")
        anisotropy.plot(frequency[2:], 10 * ring.log10(), color=color, label=f"gray {level:.2f}")
    power.axhline(1.0, color="gray", linestyle="--", label="white noise")
    anisotropy.axhline(-10 * math.log10(crops), color="gray", linestyle="--", label="white noise")
    power.set(title="Radially averaged power (dotted: principal frequency)", ylabel="power / (g (1 - g))")
    power.set_ylim(bottom=0)
    anisotropy.set(title="Anisotropy", ylabel="dB")
    for axes in (power, anisotropy):
        axes.set_xlabel("frequency, cycles per pixel")
        axes.set_xlim(0, 0.5)
        axes.legend(fontsize=8)
    if dotless:
        figure.suptitle(f"no dots at gray {', '.join(dotless)}: no spectrum")
    return figure


def save_plot(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_bytes(figure_bytes(figure))


def figure_bytes(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
