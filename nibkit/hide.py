"""Colours hidden in gray images, and restored: image files of any size, by an encoder and its decoder.

pair = load_pair("invertible_grayscale")
hide_file(Path("photo.jpg"), Path("gray.png"), pair)
restore_file(Path("gray.png"), Path("photo.png"), pair)

The colours are in the texture of the gray, so it must come back as it was written: as 8-bit gray PNG, neither scaled
nor compressed with losses.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageChops

from nibkit.backbones.base import Backbone
from nibkit.data.gray import STRIP
from nibkit.data.images import open_upright, reason, to_bytes, to_channels, to_float, white_level
from nibkit.errors import UserError
from nibkit.png import Bytes, write_pixels
from nibkit.tiles import Progress, answer_strips, hold_still, noise_shift
from nibkit.weights import Weights, build_network, check_weights_task, read_weights

TASK = "invertible_grayscale"
KEYWORD = "nibkit"  # of the text in a gray PNG that says which weights have hidden its colours
DEPTH = 24  # where a PNG has its bits a channel; Pillow tells nothing of 16 of RGB


@dataclass(frozen=True)
class Pair:
    """An encoder, the decoder that was trained with it, what a user calls them, and the mark they leave in a file."""

    encoder: Backbone
    decoder: Backbone
    name: str
    mark: str


def load_pair(weights: str = TASK) -> Pair:
    """Return the pair of networks of trained weights, in eval mode.

    Args:
        weights: a shipped name, a ``.safetensors`` file or a training checkpoint.

    Raises:
        UserError: the weights cannot be used.
    """
    stored = read_weights(weights)
    check_weights_task(stored, (TASK,), weights)
    network = hold_still(build_network(stored, weights)).to(memory_format=torch.channels_last)
    encoder, decoder = _half(network, "encoder", (3, 1), weights), _half(network, "decoder", (1, 3), weights)
    return Pair(encoder, decoder, weights, fingerprint(stored))


def _half(network: Backbone, which: str, channels: tuple[int, int], weights: str) -> Backbone:
    """Return the encoder or decoder of a pair, which must have so many channels in and out."""
    half = getattr(network, which, None)
    if isinstance(half, Backbone) and (half.in_channels, half.out_channels) == channels:
        return half
    raise UserError(f"weights '{weights}' have no {which} of {channels[0]} to {channels[1]} channel(s); "
                    "give a pair of networks, backbone=invertible_grayscale")  # fmt: skip


def fingerprint(weights: Weights) -> str:
    """Return the task and 12 digits that other weights, or the same numbers in another network, do not have."""
    digest = hashlib.sha256(json.dumps([weights.backbone, weights.nib], sort_keys=True).encode())
    for key, tensor in sorted(weights.state.items()):
        digest.update(key.encode() + tensor.float().contiguous().numpy().tobytes())
    return f"{weights.task} {digest.hexdigest()[:12]}"


def hide_file(
    source: Path,
    target: Path,
    pair: Pair,
    *,
    tile: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[int, int]:
    """Write a gray PNG that hides the colours of an image file, whole or not at all; return its (width, height).

    Args:
        source: the image; see :func:`nibkit.data.images.read_image`. A gray one is hidden as three equal channels.
        target: the PNG, 8-bit gray.
        pair: of :func:`load_pair`.
        tile: rows computed at a time; see :func:`nibkit.tiles.answer_strips`.
        seed: moves the noise field; 0 leaves it. The decoder need not know it.
        progress: called with (done, all) blocks.

    Raises:
        UserError: the image cannot be read or the PNG not written.
    """
    plane = read_color(source)
    height, width = plane.shape[:2]
    strips = answer_strips(pair.encoder, plane, tile, noise_shift(seed, pair.encoder.multiple), progress)
    write_pixels(target, width, height, 1, map(to_bytes, strips), {KEYWORD: pair.mark})
    return width, height


def restore_file(
    source: Path, target: Path, pair: Pair, *, tile: int | None = None, progress: Progress | None = None
) -> tuple[int, int]:
    """Write the colours that a gray PNG hides as RGB PNG, whole or not at all; return its (width, height).

    Args:
        source: a PNG of :func:`hide_file`, unchanged.
        target: the PNG, 8-bit RGB.
        pair: that has hidden the colours.
        tile: rows computed at a time; see :func:`nibkit.tiles.answer_strips`.
        progress: called with (done, all) blocks.

    Raises:
        UserError: ``source`` cannot hide colours, another pair has hidden them, or the PNG cannot be written.
    """
    plane = read_hidden(source, pair)
    height, width = plane.shape
    strips = answer_strips(pair.decoder, plane, tile, progress=progress)
    write_pixels(target, width, height, 3, map(to_bytes, strips))
    return width, height


def read_color(path: Path) -> Bytes:
    """Read an image file, upright, as RGB ``[H, W, 3]`` of 8 bits; floats only strip by strip.

    Raises:
        UserError: the file cannot be read as an image.
    """
    with open_upright(path) as image:
        white, (width, height) = white_level(image), image.size
        plane = np.empty((height, width, 3), dtype=np.uint8)
        rows = max(1, STRIP // width)
        for top in range(0, height, rows):
            pixels = to_float(image.crop((0, top, width, min(top + rows, height))), white)
            if not np.isfinite(pixels).all():
                raise ValueError("it holds values that are no numbers")
            plane[top : top + rows] = np.rint(to_channels(pixels, 3) * 255)
    return plane


def read_hidden(path: Path, pair: Pair) -> Bytes:
    """Read the gray ``[H, W]`` of a PNG as it is stored: turned by its EXIF data, the texture would be another.

    Raises:
        UserError: not an 8-bit gray PNG, or one in which another pair has hidden the colours.
    """
    try:
        with Image.open(path) as image:
            if problem := _problem(image, path):
                raise UserError(f"cannot restore '{path}': {problem}; give the 8-bit gray PNG that nibkit hide wrote")
            gray, mark = np.asarray(image.convert("L")), image.info.get(KEYWORD)
    except UserError:
        raise
    except Exception as error:  # Pillow raises many kinds for a broken file
        raise UserError(f"cannot read image '{path}': {reason(error)}") from error
    if mark not in (None, pair.mark):
        hidden = " ".join(str(mark).split())[:80]  # anything can stand there
        raise UserError(f"cannot restore '{path}': its colours were hidden with weights '{hidden}', but "
                        f"'{pair.name}' is '{pair.mark}'; give the weights that hid them by --weights")  # fmt: skip
    return gray


def _problem(image: Image.Image, path: Path) -> str | None:
    """Return why a file cannot be a gray that hides colours; None if it can."""
    if image.format in ("JPEG", "MPO"):  # MPO: JPEG too, of some cameras
        return "it is a JPEG, whose compression has destroyed the hidden texture"
    if image.format != "PNG":
        return f"it is {image.format}, not PNG"
    image.load()
    with path.open("rb") as file:
        depth = file.read(DEPTH + 1)[DEPTH]
    if depth in (1, 16):
        return f"it has {depth} bit{'s' * (depth > 1)} a channel, not 8"
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        return f"it has transparency (mode {image.mode})"
    if image.mode != "L" and _has_colors(image):
        return f"it has colours already (mode {image.mode})"
    return None


def _has_colors(image: Image.Image) -> bool:
    """Say whether channels differ anywhere; some programs save gray as RGB or with a palette."""
    red, *others = image.convert("RGB").split()
    return any(ImageChops.difference(red, other).getbbox() for other in others)
