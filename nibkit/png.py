"""PNG files written strip by strip, 1-bit halftones and 8-bit images: a large one is never held as a whole."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nibkit.files import whole_file

Bits = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
Strip = TypeVar("Strip", Bits, Bytes)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LONGEST = 2**31 - 1  # pixels of a side; the format's limit
LEVEL = 6  # of zlib; halftones hardly get smaller above
NO_FILTER, PAETH = b"\0", b"\4"  # the number of a row's filter stands before its bytes
GRAY, RGB = 0, 2  # the format's numbers


def write_bits(path: Path, width: int, height: int, strips: Iterable[Bits]) -> None:
    """Write a black and white image; the file appears whole or not at all.

    The bytes depend on the pixels alone, not on how they are cut into strips.

    Args:
        path: of the file; its folder is made.
        width: pixels.
        height: pixels.
        strips: of rows from the top, ``[rows, width]``, true is white; together ``height`` rows.

    Raises:
        UserError: the file cannot be written.
        ValueError: a size that PNG does not have, or strips that do not make it up.
    """
    checked = _checked((width,), height, strips)
    rows = (NO_FILTER + row.tobytes() for strip in checked for row in np.packbits(strip, axis=1))
    _write(path, _header(width, height, 1, GRAY), rows, {})


def write_pixels(
    path: Path,
    width: int,
    height: int,
    channels: int,
    strips: Iterable[Bytes],
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write an 8-bit gray or RGB image; otherwise as :func:`write_bits`.

    Args:
        path: of the file; its folder is made.
        width: pixels.
        height: pixels.
        channels: 1 for gray, 3 for RGB.
        strips: of rows from the top, ``[rows, width]`` or ``[rows, width, 3]``; together ``height`` rows.
        texts: what the file says of itself, by keyword; Latin-1.

    Raises:
        UserError: the file cannot be written.
        ValueError: a size that PNG does not have, or strips that do not make it up.
    """
    shape, kind = {1: ((width,), GRAY), 3: ((width, 3), RGB)}[channels]
    rows = _predicted(width, channels, _checked(shape, height, strips))
    _write(path, _header(width, height, 8, kind), rows, texts or {})


def _header(width: int, height: int, depth: int, kind: int) -> bytes:
    """Return the content of the first chunk; ``depth`` in bits a channel."""
    if not (0 < width <= LONGEST and 0 < height <= LONGEST):
        raise ValueError(f"a PNG of {width}x{height} pixels does not exist")
    return struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)


def _write(path: Path, header: bytes, rows: Iterable[bytes], texts: Mapping[str, str]) -> None:
    """Write a file of rows as PNG wants them: the filter's number, then the bytes."""
    with whole_file(path) as partial, partial.open("wb") as file:
        file.write(SIGNATURE)
        file.write(_chunk(b"IHDR", header))
        for key, text in texts.items():
            file.write(_chunk(b"tEXt", f"{key}\0{text}".encode("latin-1")))
        for data in _compressed(rows):
            file.write(_chunk(b"IDAT", data))
        file.write(_chunk(b"IEND", b""))


def _chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk: length, kind, data, check sum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _checked(row: tuple[int, ...], height: int, strips: Iterable[Strip]) -> Iterator[Strip]:
    """Yield the strips; raise if they are not ``height`` rows of shape ``row`` together."""
    count = 0
    for strip in strips:
        if strip.shape[1:] != row:
            raise ValueError(f"a strip of shape {strip.shape} is none of an image {row[0]} pixels wide")
        count += len(strip)
        yield strip
    if count != height:
        raise ValueError(f"the strips have {count} rows together, the image {height}")


def _predicted(width: int, channels: int, strips: Iterable[Bytes]) -> Iterator[bytes]:
    """Yield rows as differences from what their neighbours predict, which are smaller numbers than the pixels."""
    above = np.zeros((width + 1, channels), dtype=np.int16)  # begins with the black pixel left of the image
    for strip in strips:
        for row in strip.reshape(-1, width, channels):
            here = np.zeros_like(above)
            here[1:] = row
            difference = row - _paeth(here[:-1], above[1:], above[:-1])
            yield PAETH + difference.astype(np.uint8).tobytes()  # modulo 256
            above = here


def _paeth(left: NDArray[np.int16], up: NDArray[np.int16], corner: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return which of three neighbours is nearest to left + up - corner; the first of equals."""
    to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    nearest = np.where(to_up <= to_corner, up, corner)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, nearest)


def _compressed(rows: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the zlib stream in pieces; fed row by row, so that the strips leave no trace in them."""
    compressor = zlib.compressobj(LEVEL)
    for row in rows:
        if data := compressor.compress(row):
            yield data
    yield compressor.flush()
