"""Direct binary search (Analoui and Allebach 1992): a halftone that no toggle and no swap of neighbours improves.

The tone energy (see :mod:`nibkit.classical.tone_energy`) falls by sweeps over the image: each pixel makes the
best of nine moves, its toggle and its swaps with the eight neighbours, if that lowers the energy. It ends when a
sweep makes no move. The start shows in the result: error diffusion leaves some of its anisotropy, white noise none.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numba
from torch import Tensor

from nibkit.classical.floyd_steinberg import floyd_steinberg
from nibkit.classical.ostromoukhov import ostromoukhov
from nibkit.classical.planes import Plane, White, check_seed, per_plane, require
from nibkit.classical.tone_energy import swap_change, toggle, toggle_change, tone_pull
from nibkit.classical.void_and_cluster import void_and_cluster
from nibkit.classical.white_noise import white_noise
from nibkit.errors import choose

LEAST = 1e-12  # energy that a move must save, far above rounding: no move is ever undone for nothing

STARTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "floyd_steinberg": lambda gray, seed: floyd_steinberg(gray),
    "ostromoukhov": lambda gray, seed: ostromoukhov(gray),
    "void_and_cluster": lambda gray, seed: void_and_cluster(gray, seed=seed),
    "white_noise": white_noise,
}


def direct_binary_search(
    gray: Tensor, sigma: float = 1.5, start: str = "ostromoukhov", seed: int = 0, max_sweeps: int = 1000
) -> Tensor:
    """Return the halftone (-1 or 1) of each gray image ``[B, 1, H, W]`` in [-1, 1], on the CPU.

    Args:
        gray: images.
        sigma: of the Gaussian, pixels; the narrower, the less low-frequency noise.
        start: ``ostromoukhov``, ``floyd_steinberg``, ``white_noise`` or ``void_and_cluster``.
        seed: of a random start.
        max_sweeps: at most so many; about ten are needed, fewer leave moves that would lower the energy.

    Raises:
        UserError: an option is out of its range.
    """
    require(0 < sigma < math.inf, f"sigma={sigma} of dbs must be above 0 (pixels)")
    check_seed(seed)
    require(max_sweeps >= 0, f"max_sweeps={max_sweeps} of dbs must be 0 or above")
    first = STARTS[choose("start of dbs", start, STARTS)](gray, seed)

    def search(tone: Plane, white: White) -> White:
        _search(white, *tone_pull(tone, white, sigma), max_sweeps)
        return white

    return per_plane(gray, search, first)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _search(white: White, pull: Plane, c: Plane, max_sweeps: int) -> int:
    """Sweep over ``white`` ``[H, W]`` until nothing moves; return the sweeps that moved something."""
    for sweep in range(max_sweeps):
        moved = False
        for y in range(white.shape[0]):
            for x in range(white.shape[1]):
                change, v, u = _best_move(white, pull, c, y, x)
                if change < -LEAST:
                    moved = True
                    toggle(white, pull, c, y, x)
                    if v != y or u != x:
                        toggle(white, pull, c, v, u)
        if not moved:
            return sweep
    return max_sweeps


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _best_move(white: White, pull: Plane, c: Plane, y: int, x: int) -> tuple[float, int, int]:
    """Return the best change of energy at a pixel and the one to swap with, itself for a toggle."""
    height, width = white.shape
    sign = -1.0 if white[y, x] else 1.0
    best, best_y, best_x = toggle_change(pull, c, y, x, sign), y, x
    for v in range(max(y - 1, 0), min(y + 2, height)):
        for u in range(max(x - 1, 0), min(x + 2, width)):
            if white[v, u] != white[y, x]:
                change = swap_change(pull, c, y, x, v, u, sign)
                if change < best:
                    best, best_y, best_x = change, v, u
    return best, best_y, best_x
