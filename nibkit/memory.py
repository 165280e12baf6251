"""Memory that a process frees stays its own, and is not asked of the system anew for every feature map.

The C library gives large blocks back as soon as they are free. A network that answers an image block by block then
asks for the same megabytes in every layer, and the system clears each page: a third of the time of ``nibkit dither``.
"""

from __future__ import annotations

import ctypes
import os
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT = 256 * 2**20  # bytes that are free and yet kept
LARGEST = 32 * 2**20  # bytes of a block that may be kept; no version of glibc allows more


def keep_freed_memory() -> bool:
    """Let this process keep up to 256 MiB of what it has freed, and tell whether it does.

    The commands do it at their start. Nothing happens where the C library is not glibc, and where the environment
    says how it shall work (``MALLOC_...``, ``GLIBC_TUNABLES``).
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(set_option and set_option(MMAP_THRESHOLD, LARGEST) and set_option(TRIM_THRESHOLD, KEPT))
