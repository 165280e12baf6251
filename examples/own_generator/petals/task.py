"""The task: dithering with a loss of its own."""

from typing import Any

from torch import Tensor

from nibkit.losses import HalftoneLoss
from tasks.dithering import DitheringTask


class Clumps(HalftoneLoss):
    """Neighbours that err to the same side make clumps: the mean product of their errors.

    It is linear in each pixel, so the flip gain that the base class takes from the gradient is exact.
    """

    def forward(self, halftone: Tensor, gray: Tensor) -> Tensor:
        """Return the loss, a scalar, of ``[B, 1, H, W]`` in [-1, 1]."""
        error = halftone - gray
        beside = error[..., :, 1:] * error[..., :, :-1]
        below = error[..., 1:, :] * error[..., :-1, :]
        return beside.mean() + below.mean()


class PetalsTask(DitheringTask):
    """Dithering without clumps.

    Args:
        clumps_weight: of :class:`Clumps`, on images and on constant grays.
        **options: see :class:`tasks.dithering.DitheringTask`.
    """

    def __init__(self, clumps_weight: float = 0.02, **options: Any) -> None:
        super().__init__(**options)  # keeps clumps_weight in self.hparams, too

    def configure_losses(self) -> None:
        """Add the term to those of dithering; a weight of 0 leaves it out."""
        super().configure_losses()
        self.add_image_term("clumps", Clumps(), self.hparams["clumps_weight"])
        self.add_flat_term("clumps", Clumps(), self.hparams["clumps_weight"])
