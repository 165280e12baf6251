"""Reading image files: every common mode becomes float32 in [0, 1]; pixels leave as [-1, 1] tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from nibkit.errors import UserError
from nibkit.files import whole_file

EXTENSIONS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
LUMINANCE = (0.299, 0.587, 0.114)

# Large images are read deliberately: Pillow would warn at 89 megapixels and refuse at 179.
Image.MAX_IMAGE_PIXELS = None

Pixels = NDArray[np.float32]


def read_image(path: str | Path, channels: int = 1) -> Pixels:
    """Read an image file, upright, as ``[H, W, channels]`` in [0, 1].

    Gray is .299 R + .587 G + .114 B. Transparency is laid on white. 16-bit gray files keep their precision.

    Args:
        path: jpg, png, tif or webp; gray, RGB, RGBA, palette, CMYK, 1 or 16 bit; EXIF rotation is applied.
        channels: 1 for gray, 3 for RGB.

    Raises:
        UserError: the file cannot be read as an image.
    """
    with open_upright(path) as image:
        return to_channels(to_float(image, white_level(image)), channels)


@contextmanager
def open_upright(path: str | Path) -> Iterator[Image.Image]:
    """Open an image file, decoded and turned upright; whatever goes wrong inside is an image that cannot be read.

    Raises:
        UserError: the file cannot be read as an image.
    """
    try:
        with Image.open(path) as file:
            file.load()
            ImageOps.exif_transpose(file, in_place=True)  # a copy would hold a large image twice
            yield file
    except Exception as error:  # Pillow raises many kinds for a broken file
        raise UserError(f"cannot read image '{path}': {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Return in a few words why an image cannot be read."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return "truncated" if "truncated" in text.lower() else text


def white_level(image: Image.Image) -> int:
    """Return the stored value of white; files of floats hold [0, 1] or [0, 255], as their largest value tells."""
    if image.mode == "F":
        return 1 if float(np.max(image.getextrema())) <= 1 else 255
    return 65535 if image.mode.startswith("I") else 255


def to_float(image: Image.Image, white: int) -> Pixels:
    """Return the image, or a part of it, as ``[H, W, 1 or 3]`` in [0, 1]; ``white`` as of :func:`white_level`."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _scaled(image, white)[..., None].clip(0, 1)
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        rgba = _scaled(image.convert("RGBA"))
        return rgba[..., :3] * rgba[..., 3:] + (np.float32(1) - rgba[..., 3:])
    if image.mode in ("1", "L"):
        return _scaled(image.convert("L"))[..., None]
    return _scaled(image.convert("RGB"))


def _scaled(image: Image.Image, white: int = 255) -> Pixels:
    """Return the image's values divided by that of white."""
    return (np.asarray(image) / white).astype(np.float32)


def to_channels(pixels: Pixels, channels: int) -> Pixels:
    """Return ``pixels`` ``[H, W, 1 or 3]`` with 1 or 3 channels."""
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 1:
        return (pixels @ np.asarray(LUMINANCE, dtype=np.float32))[..., None]
    return np.repeat(pixels, channels, axis=-1)


def to_tensor(pixels: Pixels) -> Tensor:
    """Return pixels ``[H, W, C]`` in [0, 1] as a tensor ``[C, H, W]`` in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))) * 2 - 1


def to_bytes(image: Tensor) -> NDArray[np.uint8]:
    """Return an image ``[C, H, W]`` or ``[H, W]`` in [-1, 1] as 8-bit pixels ``[H, W(, C)]``, rounded."""
    scaled = ((image.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte().numpy()
    if scaled.ndim == 3:
        scaled = scaled.transpose(1, 2, 0)
    return scaled[..., 0] if scaled.ndim == 3 and scaled.shape[-1] == 1 else scaled


def save_png(image: Tensor, path: Path) -> None:
    """Write an image in [-1, 1] as PNG; a halftone (only -1 and 1) becomes a true 1-bit file.

    The file appears whole or not at all.
    """
    picture = Image.fromarray(to_bytes(image))
    if image.shape[0] == 1 and bool((image.abs() == 1).all()):
        picture = picture.convert("1", dither=Image.Dither.NONE)
    with whole_file(path) as partial:
        picture.save(partial, format="PNG")
