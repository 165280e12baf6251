"""Losses of a game between a generator and a discriminator, of logits at every place and scale.

                     generator                discriminator
    hinge            -D(fake)                 max(0, 1 - D(real)) + max(0, 1 + D(fake))
    least_squares    (D(fake) - 1)^2          (D(real) - 1)^2 + D(fake)^2
    bce              -log s(D(fake))          -log s(D(real)) - log(1 - s(D(fake))),   s the logistic function

Each is the mean over the places of a scale, then over scales, as in SPADE (Park et al. 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from nibkit.errors import choose
from nibkit.precision import widened

Judgement = Callable[[Tensor], Tensor]  # of logits, scalar
# kind: what the generator makes of fakes, the discriminator of real images, and of fakes
GAN_LOSSES: dict[str, tuple[Judgement, Judgement, Judgement]] = {
    "hinge": (lambda d: -d.mean(), lambda d: F.relu(1 - d).mean(), lambda d: F.relu(1 + d).mean()),
    "least_squares": (
        lambda d: (d - 1).square().mean(),
        lambda d: (d - 1).square().mean(),
        lambda d: d.square().mean(),
    ),
    "bce": (lambda d: F.softplus(-d).mean(), lambda d: F.softplus(-d).mean(), lambda d: F.softplus(d).mean()),
}


def generator_loss(kind: str, fake: Sequence[Tensor]) -> Tensor:
    """Return the generator's loss, a scalar.

    Args:
        kind: of :data:`GAN_LOSSES`.
        fake: logits of generated images by scale, each ``[B, 1, h, w]``.
    """
    of_fake, _, _ = GAN_LOSSES[choose("GAN loss", kind, GAN_LOSSES)]
    return torch.stack([of_fake(widened(logits)) for logits in fake]).mean()


def discriminator_loss(kind: str, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Return the discriminator's loss, a scalar.

    Args:
        kind: of :data:`GAN_LOSSES`.
        real: logits of real images by scale.
        fake: those of generated images, without gradient to the generator.
    """
    _, of_real, of_fake = GAN_LOSSES[choose("GAN loss", kind, GAN_LOSSES)]
    losses = [of_real(widened(r)) + of_fake(widened(f)) for r, f in zip(real, fake, strict=True)]
    return torch.stack(losses).mean()
