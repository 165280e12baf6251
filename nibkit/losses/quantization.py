"""Quantization: a gray image already lies on the levels of the file that it is saved as (Xia et al. 2018).

    L_quantization = mean min_k |g - v_k|,   v_k = 2 k / 255 - 1, k = 0 ... 255

Published with weight 10, in the second stage of training.
"""

from __future__ import annotations

from torch import Tensor

from nibkit.quantize import LEVEL


def quantization_loss(gray: Tensor) -> Tensor:
    """Return the mean distance of ``gray`` (any shape, [-1, 1]) to the nearest of the 256 levels of 8 bit.

    Values beyond the range are as far from a level as from black or white.
    """
    nearest = ((gray.detach() + 1) / LEVEL).round().clamp(0, 255) * LEVEL - 1
    return (gray - nearest).abs().mean()
