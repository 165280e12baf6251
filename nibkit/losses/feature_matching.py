"""Feature matching (Wang et al. 2018): a generated image shows the discriminator what the real one shows it.

    L = sum over scales and layers of mean |D_k(fake) - D_k(real)|, divided by the number of scales

The logits, the last layer of each scale, are left out; published weight 10.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def feature_matching_loss(fake: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return the loss, a scalar; its gradient reaches ``fake`` only.

    Args:
        fake: features of generated images by scale and layer, logits last.
        real: those of the real images.
    """
    distances = [
        F.l1_loss(f, r.detach())
        for fakes, reals in zip(fake, real, strict=True)
        for f, r in zip(fakes[:-1], reals[:-1], strict=True)
    ]
    return torch.stack(distances).sum() / len(fake)
