"""Blue noise: the dots of a constant gray have no low frequencies.

    L_B = mean | DCT(h) - DCT(g) | over the low frequencies, constant-gray inputs only

**The paper's printed mask is inverted.** It prints L_B = ||DCT(H) * M||_1 with M = 0 on 5 % of low
frequencies and 1 elsewhere. That form punishes high frequencies: it barely tells blue noise from white
noise and is 0 for no dots at all. Blue noise lacks LOW frequencies, so they are what is punished here:
the first 50 of 256 coefficients along each axis, DC included. The printed form stays selectable
(``band="high"``) for study.

Either way the loss has a meaning only beside a tone loss on the same constant grays: a blank image has
no low frequencies but DC.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nibkit.errors import UserError, choose
from nibkit.filters import dct_matrix, separable
from nibkit.losses.base import HalftoneLoss

FRACTION = 50 / 256
BANDS = ("low", "high")
WORK = (2**18, 2**24)  # basis values at a time: what stays in a processor's cache; what keeps a GPU busy


def blue_noise_loss(halftone: Tensor, gray: Tensor, fraction: float = FRACTION, band: str = "low") -> Tensor:
    """Return the mean absolute DCT coefficient, orthonormal on [0, 1], in the punished band.

    Args:
        halftone: of constant grays, ``[B, 1, H, W]`` in [-1, 1].
        gray: those constant grays, same shape and range.
        fraction: of each axis that counts as low, so that images of any size can be used.
        band: ``low``: the low frequencies of h - g; ``high``: all others of h, as printed.
    """
    height, width = halftone.shape[-2:]
    rows, columns = max(1, round(height * fraction)), max(1, round(width * fraction))
    if band == "low":
        low = separable((halftone - gray) / 2, dct_matrix(height, rows), dct_matrix(width, columns))
        return low.abs().mean()
    spectrum = separable((halftone + 1) / 2, dct_matrix(height), dct_matrix(width)).abs()
    masked = spectrum.sum() - spectrum[..., :rows, :columns].sum()
    return masked / spectrum.numel()


def blue_noise_flip_gain(halftone: Tensor, gray: Tensor, fraction: float = FRACTION) -> Tensor:
    """Return the exact flip gain of :func:`blue_noise_loss` (``low``) for a binary halftone.

    A flip of pixel a moves coefficient c_k by its basis value b_k(a), towards white or, if a is white, back. With
    s = 1 for a black pixel and -1 for a white one,

        | white | - | black | = s (| c + s b | - | c |) = sign(c) b + 2 s max(0, - sign(c) s b - | c |).

    The first term is the gradient, a transform back. It alone will not do: on good blue noise the coefficients are as
    small as one pixel's share in them, and the gradient says to undo each pixel whatever it is. The second is not
    0 only where c is smaller than b and a flip can turn its sign: few of the coefficients, fewer the larger the image.
    """
    height, width = halftone.shape[-2:]
    rows = dct_matrix(height, max(1, round(height * fraction))).to(halftone)
    columns = dct_matrix(width, max(1, round(width * fraction))).to(halftone)
    coefficients = separable((halftone - gray) / 2, rows, columns)  # [B, 1, ky, kx]
    signs = torch.ones_like(coefficients).copysign(coefficients)
    gain = separable(signs, rows.T, columns.T)
    for image, towards, given, sign in zip(gain, -halftone, coefficients, signs, strict=True):
        image += 2 * towards * _turned(towards[0], given[0].abs(), sign[0], rows, columns)
    return gain / coefficients.numel()


def _turned(towards: Tensor, sizes: Tensor, signs: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the sum over all coefficients of max(0, - sign(c) s b - | c |) of one image, ``[H, W]``."""
    turned = torch.zeros_like(towards)
    count = max(1, WORK[towards.is_cuda] // towards.numel())
    places = _within_reach(sizes, rows, columns, every=towards.is_cuda)
    for y, x in zip(*(torch.split(axis, count) for axis in places), strict=True):
        basis = (-signs[y, x, None] * rows[y])[:, :, None] * columns[x][:, None, :]  # [k, H, W]
        turned += torch.addcmul(-sizes[y, x, None, None], basis, towards).relu_().sum(dim=0)
    return turned


def _within_reach(sizes: Tensor, rows: Tensor, columns: Tensor, every: bool) -> tuple[Tensor, ...]:
    """Return y and x of the coefficients whose sign one pixel can turn; ``every`` one: to ask a GPU is to wait for it.

    Args:
        sizes: of the coefficients, ``[ky, kx]``.
        rows: the transform along y, ``[ky, H]``.
        columns: along x, ``[kx, W]``.
        every: return all, without a look at the sizes.
    """
    if every:
        places = torch.arange(sizes.numel(), device=sizes.device)
        return places // sizes.shape[1], places % sizes.shape[1]
    reach = rows.abs().amax(dim=1)[:, None] * columns.abs().amax(dim=1)
    return (sizes < reach).nonzero(as_tuple=True)


class BlueNoise(HalftoneLoss):
    """:func:`blue_noise_loss` as a module; the printed form has the first-order flip gain."""

    def __init__(self, fraction: float = FRACTION, band: str = "low") -> None:
        super().__init__()
        if not 0 < fraction < 1:
            raise UserError(f"fraction={fraction} of the blue-noise loss must lie between 0 and 1")
        self.fraction, self.band = fraction, choose("band of the blue-noise loss", band, BANDS)

    def forward(self, halftone: Tensor, gray: Tensor) -> Tensor:
        """Return the loss; see :class:`HalftoneLoss`."""
        return blue_noise_loss(halftone, gray, self.fraction, self.band)

    def flip_gain(self, halftone: Tensor, gray: Tensor) -> Tensor:
        """Return the gain, exact for the low band; see :class:`HalftoneLoss`."""
        if self.band == "high":
            return super().flip_gain(halftone, gray)
        return blue_noise_flip_gain(halftone, gray, self.fraction)
