"""Local structure: a gray image has as much texture as the luminance of the original (Xia et al. 2018).

    L_structure = |mean TV(g) - mean TV(y)| / (H W),   TV(x) = sum |x_(i+1,j) - x_(i,j)| + sum |x_(i,j+1) - x_(i,j)|

Published for 256x256 pixels, where H W is 256^2. It does not say where the texture shall be.
"""

from __future__ import annotations

from torch import Tensor

from nibkit.ranks import mean_of_ranks


def total_variation(image: Tensor) -> Tensor:
    """Return the absolute differences of neighbours, summed and divided by the number of pixels.

    Args:
        image: ``[B, 1, H, W]``, in any range.

    Returns:
        ``[B]``.
    """
    vertical = image.diff(dim=-2).abs().sum(dim=(1, 2, 3))
    horizontal = image.diff(dim=-1).abs().sum(dim=(1, 2, 3))
    return (vertical + horizontal) / image.shape[-2:].numel()


def local_structure_loss(gray: Tensor, luminance: Tensor) -> Tensor:
    """Return the distance between the mean total variations of a batch, in training that of all processes.

    Args:
        gray: ``[B, 1, H, W]`` in [-1, 1].
        luminance: of the colour images, same shape and range.
    """
    return mean_of_ranks(total_variation(gray).mean() - total_variation(luminance).mean()).abs()
