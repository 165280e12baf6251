"""What one flipped pixel changes in structure, estimated fast: for the refinement, which asks again in every sweep.

See :mod:`nibkit.losses.structure` for the loss and its exact gain. Here a flip of pixel a is followed for one weight
in its windows, ``STEP``, in place of all 21, and taken as proportional to the pixel's own. What depends on the gray
image alone is made once; an estimate then takes six filters, two of the halftone and four of the maps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nibkit.bands import band_filter
from nibkit.filters import gaussian_kernel
from nibkit.losses.structure import C1, C2, HALF, SIGMA, SIZE

STEP, LEAST = 0.03, 1e-4  # the weight in a window that stands for all; the least that is still told from rounding
_KERNEL = tuple(gaussian_kernel(SIGMA, SIZE).tolist()[HALF:])


class StructureGain:
    """Estimates n times the textured :func:`nibkit.losses.structure.structure_flip_gain` for halftones of one image.

    n is the number of windows. On halftones of photographs the correlation with the exact gain is .99. Other than
    there, windows may reach beyond the border, where both images are black to them.

    Args:
        gray: ``[B, 1, H, W]`` in [-1, 1].
    """

    def __init__(self, gray: Tensor) -> None:
        self.gray = (gray + 1) / 2
        mean, square = band_filter(self.gray, _KERNEL), band_filter(self.gray * self.gray, _KERNEL)
        variance = (square - mean**2).clamp(min=0)
        count = variance / (variance + C2)  # how much each window counts
        # the parts of a window's SSIM that no halftone changes
        self.mean_floor, self.variance_floor = mean * mean + C1, variance + C2
        self.luminance_floor, self.luminance_slope = count * C1, 2 * count * mean
        self.contrast_slope = -2 * mean

    def __call__(self, halftone: Tensor) -> Tensor:
        """Return the gain of making each pixel white, not black, of the shape of ``halftone``, which is -1 or 1."""
        h, g = (halftone + 1) / 2, self.gray
        mean, contrast = band_filter(h, _KERNEL), 2 * band_filter(h * g, _KERNEL) + C2
        luminance, before = self._ssim(mean, contrast)
        before *= luminance
        # a window has no more dots to gain, or to lose, than it has
        whiter, with_g = self._change(mean, contrast, before, (1 - mean).clamp_(LEAST, STEP))
        blacker, less_g = self._change(mean, contrast, before, mean.clamp(LEAST, STEP).neg_())
        return torch.where(h > 0.5, blacker + g * less_g, -(whiter + g * with_g))

    def _change(self, mean: Tensor, contrast: Tensor, before: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Return the change of SSIM per ``step`` of the mean, summed over windows, and what each g adds to it."""
        luminance, after = self._ssim(mean + step, contrast)
        size = step.abs()
        after = after.mul_(luminance).sub_(before).div_(size)
        return band_filter(after, _KERNEL), band_filter(luminance.mul_(2 * step).div_(size), _KERNEL)

    def _ssim(self, mean: Tensor, contrast: Tensor) -> tuple[Tensor, Tensor]:
        """Return two factors whose product is the counted SSIM of windows whose halftone has this mean."""
        square = mean * mean
        bottom = (square + self.mean_floor).mul_((mean + self.variance_floor).sub_(square))
        luminance = torch.addcmul(self.luminance_floor, mean, self.luminance_slope).div_(bottom)
        return luminance, torch.addcmul(contrast, mean, self.contrast_slope)


def structure_estimate(halftone: Tensor, gray: Tensor) -> Tensor:
    """Return the estimate of :class:`StructureGain` for a single halftone.

    Args:
        halftone: binary, ``[B, 1, H, W]``.
        gray: same shape, in [-1, 1].
    """
    return StructureGain(gray)(halftone)
