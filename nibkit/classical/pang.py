"""Structure-aware halftoning (Pang et al. 2008): dots that keep texture, paid for in tone.

    E = w_t mean |G * (h - g)|^2 + (1 - w_t) (1 - MSSIM(h, g)),   h, g on [0, 1]

with G 11x11 of sigma 2.0 (see :mod:`nibkit.classical.tone_energy`) and SSIM over Gaussian windows 11x11 of sigma
1.5, C1 = .01^2, C2 = .03^2, one around every pixel; at the border its weights are cut and scaled to sum 1 again.

Simulated annealing from Ostromoukhov's halftone: a step visits all 2x2 blocks, draws two pixels of each and, if
they differ, swaps them with probability

    min(1, exp(-N dE / (T (1 - w_t))))

A swap moves the mean E by what it does to a few of the N windows, over N. Times N and over the weight of structure
it is counted in windows of SSIM, so that one T serves all sizes and weights: .2 at first and .8 of it after every
step. The last step only takes swaps that lower E. (In 20 steps, of starts from 0 to 10, .2 ends lowest in E, or
within .1 % of it, for w_t from .98 to .999.)

For binary h (h^2 = h) the SSIM of a window depends on u = w * h and v = w * (h g) alone, so a trial evaluates the
12x12 windows that may hold one of its two pixels, nothing else.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nibkit.classical.ostromoukhov import ostromoukhov
from nibkit.classical.planes import Plane, White, check_seed, per_plane, require, spread
from nibkit.classical.tone_energy import swap_change, toggle, tone_pull
from nibkit.filters import gaussian_kernel
from nibkit.losses.structure import C1, C2, HALF, SIGMA

TONE_SIGMA, HEAT, COOLING = 2.0, 0.2, 0.8
REACH = 2 * HALF + 2  # windows, along each axis, that hold a pixel or its neighbour
U, V, MEAN, VARIANCE, NORM, SSIM = range(6)

Pixel = tuple[int, int]


class State(NamedTuple):
    """A halftone and all that its energy is reckoned from."""

    tone: Plane  # [H, W] in [0, 1]
    white: White  # [H, W]
    pull: Plane  # [H + 20, W + 20], of the tone energy
    c: Plane  # [21, 21]
    windows: NDArray[np.float64]  # [6, H + 12, W + 12]: u, v, mean, variance of g, scale, SSIM, from (5, 5) on
    taps: Plane  # [13], the window's weights along an axis between two zeros
    sums: Plane  # [12], to work in


def pang(gray: Tensor, tone_weight: float = 0.98, seed: int = 0, steps: int = 30) -> Tensor:
    """Return the halftone (-1 or 1) of each gray image ``[B, 1, H, W]`` in [-1, 1], on the CPU.

    Args:
        gray: images.
        tone_weight: w_t in [0, 1]; .999 keeps the tone of direct binary search, .98 gives most of it for texture.
        seed: of the annealing.
        steps: of the annealing.

    Raises:
        UserError: an option is out of its range.
    """
    require(0 <= tone_weight <= 1, f"tone_weight={tone_weight} of pang must be from 0 to 1")
    check_seed(seed)
    require(steps >= 0, f"steps={steps} of pang must be 0 or above")

    def search(tone: Plane, white: White) -> White:
        anneal(make_state(tone, white), tone_weight, steps, np.random.default_rng(seed))
        return white

    return per_plane(gray, search, ostromoukhov(gray))


def make_state(tone: Plane, white: White) -> State:
    """Return the state of the halftone ``white`` ``[H, W]``, which will change, of ``tone`` ``[H, W]`` in [0, 1]."""
    height, width = tone.shape
    taps = gaussian_kernel(SIGMA).numpy()
    inside = (slice(HALF, HALF + height), slice(HALF, HALF + width))
    norm = 1 / spread(np.ones_like(tone), taps)[inside]
    u, v, mean, square = (norm * spread(x, taps)[inside] for x in (white * 1.0, white * tone, tone, tone**2))
    windows = np.zeros((6, height + REACH, width + REACH))
    windows[:5, *inside] = np.stack((u, v, mean, square - mean**2, norm))
    windows[SSIM] = _ssim(*windows[:4])
    return State(tone, white, *tone_pull(tone, white, TONE_SIGMA), windows, np.pad(taps, 1), np.empty(REACH))


def _ssim(u: Any, v: Any, mean: Any, variance: Any) -> Any:
    """Return the SSIM of windows, numbers or arrays."""
    top = (2 * u * mean + C1) * (2 * (v - u * mean) + C2)
    return top / ((u * u + mean * mean + C1) * (u - u * u + variance + C2))


_window_ssim = numba.njit(cache=True, error_model="numpy")(_ssim)  # no test for 0 / 0, which would stop vectors


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def anneal(state: State, tone_weight: float, steps: int, random: np.random.Generator) -> float:
    """Anneal ``state`` in place and return N times the change of E."""
    height, width = state.white.shape
    change = 0.0
    for step in range(steps):
        heat = HEAT * COOLING**step * (1 - tone_weight) if step < steps - 1 else 0.0
        for y in range(height - 1):
            for x in range(width - 1):
                change += _visit(state, y, x, tone_weight, heat, random)
    return change


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _visit(state: State, y: int, x: int, tone_weight: float, heat: float, random: np.random.Generator) -> float:
    """Draw, try and perhaps make a swap in the 2x2 block at (y, x); return N times the change of E."""
    a, b = _draw(random, y, x)
    if state.white[a] == state.white[b]:
        return 0.0
    if state.white[a]:
        a, b = b, a
    tone = swap_change(state.pull, state.c, a[0], a[1], b[0], b[1], 1.0)
    change: float = tone_weight * tone - (1 - tone_weight) * _structure_change(state, a, b, False)
    if change >= 0 and (heat == 0 or random.random() >= math.exp(-change / heat)):
        return 0.0
    toggle(state.white, state.pull, state.c, a[0], a[1])
    toggle(state.white, state.pull, state.c, b[0], b[1])
    _structure_change(state, a, b, True)
    return change


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _draw(random: np.random.Generator, y: int, x: int) -> tuple[Pixel, Pixel]:
    """Draw two different pixels of the 2x2 block at (y, x)."""
    first = int(4 * random.random())
    second = (first + 1 + int(3 * random.random())) % 4
    return (y + first // 2, x + first % 2), (y + second // 2, x + second % 2)


@numba.njit(cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _structure_change(state: State, a: Pixel, b: Pixel, keep: bool) -> float:
    """Return the change of the sum of SSIM when ``a`` turns white and ``b`` black; store the windows to keep it.

    One sum per column of windows, their number not known to the compiler, and indices that it knows are not negative
    let it make vector instructions of the inner loop: three times faster.
    """
    y, x = max(min(a[0], b[0]), 0), max(min(a[1], b[1]), 0)
    rows_a, rows_b = state.taps[1 + y - a[0] :], state.taps[1 + y - b[0] :]
    columns_a, columns_b = state.taps[1 + x - a[1] :], state.taps[1 + x - b[1] :]
    tone_a, tone_b, windows, sums = state.tone[a], state.tone[b], state.windows, state.sums
    sums[:] = 0
    for i in range(REACH):
        for j in range(len(sums)):
            weight_a = windows[NORM, y + i, x + j] * (rows_a[i] * columns_a[j])
            weight_b = windows[NORM, y + i, x + j] * (rows_b[i] * columns_b[j])
            u = windows[U, y + i, x + j] + (weight_a - weight_b)
            v = windows[V, y + i, x + j] + (weight_a * tone_a - weight_b * tone_b)
            ssim = _window_ssim(u, v, windows[MEAN, y + i, x + j], windows[VARIANCE, y + i, x + j])
            sums[j] += ssim - windows[SSIM, y + i, x + j]
            if keep:
                windows[U, y + i, x + j], windows[V, y + i, x + j], windows[SSIM, y + i, x + j] = u, v, ssim
    change: float = sums.sum()
    return change
