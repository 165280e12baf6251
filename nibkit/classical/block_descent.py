"""Block descent: a simple halftone refined by :mod:`nibkit.refine`, without a network.

The control of the shipped network: what the refinement does from another start.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from nibkit.classical.floyd_steinberg import floyd_steinberg
from nibkit.classical.ostromoukhov import ostromoukhov
from nibkit.classical.void_and_cluster import threshold
from nibkit.classical.white_noise import white_noise
from nibkit.errors import choose
from nibkit.noise import blue_noise_field
from nibkit.refine import REACH, Refinement

STARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "void_and_cluster": lambda gray: threshold(gray, blue_noise_field()),
    "white_noise": white_noise,
    "floyd_steinberg": floyd_steinberg,
    "ostromoukhov": ostromoukhov,
}


def block_descent(
    gray: Tensor, sweeps: int = 5, structure: float = 0.1, sigma: float = 1.5, start: str = "void_and_cluster"
) -> Tensor:
    """Return the halftone (-1 or 1) of each gray image ``[B, 1, H, W]`` in [-1, 1], on the CPU.

    Args:
        gray: images.
        sweeps: see :class:`nibkit.refine.Refinement`; ``structure`` and ``sigma`` too.
        structure: weight of structure against tone.
        sigma: of the tone filter, pixels.
        start: the halftone to begin with.
    """
    first, refinement = STARTS[choose("start of block_descent", start, STARTS)], Refinement(sweeps, structure, sigma)
    wide = F.pad(gray.detach().cpu().float(), (REACH, REACH, REACH, REACH), mode="replicate")
    return refinement(first(wide), wide)[..., REACH:-REACH, REACH:-REACH].to(gray.dtype)
