"""True 1-bit PNG files, written strip by strip: a large halftone is never held as a whole."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nibkit.files import whole_file

Bits = NDArray[np.bool_]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LONGEST = 2**31 - 1  # pixels of a side; the format's limit
LEVEL = 6  # of zlib; halftones hardly get smaller above


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
    if not (0 < width <= LONGEST and 0 < height <= LONGEST):
        raise ValueError(f"a PNG of {width}x{height} pixels does not exist")
    with whole_file(path) as partial, partial.open("wb") as file:
        file.write(SIGNATURE)
        file.write(_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)))  # one bit, gray
        for data in _compressed(_rows(width, height, strips)):
            file.write(_chunk(b"IDAT", data))
        file.write(_chunk(b"IEND", b""))


def _chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk: length, kind, data, check sum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _rows(width: int, height: int, strips: Iterable[Bits]) -> Iterator[bytes]:
    """Yield each row as PNG wants it: the filter's number (0, none), then eight pixels a byte."""
    count = 0
    for strip in strips:
        if strip.ndim != 2 or strip.shape[1] != width:
            raise ValueError(f"a strip of shape {strip.shape} is none of an image {width} pixels wide")
        count += len(strip)
        for row in np.packbits(strip, axis=1):
            yield b"\0" + row.tobytes()
    if count != height:
        raise ValueError(f"the strips have {count} rows together, the image {height}")


def _compressed(rows: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the zlib stream in pieces; fed row by row, so that the strips leave no trace in them."""
    compressor = zlib.compressobj(LEVEL)
    for row in rows:
        if data := compressor.compress(row):
            yield data
    yield compressor.flush()
