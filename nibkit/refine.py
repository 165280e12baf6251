"""Refinement: a finished halftone made better, 2x2 pixels at a time.

A feed-forward network decides all dots at once and cannot know what its neighbours decide: its tone stays
grainy. The refinement looks at the finished halftone h of the image g and lowers

    E(h) = sum (G * (h - g))^2 + structure * sum over windows of m (1 - SSIM(h, g)),   G Gaussian

(m: how textured the window is, see :mod:`nibkit.losses.structure`) by block coordinate descent. Flipped alone,
a pixel changes the local tone by a whole dot; to move a dot, the finer step that good halftones are made of, two
neighbours must flip at once. So blocks of 2x2 pixels choose among their 16 patterns: with all other pixels as they
are, pattern s has the energy

    E(s) = sum_i field_i s_i + sum_{i<j} coupling_ij s_i s_j,   s in {-1, 1}^4.

Blocks of one phase begin four pixels apart and choose together. They do touch each other's tone somewhat; the
next phase sees and mends what they overdid. The four phases of a sweep cover the image. Every step is a filter or
a sum over blocks, so that it runs on any device, and on a tile of a large image as on the whole. Relatives: direct
binary search, which flips and swaps one pixel after another, and the block updates of iterated conditional modes.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from types import EllipsisType

import torch
from torch import Tensor
from torch.nn import functional as F

from nibkit.backbones.base import Backbone
from nibkit.bands import band_filter
from nibkit.errors import UserError
from nibkit.estimators import binarize
from nibkit.filters import autocorrelation
from nibkit.precision import full_precision
from nibkit.structure_gain import StructureGain

CELL = 4  # blocks of one phase lie this far apart, pixels
REACH = 48  # pixels around a tile that its refinement reads; measured in tests
PHASES = ((0, 0), (2, 2), (0, 2), (2, 0))  # first pixel (y, x) of the blocks of each phase
SHIFTS = ((0, 0), (1, 1), (0, 1), (1, 0))  # of whole sweeps, in turn: each pixel meets other neighbours
PATTERNS = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=4)))  # [16, 4]
_PAIRS = tuple(itertools.combinations(range(4), 2))  # of the pixels (0, 0), (0, 1), (1, 0), (1, 1)
_PRODUCTS = torch.stack([PATTERNS[:, i] * PATTERNS[:, j] for i, j in _PAIRS], dim=1)  # [16, 6]


@dataclass(frozen=True)
class Refinement:
    """How a halftone is refined.

    Args:
        sweeps: passes over all pixels; 0 leaves the halftone as it is.
        structure: weight of structure against tone, in the units of the losses on [-1, 1].
        sigma: of the tone filter, pixels; narrow makes blue noise.

    Raises:
        UserError: a value out of range.
    """

    sweeps: int = 5
    structure: float = 0.1
    sigma: float = 1.5

    def __post_init__(self) -> None:
        """Check the values."""
        if self.sweeps < 0 or not 0 <= self.structure < math.inf or not 0.5 <= self.sigma <= 5:
            raise UserError(
                f"refinement with sweeps={self.sweeps}, structure={self.structure}, sigma={self.sigma} is out of "
                "range; sweeps and structure are at least 0, sigma from 0.5 to 5 pixels"
            )

    def __call__(self, halftone: Tensor, gray: Tensor) -> Tensor:
        """Return the refined halftone, -1 or 1, ``[B, 1, H, W]``.

        Blocks at opposite borders are taken as neighbours, and the error beyond the border as 0: give the image
        with ``REACH`` pixels of surroundings, and cut them off.

        Args:
            halftone: -1 or 1, same shape; a tile begins at multiples of 4 of its image.
            gray: the original in [-1, 1], same shape, any size.
        """
        height, width = gray.shape[-2:]
        fill = (0, -width % CELL, 0, -height % CELL)
        halftone, gray = (F.pad(x, fill, mode="replicate") for x in (halftone, gray))
        with full_precision(gray.device):
            structure = StructureGain(gray)
            for sweep in range(self.sweeps):
                halftone = self._sweep(halftone, gray, structure, SHIFTS[sweep % len(SHIFTS)])
        return halftone[..., :height, :width]

    def _sweep(self, halftone: Tensor, gray: Tensor, structure: StructureGain, shift: tuple[int, int]) -> Tensor:
        near = autocorrelation(self.sigma)
        tone = tuple(value / near[0] for value in near)  # in units of the energy of a single dot
        matrix = _coupling_matrix(tone[1], tone[1] ** 2).to(gray)
        pull = structure(halftone) * (self.structure / (4 * near[0] ** 2))
        for y, x in PHASES:
            phase = ((y + shift[0]) % CELL, (x + shift[1]) % CELL)
            own = take_blocks(halftone, phase)
            gain = take_blocks(tone_gain(halftone, gray, tone) + pull, phase)
            others = gain - (matrix @ own.flatten(2)).view_as(own)
            halftone = put_blocks(halftone, best_patterns(others, matrix), phase)
        return halftone


def tone_gain(halftone: Tensor, gray: Tensor, tone: tuple[float, ...]) -> Tensor:
    """Return c * (h - g) - h: what making a pixel white, not black, adds to sum (G * (h - g))^2, over 4 sum G^2.

    Args:
        halftone: -1 or 1, ``[B, 1, H, W]``.
        gray: same shape, in [-1, 1]; the error is 0 beyond the border.
        tone: the autocorrelation c of the filter along one axis, 1 at distance 0.
    """
    return band_filter(halftone - gray, tone) - halftone


def take_blocks(image: Tensor, phase: tuple[int, int]) -> Tensor:
    """Return the pixels of a phase's blocks ``[B, 4, H/4, W/4]`` of ``image`` ``[B, 1, H, W]``.

    H and W are multiples of 4. The last blocks of a shifted phase wrap around the border.
    """
    pixels = [image[place].roll((-down, -right), dims=(-2, -1)) for place, (down, right) in _places(phase)]
    return torch.cat(pixels, dim=1)


def put_blocks(image: Tensor, blocks: Tensor, phase: tuple[int, int]) -> Tensor:
    """Return ``image`` ``[B, 1, H, W]`` with the pixels of a phase's blocks replaced; see :func:`take_blocks`."""
    image = image.clone()
    for pixels, (place, wrapped) in zip(torch.split(blocks, 1, dim=1), _places(phase), strict=True):
        image[place] = pixels.roll(wrapped, dims=(-2, -1))
    return image


def best_patterns(field: Tensor, coupling: Tensor) -> Tensor:
    """Return the pixels ``[B, 4, h, w]`` of each block's pattern of lowest energy, the first of equal ones.

    Args:
        field: linear part of the energy, ``[B, 4, h, w]``.
        coupling: of the pixels of a block, ``[4, 4]``, symmetric with zero diagonal.
    """
    pairs = torch.stack([coupling[i, j] for i, j in _PAIRS])
    energy = PATTERNS.to(field) @ field.flatten(2) + (_PRODUCTS.to(field) @ pairs)[:, None]  # [B, 16, h w]
    pixels = []
    for _ in range(4):  # half of the patterns left have the next pixel black; the least energy says which half stays
        black, white = energy.chunk(2, dim=1)
        turn = white.amin(dim=1, keepdim=True) < black.amin(dim=1, keepdim=True)
        energy = torch.where(turn, white, black)
        pixels.append(turn)
    return 2 * torch.cat(pixels, dim=1).view_as(field).to(field.dtype) - 1


def _coupling_matrix(side: float, diagonal: float) -> Tensor:
    """Return the coupling ``[4, 4]`` of the pixels of a block."""
    return torch.tensor([[0.0 if i == j else diagonal if i + j == 3 else side for j in range(4)] for i in range(4)])


def _places(phase: tuple[int, int]) -> tuple[tuple[tuple[EllipsisType, slice, slice], tuple[int, int]], ...]:
    """Return of each pixel of a phase's blocks where it lies in the image, and by how many blocks it has wrapped."""
    pixels = [(phase[0] + down, phase[1] + right) for down, right in itertools.product(range(2), repeat=2)]
    return tuple(
        ((..., slice(y % CELL, None, CELL), slice(x % CELL, None, CELL)), (y // CELL, x // CELL)) for y, x in pixels
    )


class Refined(Backbone):
    """A network whose halftone is refined: answers -1 or 1.

    Args:
        network: for gray images, with one output channel.
        refinement: how.
    """

    def __init__(self, network: Backbone, refinement: Refinement) -> None:
        super().__init__(network.in_channels, network.out_channels, network.nib)
        self.network, self.refinement = network, refinement
        self.margin = network.margin + REACH
        self.multiple = math.lcm(CELL, network.multiple)

    def extension(self) -> int:
        """Return the network's own extension, and the reach of the refinement around it."""
        return self.network.extension() + REACH

    def answer_extended(self, image: Tensor, origin: Tensor, reach: int) -> Tensor:
        """Return the refined halftone of an image that has its surroundings around it; see :class:`Backbone`."""
        if not reach:
            reach = self.extension()
            image = F.pad(image, (reach, reach, reach, reach), mode="replicate")
        inner = self.network.extension()
        raw = self.network.answer_extended(image, origin - REACH, inner)
        height, width = raw.shape[-2:]
        gray = image[..., inner : inner + height, inner : inner + width]
        halftone = self.refinement(binarize(raw), gray.contiguous())
        return halftone[..., REACH : height - REACH, REACH : width - REACH]
