"""Deep neural dithering: tone, structure and blue noise (Table 4, Figure 8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nibkit.losses import Binarization, BlueNoise, Structure, Tone
from tasks.halftoning import HalftoningTask


class DitheringTask(HalftoningTask):
    """Halftoning that keeps structure, with blue noise on constant grays.

    A batch of constant grays is trained beside each batch of images: blue noise is only defined there.

    Args:
        backbone: see :class:`tasks.base.Task`; one output channel.
        nib: likewise.
        optimizer: likewise.
        schedule: likewise.
        estimator: see :class:`tasks.halftoning.HalftoningTask`.
        sigma: likewise.
        tone_padding: likewise.
        tone_weight: of the tone loss on images.
        flat_tone_weight: of the tone loss on constant grays.
        structure_weight: of 1 - SSIM on images.
        structure_textured: windows count by their texture; see :mod:`nibkit.losses.structure`.
        blue_noise_weight: of the DCT loss on constant grays.
        blue_noise_band: ``low``, or ``high`` as the paper prints it; see :mod:`nibkit.losses.blue_noise`.
        binarization_weight: see :class:`tasks.halftoning.HalftoningTask`; on both.
        channels_last: see :class:`tasks.base.Task`.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        nib: Mapping[str, Any],
        optimizer: Mapping[str, Any],
        schedule: Mapping[str, Any],
        estimator: str = "per_pixel",
        sigma: float = 1.5,
        tone_padding: str = "valid",
        tone_weight: float = 1.0,
        flat_tone_weight: float = 1.0,
        structure_weight: float = 0.02,
        structure_textured: bool = True,
        blue_noise_weight: float = 0.1,
        blue_noise_band: str = "low",
        binarization_weight: float = 0.1,
        channels_last: bool = True,
    ) -> None:
        # save_hyperparameters, called by the base, sees this signature: the other values need not be handed up
        super().__init__(backbone, nib, optimizer, schedule)

    def configure_losses(self) -> None:
        """Add structure on images, and tone and blue noise on constant grays."""
        super().configure_losses()
        options = self.hparams
        self.add_image_term("structure", Structure(options["structure_textured"]), options["structure_weight"])
        self.add_flat_term("tone", Tone(options["sigma"], options["tone_padding"]), options["flat_tone_weight"])
        self.add_flat_term("blue_noise", BlueNoise(band=options["blue_noise_band"]), options["blue_noise_weight"])
        self.add_flat_term("binarization", Binarization(), self.binarization_weight)
