"""The tone energy of a halftone, and what a move does to it (Lieberman and Allebach 1997).

    E = sum |G * e|^2,   e = h - g on [0, 1], zero outside the image; G 11x11 with sum 1

With c the autocorrelation of G (21x21) and the pull c * e at hand, adding s (1 or -1) to pixel a, and -s to b
if the two are swapped, changes E by

    toggle   2 s (c * e)_a + c_0
    swap     2 s ((c * e)_a - (c * e)_b) + 2 (c_0 - c_ab)

so a trial costs a few operations, and only a move that is made adds c around its pixels. The pull has a margin
of 10 pixels on each side, so that nothing asks for borders.
"""

from __future__ import annotations

import numba
import numpy as np

from nibkit.classical.planes import Plane, White, spread
from nibkit.filters import gaussian_kernel

RADIUS = 10  # of the autocorrelation


def tone_pull(tone: Plane, white: White, sigma: float) -> tuple[Plane, Plane]:
    """Return the pull ``[H + 20, W + 20]`` of ``white`` on ``tone`` ``[H, W]`` in [0, 1], and c ``[21, 21]``."""
    kernel = gaussian_kernel(sigma).numpy()
    c = np.convolve(kernel, kernel)
    return spread(white - tone, c), np.outer(c, c)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def toggle_change(pull: Plane, c: Plane, y: int, x: int, sign: float) -> float:
    """Return the change of E when ``sign`` is added to a pixel."""
    change: float = 2 * sign * pull[y + RADIUS, x + RADIUS] + c[RADIUS, RADIUS]
    return change


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def swap_change(pull: Plane, c: Plane, y: int, x: int, v: int, u: int, sign: float) -> float:
    """Return the change of E when ``sign`` is added to pixel (y, x) and taken from (v, u)."""
    difference = pull[y + RADIUS, x + RADIUS] - pull[v + RADIUS, u + RADIUS]
    change: float = 2 * (sign * difference + c[RADIUS, RADIUS] - c[RADIUS + v - y, RADIUS + u - x])
    return change


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def toggle(white: White, pull: Plane, c: Plane, y: int, x: int) -> None:
    """Toggle a pixel and bring the pull up to date."""
    sign = -1.0 if white[y, x] else 1.0
    white[y, x] = not white[y, x]
    for i in range(2 * RADIUS + 1):
        for j in range(2 * RADIUS + 1):
            pull[y + i, x + j] += sign * c[i, j]
