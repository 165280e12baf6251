"""Three ways to train a network whose output is binary.

The network gives a raw value a per pixel. With h = tanh(a) its relaxed halftone and p = (1 + h) / 2 the
probability of white, the halftone is white where a > 0. An estimator turns loss terms of (halftone, gray)
into terms with a useful gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from nibkit.draws import uniform_like
from nibkit.errors import choose
from nibkit.losses.base import HalftoneLoss

Estimator = Callable[[Tensor, Tensor, Mapping[str, HalftoneLoss]], dict[str, Tensor]]


def binarize(output: Tensor) -> Tensor:
    """Return the halftone of a raw output: 1 where it is above 0, else -1; any shape."""
    return torch.where(output > 0, 1.0, -1.0).to(output.dtype)


def relaxed(output: Tensor, gray: Tensor, terms: Mapping[str, HalftoneLoss]) -> dict[str, Tensor]:
    """Evaluate the terms on the relaxed halftone tanh(a), as the paper does.

    It needs the binarization loss among the terms: nothing else keeps the pixels from staying gray.
    """
    halftone = torch.tanh(output)
    return {name: term(halftone, gray) for name, term in terms.items()}


def straight_through(output: Tensor, gray: Tensor, terms: Mapping[str, HalftoneLoss]) -> dict[str, Tensor]:
    """Evaluate the terms on the binary halftone; the gradient passes the threshold unchanged."""
    soft = torch.tanh(output)
    halftone = soft + (binarize(output) - soft).detach()
    return {name: term(halftone, gray) for name, term in terms.items()}


def per_pixel(output: Tensor, gray: Tensor, terms: Mapping[str, HalftoneLoss]) -> dict[str, Tensor]:
    """Follow the expected loss of Bernoulli pixels (arXiv 2304.12152).

    Pixels h ~ Bernoulli(p) are drawn, and with the others fixed at their draw the derivative of the
    expected loss by p_a is the flip gain of pixel a. The value of each term is the loss of the drawn
    halftone; its gradient is the flip gain's. The entropy of p falls by itself.
    """
    p = torch.sigmoid(2 * output)  # = (1 + tanh a) / 2
    with torch.no_grad():
        halftone = binarize(p - uniform_like(p))
        values = {name: (term(halftone, gray), term.flip_gain(halftone, gray)) for name, term in terms.items()}
    return {name: _with_gradient(loss, (p * gain).sum()) for name, (loss, gain) in values.items()}


def _with_gradient(value: Tensor, surrogate: Tensor) -> Tensor:
    """Return a scalar with the value of one tensor and the gradient of another."""
    return surrogate - surrogate.detach() + value


ESTIMATORS: dict[str, Estimator] = {
    "relaxed": relaxed,
    "straight_through": straight_through,
    "per_pixel": per_pixel,
}


def get_estimator(name: str) -> Estimator:
    """Return the estimator called ``name``, or raise with the choices."""
    return ESTIMATORS[choose("task.estimator", name, ESTIMATORS)]
