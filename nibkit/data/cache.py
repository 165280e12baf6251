"""Decoded images that stay in memory: a training step must not wait for a file to be decoded again.

Each process keeps its own, an equal part of the budget. One memory for all would have to be reserved in the system's
shared memory, which containers often limit to 64 MB, and beyond which a process is killed without a word.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nibkit.data.images import Pixels
from nibkit.errors import UserError

CACHE_MB = 1024  # the default of data.cache_mb
Packed = NDArray[Any]  # [H, W, C]: float32 in [0, 1], or uint8, which stands for value / 255
Arrays = TypeVar("Arrays", bound=tuple[NDArray[Any] | None, ...])


def pack(pixels: Pixels) -> Packed:
    """Return pixels in [0, 1] as 8-bit values, a quarter of the memory, if they come back as the very same floats.

    So do those of 8-bit files; not so 16-bit ones, gray made of colours, what shines through, or what was resized.
    """
    with np.errstate(invalid="ignore"):  # a file of floats may hold some that are no numbers
        values = np.rint(pixels * np.float32(255)).astype(np.uint8)
    same = np.array_equal(unpack(values).view(np.int32), pixels.view(np.int32))  # bit for bit
    return values if same else pixels


def unpack(values: Packed) -> Pixels:
    """Return new pixels in [0, 1], float32, of packed ones or of any part of them."""
    # rounded once, as by a division in float64 that is rounded to float32: 53 bits are enough for that
    return np.divide(values, 255, dtype=np.float32) if values.dtype == np.uint8 else values.copy()


class DecodeCache:
    """Keeps what was read from files until its budget is used up; what comes later is read anew every time.

    Nothing is evicted. An epoch asks for every image once, so the one used last is the last to be needed again: the
    least recently used would be dropped just before its turn, while those kept from the start are found in each epoch.

    Args:
        megabytes: of all processes of a rank together, 0 for none: the main one, and each worker, have equal parts.
        num_workers: processes beside the main one.

    Raises:
        UserError: no number of megabytes.
    """

    def __init__(self, megabytes: float = CACHE_MB, num_workers: int = 0) -> None:
        numeric = isinstance(megabytes, int | float) and not isinstance(megabytes, bool)
        if not numeric or not 0 <= megabytes < math.inf:
            raise UserError(
                f"data.cache_mb={megabytes} is no amount of memory; give megabytes of at least 0, 0 for none"
            )
        self.budget = int(megabytes * 2**20 / (1 + num_workers))  # bytes of this process
        self._begin()

    def _begin(self) -> None:
        self._process, self._used, self._full = os.getpid(), 0, self.budget == 0
        self._kept: dict[Hashable, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return what is sent to a process: nothing that is kept."""
        return {"budget": self.budget, "_process": 0}

    @property
    def used(self) -> int:
        """Bytes that this process keeps."""
        self._be_own()
        return self._used

    @property
    def full(self) -> bool:
        """Whether nothing more will be kept by this process."""
        self._be_own()
        return self._full

    def get(self, key: Hashable, read: Callable[[], Arrays]) -> Arrays:
        """Return the arrays of ``key``, which ``read`` makes where they are not kept; they must not be changed."""
        self._be_own()
        if key in self._kept:
            return self._kept[key]  # type: ignore[no-any-return]
        arrays = read()
        size = sum(array.nbytes for array in arrays if array is not None)
        self._full = self._full or self._used + size > self.budget  # nothing smaller is looked for then
        if not self._full:
            self._kept[key] = arrays
            self._used += size
        return arrays

    def _be_own(self) -> None:
        """Begin anew in a forked process: what it inherits was read for another purpose, and fills its room."""
        if self._process != os.getpid():
            self._begin()
