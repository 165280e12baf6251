"""What invertible grayscale makes of an image: its gray, the hidden texture, the colours restored and their error."""

from __future__ import annotations

import torch
from torch import Tensor

from nibkit.backbones import InvertibleGrayscale
from nibkit.color import luminance
from nibkit.quantize import to_8_bit
from nibkit.sheet import Cell, error_map

ERROR_LIMIT = 0.1  # of the white range: the brightest colour of error maps
AMPLIFIED = 8  # times, what pictures show of the hidden texture


@torch.no_grad()
def hide_and_restore(network: InvertibleGrayscale, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gray ``[1, H, W]`` of 8 bit of an image ``[3, H, W]``, and what is restored of it, in [-1, 1]."""
    gray = to_8_bit(network.encode(image[None]).float())
    return gray[0], network.decode(gray)[0].float().clamp(-1, 1)


def grayscale_pictures(image: Tensor, gray: Tensor, restored: Tensor) -> list[Cell]:
    """Return captioned pictures of an image ``[3, H, W]``, its gray ``[1, H, W]`` and the restored image."""
    light = luminance(image[None])[0]
    texture = (light + AMPLIFIED * (gray - light)).clamp(-1, 1)
    error = (restored - image).abs().mean(dim=0) / 2
    return [
        ("image", image),
        ("gray that hides its colours", gray),
        (f"its texture, {AMPLIFIED} times as strong", texture),
        ("colours restored", restored),
        (f"error, 0 to {ERROR_LIMIT:g} of white", error_map(error, ERROR_LIMIT)),
    ]
