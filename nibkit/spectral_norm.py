"""Spectral norm (Miyato et al. 2018): a convolution whose weight, as a matrix, has largest singular value 1.

    W / sigma,   sigma = u^T W v,   u <- W v / |W v|,   v <- W^T u / |W^T u|   once per pass in training

Torch's own parametrization brings the weight into the order (out; in, y, x) at every pass, forward and backward: of
weights in the channels-last layout that is a copy, number by number. This one multiplies the weight in the order in
which it lies in memory, and takes the gradient at once. Its values, its random start and its names in a checkpoint are
torch's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from nibkit.precision import full_precision

START = 15  # iterations before the first pass
EPS = 1e-12


class SpectralNorm(nn.Module):
    """The parametrization of a weight ``[out, in, kh, kw]``.

    Args:
        weight: as it is when the norm is put on.
    """

    _u: Tensor  # [out]
    _v: Tensor  # [in * kh * kw], in torch's order

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("_u", F.normalize(weight.new_empty(len(weight)).normal_(), dim=0, eps=EPS))
        self.register_buffer("_v", F.normalize(weight.new_empty(weight[0].numel()).normal_(), dim=0, eps=EPS))
        with torch.no_grad():
            for _ in range(START):
                self._iterate(weight)

    def _iterate(self, weight: Tensor) -> None:
        """Take a step of the power method, which changes both vectors in place."""
        matrix = as_matrix(weight)
        self._u.copy_(F.normalize(torch.mv(matrix, to_matrix_order(self._v, weight)), dim=0, eps=EPS))
        v = F.normalize(torch.mv(matrix.mT, self._u), dim=0, eps=EPS)
        self._v.copy_(to_weight_order(v, weight))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight divided by its largest singular value; the gradient takes u and v as constants."""
        with full_precision(weight.device):
            if self.training:
                with torch.no_grad():
                    self._iterate(weight)
            # of their own: the next pass changes them before this one's gradient is asked for
            normalised: Tensor = Normalise.apply(weight, self._u.clone(), to_matrix_order(self._v, weight))
        return normalised

    def right_inverse(self, value: Tensor) -> Tensor:
        """Take a weight that is set as it is."""
        return value


class Normalise(torch.autograd.Function):
    """W / (u^T W v), with the gradient G -> (G - <G, W / sigma> u v^T) / sigma in two passes over the weight."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Return the normalised weight."""
        sigma = torch.vdot(u, torch.mv(as_matrix(weight), v))
        normalised = weight / sigma
        ctx.save_for_backward(normalised, u, v, sigma)
        return normalised

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient by the weight."""
        normalised, u, v, sigma = ctx.saved_tensors
        rows = as_matrix(gradient)
        share = torch.dot(rows.reshape(-1), as_matrix(normalised).reshape(-1))
        whole = torch.addr(rows, u * -share, v).div_(sigma)
        out, channels, height, width = gradient.shape
        return whole.view(out, height, width, channels).permute(0, 3, 1, 2), None, None


def spectral_norm(layer: nn.Conv2d) -> nn.Conv2d:
    """Put the norm on a convolution's weight, which is then trained before it is divided."""
    parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight))
    return layer


def as_matrix(weight: Tensor) -> Tensor:
    """Return a weight ``[out, in, kh, kw]`` as a matrix ``[out, kh * kw * in]``: no copy of a channels-last one."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def to_matrix_order(v: Tensor, weight: Tensor) -> Tensor:
    """Return a vector in torch's order (in, y, x) in that of :func:`as_matrix`, a copy."""
    return v.view(weight.shape[1:]).permute(1, 2, 0).clone(memory_format=torch.contiguous_format).view(-1)


def to_weight_order(v: Tensor, weight: Tensor) -> Tensor:
    """Return a vector in the order of :func:`as_matrix` in torch's (in, y, x)."""
    return v.view(*weight.shape[2:], weight.shape[1]).permute(2, 0, 1).reshape(-1)
