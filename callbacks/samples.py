"""Sample sheets at every validation: what the task shows of a photo, a comic page, grays or colours."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import default_collate

from nibkit.data.comic import comic_page
from nibkit.data.images import to_channels, to_tensor
from nibkit.sheet import Cell, draw_sheet, gray_ramp, save_picture

LABELLED = 4  # images of data with label maps
GRAYS = (0.05, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.95)
COLOURS = (
    (0.9, 0.1, 0.1), (0.9, 0.6, 0.1), (0.9, 0.9, 0.2), (0.2, 0.7, 0.2),
    (0.1, 0.7, 0.8), (0.1, 0.2, 0.8), (0.6, 0.2, 0.7), (0.95, 0.7, 0.7),
)  # fmt: skip


class SampleSheets(pl.Callback):
    """Draws photo, comic, gray ramp and constant grays, or colours, through the network, one PNG per validation.

    Args:
        folder: where the sheets go.
        size: side of the pictures, pixels.
    """

    def __init__(self, folder: str, size: int = 256) -> None:
        self.folder, self.size = Path(folder), size

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the sheet; all ranks compute, one writes."""
        if trainer.sanity_checking or not hasattr(pl_module, "pictures"):
            return
        if hasattr(pl_module, "batch_pictures"):
            rows = self._labelled_rows(trainer, pl_module)
        else:
            rows = [pl_module.pictures(image) for image in self._inputs(trainer, pl_module)]  # type: ignore[operator]
        if trainer.is_global_zero:
            path = self.folder / f"step_{trainer.global_step:06d}.png"
            save_picture(draw_sheet(rows, f"step {trainer.global_step}"), path)

    def _labelled_rows(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> list[list[Cell]]:
        """Return the rows of the first validation images of data with label maps, one by one, as they are judged."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        samples = data.val_dataloader()[0].dataset
        batches = [default_collate([samples[index]]) for index in range(min(LABELLED, len(samples)))]
        on_device = [pl_module.transfer_batch_to_device(batch, pl_module.device, 0) for batch in batches]
        return [row for batch in on_device for row in pl_module.batch_pictures(batch, data.palette)]  # type: ignore[operator]

    def _inputs(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> list[Tensor]:
        """Return the images of the rows, ``[C, H, W]`` in [-1, 1]."""
        channels = int(getattr(pl_module.backbone, "in_channels", 1))
        sets = trainer.datamodule.evaluation_images["val"]  # type: ignore[attr-defined]
        pages = [source.read(0) for source in sets.values()]
        if "comic" not in sets:
            pages.append(to_channels(comic_page(100), channels))
        images = [to_tensor(page)[:, : self.size, : self.size] for page in pages]
        drawn = [gray_ramp(self.size // 4, self.size), self._squares(channels)]
        return images + [image.expand(channels, -1, -1) for image in drawn]

    def _squares(self, channels: int) -> Tensor:
        """Return constant grays, or colours if there are three channels, ``[channels, H, W]``, in two rows of four."""
        patch = self.size // 4
        tones = torch.tensor(COLOURS if channels == 3 else [(gray,) * channels for gray in GRAYS])
        squares = (2 * tones - 1).reshape(2, 4, -1, 1, 1).expand(2, 4, channels, patch, patch)
        return torch.cat([torch.cat([*row], dim=2) for row in squares], dim=1)
