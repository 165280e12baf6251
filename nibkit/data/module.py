"""The Lightning data module that all data share: crops to train, whole images, constant grays and colours to judge."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import product
from typing import Any

import lightning.pytorch as pl
from torch.utils.data import DataLoader, Dataset

from nibkit.data.sets import (
    ConstantColours,
    EpochSampler,
    GrayLevels,
    ImageSource,
    Sample,
    ShareSampler,
    TrainingCrops,
    WholeImages,
)
from nibkit.errors import UserError

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it looks for updates on the network otherwise

SPECTRUM_LEVELS = tuple(level / 255 for level in range(13, 239, 15))  # the blue-noise protocol
TONE_LEVELS = tuple(level / 255 for level in range(13, 243))  # every 8-bit level from 5 % to 95 %
# a grid over the RGB cube, 8-bit levels
COLOURS = {"val": tuple(product((0, 128, 255), repeat=3)), "test": tuple(product(range(0, 256, 51), repeat=3))}


class ImageData(pl.LightningDataModule):
    """Base of the data modules; a subclass fills ``train_images`` and ``evaluation_images`` in :meth:`setup_images`.

    Args:
        channels: 1 for gray, 3 for RGB.
        crop_size: side of training crops, pixels.
        batch_size: crops per step and process.
        num_workers: loader processes.
        samples_per_epoch: crops in an epoch; ``None``: one per image.
        augment: albumentations transforms applied after the crop.
        val_crop: validation images are centre-cropped to this side, ``None`` for whole ones.
        test_crop: test images likewise.
        seed: of order, crops and augmentation.
    """

    def __init__(
        self,
        channels: int = 1,
        crop_size: int = 96,
        batch_size: int = 4,
        num_workers: int = 0,
        samples_per_epoch: int | None = None,
        augment: Sequence[Any] = (),
        val_crop: int | None = 256,
        test_crop: int | None = 1024,
        seed: int = 0,
    ) -> None:
        super().__init__()
        # a set with fewer images than processes leaves some without any: no image is repeated to fill up
        self.allow_zero_length_dataloader_with_multiple_devices = True
        if channels not in (1, 3):
            raise UserError(f"data.channels={channels} is not supported; use 1 (gray) or 3 (RGB)")
        self.channels, self.crop_size, self.batch_size = channels, crop_size, batch_size
        self.num_workers, self.samples_per_epoch, self.augment = num_workers, samples_per_epoch, list(augment)
        self.val_crop, self.test_crop, self.seed = val_crop, test_crop, seed
        self.train_images: ImageSource
        self.evaluation_images: dict[str, dict[str, ImageSource]]

    def setup_images(self) -> None:
        """Find and check the images: ``train_images`` and ``evaluation_images[stage][set]``.

        Called once, before training starts; raises :class:`UserError` for anything that cannot be used.
        """
        raise NotImplementedError

    def prepare(self) -> None:
        """Run :meth:`setup_images` once; the command line calls it early, Lightning through :meth:`setup`."""
        if not hasattr(self, "train_images"):
            self.setup_images()
            if self.batch_size > self._epoch_length():
                raise UserError(
                    f"data.batch_size={self.batch_size} is larger than an epoch of {self._epoch_length()} samples; "
                    "lower it or raise data.samples_per_epoch"
                )

    def setup(self, stage: str) -> None:
        """Prepare the images on every process."""
        self.prepare()

    def _epoch_length(self) -> int:
        return self.samples_per_epoch or len(self.train_images)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return batches of random crops."""
        import albumentations as A

        size = self.crop_size
        augmentation = A.Compose([A.RandomCrop(size, size), *self.augment])
        length = self._epoch_length()
        sampler = EpochSampler(length, self.seed, *self._share())
        if self.batch_size > len(sampler):
            raise UserError(
                f"data.batch_size={self.batch_size} is larger than the {len(sampler)} samples per epoch of each of "
                f"{sampler.world_size} processes; lower it or raise data.samples_per_epoch"
            )
        return DataLoader(
            TrainingCrops(self.train_images, augmentation, length, self.seed),
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            drop_last=True,
        )

    def val_dataloader(self) -> list[DataLoader[Sample]]:
        """Return a loader per evaluation set: images, constant grays, and constant colours where there is colour."""
        levels = GrayLevels(SPECTRUM_LEVELS, 128, "tone", self.channels)
        images = self._image_loaders("val", self.val_crop)
        return [*images, self._loader(levels, len(levels)), *self._colour_loaders("val")]

    def test_dataloader(self) -> list[DataLoader[Sample]]:
        """Return a loader per evaluation set: images, every gray level, the spectrum protocol's grays, colours."""
        tone = GrayLevels(TONE_LEVELS, 128, "tone", self.channels)
        spectrum = GrayLevels(SPECTRUM_LEVELS, 512, "spectrum", self.channels)
        grays = [self._loader(tone, 16), self._loader(spectrum, 1)]
        return [*self._image_loaders("test", self.test_crop), *grays, *self._colour_loaders("test")]

    def _image_loaders(self, stage: str, crop: int | None) -> list[DataLoader[Sample]]:
        sets = self.evaluation_images[stage]
        return [self._loader(WholeImages(source, name, crop), 1) for name, source in sets.items()]

    def _colour_loaders(self, stage: str) -> list[DataLoader[Sample]]:
        return [self._loader(ConstantColours(COLOURS[stage], 64), 27)] if self.channels == 3 else []

    def _loader(self, dataset: Dataset[Sample], batch_size: int) -> DataLoader[Sample]:
        sampler = ShareSampler(len(dataset), *self._share())  # type: ignore[arg-type]
        return DataLoader(dataset, batch_size=batch_size, sampler=sampler)

    def _share(self) -> tuple[int, int]:
        """Return this process's rank and the number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
