"""Blue noise measured: power spectrum of constant-gray halftones.

Protocol: one halftone of a constant gray, cut into disjoint 128x128 crops, each crop's mean subtracted,
no window, P = mean over crops of |FFT|^2 / 128^2. Frequencies in cycles per pixel.

- Low-frequency ratio: mean of P over all 2-D bins with 0 < f < f_g / 2, divided by g (1 - g), with the
  principal frequency f_g = min(sqrt(min(g, 1 - g)), 1/2). White noise has 1, blue noise near 0.
- Anisotropy: 10 log10 of the mean over the integer rings 2..63 of variance / mean^2 of P (Ulichney 1987;
  variance with ddof 1). White noise over 16 crops has -12 dB.

A halftone without dots has neither.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torchmetrics import Metric

from nibkit.errors import UserError

CROP = 128


def power_spectrum(halftone: Tensor) -> Tensor:
    """Return P ``[128, 128]`` (float64) of a halftone ``[..., H, W]`` in [-1, 1], measured on [0, 1].

    Raises:
        UserError: a side is shorter than 128 pixels.
    """
    height, width = halftone.shape[-2:]
    if min(height, width) < CROP:
        raise UserError(f"a spectrum needs halftones of at least {CROP}x{CROP} pixels, not {width}x{height}")
    dots = (halftone.reshape(-1, height, width).double() + 1) / 2
    crops = dots.unfold(1, CROP, CROP).unfold(2, CROP, CROP).reshape(-1, CROP, CROP)
    crops = crops - crops.mean(dim=(-2, -1), keepdim=True)
    power: Tensor = torch.fft.fft2(crops).abs().square().mean(dim=0) / CROP**2
    return power


@lru_cache(maxsize=1)
def radial_frequency() -> Tensor:
    """Return the radial frequency of each bin, ``[128, 128]`` float64, cycles per pixel."""
    f = torch.fft.fftfreq(CROP, dtype=torch.float64)
    return torch.hypot(f[:, None], f[None, :])


@lru_cache(maxsize=1)
def _rings() -> list[Tensor]:
    """Return the bins of each integer ring 0..63 as boolean masks."""
    ring = (radial_frequency() * CROP).round().long()
    return [ring == r for r in range(CROP // 2)]


def radial_average(power: Tensor) -> Tensor:
    """Return the radially averaged power spectrum (RAPSD) ``[64]``: the mean of P per integer ring."""
    return torch.stack([power[ring].mean() for ring in _rings()])


def ring_anisotropy(power: Tensor) -> Tensor:
    """Return variance / mean^2 of P per ring 2..63, ``[62]``; NaN on a ring without power."""
    values = [power[ring] for ring in _rings()[2:]]
    return torch.stack([v.var(correction=1) / v.mean() ** 2 for v in values])


def low_frequency_ratio(power: Tensor, level: float) -> float:
    """Return the low-frequency ratio of a halftone with gray ``level`` in (0, 1); NaN without dots."""
    if not power.any() or not 0 < level < 1:
        return math.nan
    f = radial_frequency()
    principal = min(math.sqrt(min(level, 1 - level)), 0.5)
    low = (f > 0) & (f < principal / 2)
    return float(power[low].mean() / (level * (1 - level)))


def anisotropy_db(power: Tensor) -> float:
    """Return the anisotropy in dB; NaN without dots."""
    mean = ring_anisotropy(power).nanmean()
    return float(10 * torch.log10(mean)) if mean > 0 else math.nan


class _PerLevel(Metric):
    """One figure per constant-gray halftone; NaN (no dots) stays out of mean and worst."""

    full_state_update = False
    total: Tensor
    count: Tensor
    worst: Tensor

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction
        # no list of figures: torchmetrics cannot gather a float64 list that is empty on some rank
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("worst", torch.tensor(-math.inf, dtype=torch.float64), dist_reduce_fx="max")

    def _figure(self, power: Tensor, level: float) -> float:
        raise NotImplementedError

    def update(self, halftone: Tensor, level: Tensor) -> None:
        """Measure halftones ``[B, 1, H, W]`` in [-1, 1] of constant grays ``level`` ``[B]`` in [0, 1]."""
        for h, g in zip(halftone, level, strict=True):
            figure = self._figure(power_spectrum(h.cpu()), float(g))
            if not math.isnan(figure):
                self.total += figure
                self.count += 1
                self.worst = self.worst.clamp(min=figure)

    def compute(self) -> Tensor:
        """Return the mean or the worst over the levels that have dots; NaN if none has."""
        if not self.count:
            return torch.full_like(self.total, math.nan)
        return self.worst if self.reduction == "worst" else self.total / self.count


class LowFrequencyRatio(_PerLevel):
    """Mean (or worst) low-frequency ratio over constant grays."""

    def _figure(self, power: Tensor, level: float) -> float:
        return low_frequency_ratio(power, level)


class Anisotropy(_PerLevel):
    """Mean (or worst) anisotropy in dB over constant grays."""

    def _figure(self, power: Tensor, level: float) -> float:
        return anisotropy_db(power)
