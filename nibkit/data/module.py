"""The Lightning data modules that others derive from; of images: crops to train, whole ones and constants to judge."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import product
from typing import Any

import lightning.pytorch as pl
from torch.utils.data import DataLoader, Dataset

from nibkit.data.collate import collate, wide_pipes
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
from nibkit.signals import begin_worker

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it looks for updates on the network otherwise

SPECTRUM_LEVELS = tuple(level / 255 for level in range(13, 239, 15))  # the blue-noise protocol
TONE_LEVELS = tuple(level / 255 for level in range(13, 243))  # every 8-bit level from 5 % to 95 %
# a grid over the RGB cube, 8-bit levels
COLOURS = {"val": tuple(product((0, 128, 255), repeat=3)), "test": tuple(product(range(0, 256, 51), repeat=3))}


class TrainingData(pl.LightningDataModule):
    """Base of all data modules: what is trained on comes keyed, what is judged comes exactly once.

    A subclass fills its images in :meth:`setup_images` and says how many there are to train on.

    Args:
        batch_size: samples per step and process.
        num_workers: loader processes.
        samples_per_epoch: samples in an epoch; ``None``: one per image.
        seed: of order, crops and augmentation.
    """

    def __init__(self, batch_size: int, num_workers: int, samples_per_epoch: int | None, seed: int) -> None:
        super().__init__()
        # a set with fewer images than processes leaves some without any: no image is repeated to fill up
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.batch_size, self.num_workers = batch_size, num_workers
        self.samples_per_epoch, self.seed = samples_per_epoch, seed
        self._prepared = False
        self._start: tuple[int, int] | None = None  # (epoch, samples of it) where a run goes on
        self._pass: tuple[int, int, int] | None = None  # likewise of the pass that is on, and batches before it

    def setup_images(self) -> None:
        """Find and check the images; raises :class:`UserError` for anything that cannot be used."""
        raise NotImplementedError

    def training_images(self) -> int:
        """Return the number of images to train on."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Run :meth:`setup_images` once; the command line calls it early, Lightning through :meth:`setup`."""
        if self._prepared:
            return
        self.setup_images()
        self._prepared = True
        if self.batch_size > self._epoch_length():
            raise UserError(
                f"data.batch_size={self.batch_size} is larger than an epoch of {self._epoch_length()} samples; "
                "lower it or raise data.samples_per_epoch"
            )

    def setup(self, stage: str) -> None:
        """Prepare the images on every process."""
        self.prepare()

    def state_dict(self) -> dict[str, Any]:
        """Return how far the training is, for a checkpoint: whole epochs, and samples of the one that has begun."""
        if self._pass is None or self.trainer is None:  # nothing is trained yet
            return {} if self._start is None else {"epoch": self._start[0], "samples": self._start[1]}
        epoch, samples, before = self._pass
        step = self.batch_size * self.trainer.world_size
        samples += (self._batches_done() - before) * step
        if samples + step > self.trainer.num_training_batches * step:
            epoch, samples = epoch + 1, 0
        return {"epoch": epoch, "samples": samples}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a checkpoint was saved."""
        self._start = (state_dict["epoch"], state_dict["samples"]) if state_dict else None

    def _note_pass(self, epoch: int, samples: int) -> None:
        self._start, self._pass = None, (epoch, samples, self._batches_done())

    def _batches_done(self) -> int:
        """Return the batches of all epochs; those of the epoch are of another one where some checkpoints are saved."""
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.processed if self.trainer else 0  # type: ignore[attr-defined]

    def _epoch_length(self) -> int:
        return self.samples_per_epoch or self.training_images()

    def _training_loader(self, dataset: Dataset[Sample]) -> DataLoader[Sample]:
        """Return batches of a data set whose samples are asked for by (epoch, index)."""
        sampler = EpochSampler(self._epoch_length(), self.seed, *self._share(), self._start, self._note_pass)
        if self.batch_size > len(sampler):
            raise UserError(
                f"data.batch_size={self.batch_size} is larger than the {len(sampler)} samples per epoch of each of "
                f"{sampler.world_size} processes; lower it or raise data.samples_per_epoch"
            )
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            worker_init_fn=begin_worker,
            persistent_workers=self.num_workers > 0,
            multiprocessing_context=wide_pipes() if self.num_workers else None,
            drop_last=True,
        )

    def _loader(self, dataset: Dataset[Sample], batch_size: int) -> DataLoader[Sample]:
        sampler = ShareSampler(len(dataset), *self._share())  # type: ignore[arg-type]
        return DataLoader(dataset, batch_size=batch_size, sampler=sampler, collate_fn=collate)

    def _share(self) -> tuple[int, int]:
        """Return this process's rank and the number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


class ImageData(TrainingData):
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
        super().__init__(batch_size, num_workers, samples_per_epoch, seed)
        if channels not in (1, 3):
            raise UserError(f"data.channels={channels} is not supported; use 1 (gray) or 3 (RGB)")
        self.channels, self.crop_size, self.augment = channels, crop_size, list(augment)
        self.val_crop, self.test_crop = val_crop, test_crop
        self.train_images: ImageSource
        self.evaluation_images: dict[str, dict[str, ImageSource]]

    def training_images(self) -> int:
        """Return the number of images to take crops of."""
        return len(self.train_images)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return batches of random crops."""
        import albumentations as A

        augmentation = A.Compose(self.augment) if self.augment else None
        length = self._epoch_length()
        return self._training_loader(TrainingCrops(self.train_images, self.crop_size, augmentation, length, self.seed))

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
