"""Texture inside large regions of a label map: are generated ones as textured as the photo, and in the same way?

A constant region of a label map is where a generator goes flat. The distance of two sets of images (FID) hides it.
docs/texture.md says how to read the figures.

- A *patch* is a square of one class, wholly inside it: borders between classes are no texture. Patches lie half a
  side apart. The plane that fits a patch best is subtracted: shading is no texture either.
- A *region* is one class in one image. It is large if its patches cover the share ``min_share`` of the image.
- Every large region counts once: its figures are means over its patches.

Luminance in 8-bit levels (0 to 255) throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from nibkit.color import luminance
from nibkit.errors import UserError
from nibkit.metrics.duplicates import NEAREST, ROUNDING, repetition

FLAT = 1.0  # levels; a window that deviates less looks constant
RIPPLE = 4  # degree of the polynomial removed before repetition is measured: shading is bent on large patches


class TextureMetrics(Metric):
    """All texture figures of generated images and the photos of the same label maps, exact on any number of processes.

    Args:
        classes: class ids are 0 .. classes - 1.
        window: side of the patches of the local deviation, pixels.
        patch: side of those of the spectrum.
        tile: side of those of the repetition; periods up to half of it are found.
        min_share: of the image that a region's patches must cover.

    Raises:
        UserError: a side too small to measure on, no class.
    """

    full_state_update = False

    def __init__(
        self, classes: int = 256, window: int = 8, patch: int = 16, tile: int = 24, min_share: float = 0.01
    ) -> None:
        super().__init__()
        for name, side, least in (("window", window, 4), ("patch", patch, 4), ("tile", tile, 2 * NEAREST)):
            if side < least:
                raise UserError(f"{name}={side} must be at least {least} (pixels)")
        if classes < 1:
            raise UserError(f"classes={classes} must be at least 1")
        self.classes, self.min_share = classes, min_share
        self.sides = {"deviation": window, "spectrum": patch, "repetition": tile}
        for name, columns in {"deviation": 3, "spectrum": patch // 2, "repetition": 1}.items():
            for images in ("generated", "real"):
                self._add_sum(f"{name}_{images}", torch.zeros(classes, columns, dtype=torch.float64))
            self._add_sum(f"{name}_regions", torch.zeros(classes, dtype=torch.float64))

    def _add_sum(self, name: str, zero: Tensor) -> None:
        self.add_state(name, zero, dist_reduce_fx="sum")

    def update(self, generated: Tensor, real: Tensor, label: Tensor, void: int | None = None) -> None:
        """Add images.

        Args:
            generated: ``[B, 3, H, W]`` in [-1, 1].
            real: the same of the photos.
            label: class ids ``[B, H, W]``.
            void: the class that is left out.

        Raises:
            UserError: a class id that is not below ``classes``.
        """
        if int(label.max()) >= self.classes:
            raise UserError(f"the label map has the class id {int(label.max())}; texture counts {self.classes} classes")
        both = torch.stack([_levels(generated), _levels(real)])
        for name in MEASURES:
            patches = region_patches(both, label, self.sides[name], self.classes, self.min_share, void)
            if len(patches.region):
                self._add(name, patches, len(label))

    def _add(self, name: str, patches: RegionPatches, batch: int) -> None:
        """Add the means of one measure over each region to the sums of the classes."""
        regions = batch * self.classes
        for images, values in zip(("generated", "real"), patches.values, strict=True):
            means = region_means(MEASURES[name](values), patches.region, regions)
            getattr(self, f"{name}_{images}").add_(means.view(batch, self.classes, -1).sum(dim=0))
        exists = torch.bincount(patches.region, minlength=regions) > 0
        getattr(self, f"{name}_regions").add_(exists.view(batch, self.classes).sum(dim=0))

    def compute(self) -> dict[str, Tensor]:
        """Return all figures by name, float64 scalars; NaN where there was no region."""
        figures = {}
        for name, (values, regions) in self._figures().items():
            weighted = torch.where(regions > 0, values * regions, 0)  # a class without region has NaN
            figures[name] = weighted.sum() / regions.sum()
        return _with_ratio(figures)

    def by_class(self) -> dict[str, Tensor]:
        """Return the same figures of each class, ``[classes]``; NaN without a region. Every rank must call it."""
        with self.sync_context():
            return _with_ratio({name: values for name, (values, _) in self._figures().items()})

    def _figures(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return by name the figures of the classes and their numbers of regions, both ``[classes]``."""
        deviation, deviation_real, regions = self._means("deviation")
        power, power_real, power_regions = self._means("spectrum")
        repeat, repeat_real, repeat_regions = self._means("repetition")
        gain = 10 * torch.log10((power + ROUNDING) / (power_real + ROUNDING))
        return {
            "texture_std": (deviation[:, 0], regions),
            "texture_std_real": (deviation_real[:, 0], regions),
            "texture_ratio": (deviation[:, 2] - deviation_real[:, 2], regions),
            "texture_flat_share": (deviation[:, 1], regions),
            "texture_flat_share_real": (deviation_real[:, 1], regions),
            "texture_spectrum_db": (gain.abs().mean(dim=1), power_regions),
            "texture_repeat": (repeat[:, 0], repeat_regions),
            "texture_repeat_real": (repeat_real[:, 0], repeat_regions),
        }

    def _means(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        regions = getattr(self, f"{name}_regions")
        generated, real = (getattr(self, f"{name}_{images}") / regions[:, None] for images in ("generated", "real"))
        return generated, real, regions


def _with_ratio(figures: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn the mean log ratio into a ratio."""
    return figures | {"texture_ratio": figures["texture_ratio"].exp()}


def _levels(image: Tensor) -> Tensor:
    """Return luminance ``[B, H, W]`` in 8-bit levels, float64."""
    return (luminance(image.double().clamp(-1, 1))[:, 0] + 1) * 127.5


class RegionPatches(NamedTuple):
    """Patches inside large regions: ``[2, N, S, S]``, generated and real, and their region ``[N]``."""

    values: Tensor
    region: Tensor


def region_patches(
    both: Tensor, label: Tensor, side: int, classes: int, min_share: float, void: int | None = None
) -> RegionPatches:
    """Return the patches of two sets of images that lie in large regions; the region is image * classes + class.

    Args:
        both: ``[2, B, H, W]``, generated and real.
        label: class ids ``[B, H, W]``.
        side: of the patches, pixels.
        classes: class ids are below.
        min_share: of the image that a large region's patches cover.
        void: the class that is left out.
    """
    if min(label.shape[1:]) < side:
        return RegionPatches(both.new_zeros(2, 0, side, side), label.new_zeros(0))
    ids = _cut(label, side).flatten(2)
    region = ids[..., 0] + classes * torch.arange(len(label), device=label.device)[:, None]
    pure = (ids == ids[..., :1]).all(dim=2)
    if void is not None:
        pure &= ids[..., 0] != void
    count = torch.bincount(region[pure], minlength=len(label) * classes)
    large = count * (side // 2) ** 2 >= min_share * label[0].numel()
    chosen = pure & large[region]
    return RegionPatches(torch.stack([_cut(images, side)[chosen] for images in both]), region[chosen])


def _cut(images: Tensor, side: int) -> Tensor:
    """Return the patches ``[B, P, S, S]`` of ``[B, H, W]``, half a side apart."""
    return images.unfold(1, side, side // 2).unfold(2, side, side // 2).flatten(1, 2)


def region_means(values: Tensor, region: Tensor, regions: int) -> Tensor:
    """Return the means of ``values`` ``[N, K]`` over the patches of each region, ``[regions, K]``; 0 without any."""
    count = torch.bincount(region, minlength=regions).clamp(min=1)
    return values.new_zeros(regions, values.shape[1]).index_add_(0, region, values) / count[:, None]


def without_shading(patches: Tensor, degree: int = 1) -> Tensor:
    """Return ``patches`` ``[N, S, S]`` minus the polynomial of this degree in (y, x) that fits each best."""
    basis = _polynomials(patches.shape[-1], degree).to(patches)
    flat = patches.flatten(1)
    return (flat - flat @ basis @ basis.mT).view_as(patches)


@lru_cache(maxsize=8)
def _polynomials(side: int, degree: int) -> Tensor:
    """Return an orthonormal basis of the polynomials on a patch, ``[side ** 2, K]``."""
    x = torch.linspace(-1, 1, side, dtype=torch.float64)
    powers = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
    basis: Tensor = torch.linalg.qr(torch.stack([torch.outer(x**i, x**j).flatten() for i, j in powers], dim=1))[0]
    return basis


def deviation(patches: Tensor) -> Tensor:
    """Return of each patch ``[N, S, S]`` its standard deviation, whether it is flat, and the log of the deviation.

    The log is of the deviation plus that of rounding to 8 bit: a constant patch has one, too.
    """
    std = without_shading(patches).square().mean(dim=(1, 2)).sqrt()
    return torch.stack([std, (std < FLAT).to(std), (std + ROUNDING**0.5).log()], dim=1)


def spectrum(patches: Tensor) -> Tensor:
    """Return the radial power spectrum of each patch ``[N, S, S]`` at 1, .. S // 2 cycles per side, ``[N, S // 2]``.

    Hann window; the mean of the power over each integer ring, the corners with the last. White noise has its variance
    everywhere.
    """
    side = patches.shape[-1]
    hann = torch.hann_window(side, dtype=patches.dtype, device=patches.device)
    window = torch.outer(hann, hann)
    power = torch.fft.fft2(without_shading(patches) * window).abs().square() / window.square().sum()
    rings: Tensor = power.flatten(1) @ _rings(side).to(patches)
    return rings


@lru_cache(maxsize=4)
def _rings(side: int) -> Tensor:
    """Return the matrix ``[side ** 2, side // 2]`` that averages over the integer rings from 1."""
    cycles = torch.fft.fftfreq(side, dtype=torch.float64) * side
    ring = torch.hypot(cycles[:, None], cycles[None, :]).round().clamp(max=side // 2).flatten()
    member = (ring[:, None] == torch.arange(1, side // 2 + 1)).double()
    return member / member.sum(dim=0)


def repeats(patches: Tensor) -> Tensor:
    """Return the :func:`repetition` of each patch ``[N, S, S]``, ``[N, 1]``."""
    return repetition(without_shading(patches, RIPPLE))[:, None]


MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "deviation": deviation,
    "spectrum": spectrum,
    "repetition": repeats,
}
