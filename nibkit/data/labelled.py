"""Photographs with label maps: what semantic synthesis and segmentation learn from.

A sample is a dictionary:

    image   [3, H, W] float32 in [-1, 1], the photograph
    label   [H, W] int64, class ids 0 to C-1; C is void, where the data have it
    target  [H, W] int64, the scored class 0 to K-1, or IGNORE: void, and classes that are not scored
    edges   [1, H, W] float32, 0 or 1, the borders of instances; only where the data have them
    origin  [2] int64, absolute (y, x) of the sample in the noise field
    set     name of the evaluation set, "photo"; evaluation only
    name    name of the image; evaluation only
    draw    int64, the key of all that is drawn for the sample; see :mod:`nibkit.draws`
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from nibkit.data.cache import CACHE_MB, DecodeCache
from nibkit.data.images import to_tensor
from nibkit.data.label_classes import Classes, make_palette
from nibkit.data.module import TrainingData
from nibkit.data.scenes import Ids, LazyScene, Scene, Scenes, SceneSource, Size, spread
from nibkit.data.sets import FIELD, Sample
from nibkit.draws import evaluation_key, training_key
from nibkit.errors import UserError


def instance_edges(instances: Ids) -> NDArray[np.float32]:
    """Return 1 where a pixel's neighbour above, below, left or right is of another instance, ``[H, W]``."""
    edges = np.zeros(instances.shape, dtype=np.float32)
    beside, below = instances[:, 1:] != instances[:, :-1], instances[1:] != instances[:-1]
    edges[:, 1:][beside] = edges[:, :-1][beside] = 1
    edges[1:][below] = edges[:-1][below] = 1
    return edges


def make_sample(scene: Scene, classes: Classes, origin: NDArray[np.int64]) -> Sample:
    """Return the sample of a scene; see above."""
    label = classes.of_id[scene.ids]
    sample: Sample = {
        "image": to_tensor(scene.photo),
        "label": torch.from_numpy(label),
        "target": torch.from_numpy(classes.target[label]),
        "origin": torch.from_numpy(origin),
    }
    if scene.instances is not None:
        sample["edges"] = torch.from_numpy(instance_edges(scene.instances))[None]
    return sample


class TrainingScenes(Dataset[Sample]):
    """Scenes cropped and flipped at random; each sample is a pure function of (seed, epoch, index).

    So the number of workers and ranks changes nothing.

    Args:
        source: the scenes; sample i is of scene i modulo their number.
        classes: of the label files.
        size: of the crops.
        flip: from left to right, every other time.
        length: samples in an epoch.
        seed: of the run.
    """

    def __init__(self, source: SceneSource, classes: Classes, size: Size, flip: bool, length: int, seed: int) -> None:
        import albumentations as A

        self.source, self.classes, self.length, self.seed = source, classes, length, seed
        self.augmentation = A.Compose([A.RandomCrop(*size), *([A.HorizontalFlip(p=0.5)] if flip else [])])

    def __len__(self) -> int:
        """Return the number of samples in an epoch."""
        return self.length

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Return the sample ``(epoch, index)``."""
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        # one stream for all transforms: set_random_seed would give each the same draws
        self.augmentation.set_random_state(rng, random.Random(int(rng.integers(2**31))))
        photo, *maps = self.source.read(index % len(self.source))
        drawn: Mapping[str, Any] = self.augmentation(image=photo, masks=[ids for ids in maps if ids is not None])
        sample = make_sample(Scene(drawn["image"], *drawn["masks"]), self.classes, rng.integers(0, FIELD, 2))
        return sample | {"draw": training_key(self.seed, epoch, index)}


class WholeScenes(Dataset[Sample]):
    """Scenes for evaluation, one after the other, read at the noise field's (0, 0).

    Args:
        source: the scenes.
        classes: of the label files.
    """

    def __init__(self, source: SceneSource, classes: Classes) -> None:
        self.source, self.classes = source, classes

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        """Return scene ``index``."""
        sample = make_sample(self.source.read(index), self.classes, np.zeros(2, dtype=np.int64))
        name = self.source.name(index)
        return sample | {"set": "photo", "name": name, "draw": evaluation_key(name)}


class LabelledData(TrainingData):
    """Base of data with label maps; a subclass finds the scenes in :meth:`find`.

    Args:
        num_classes: C, of the ids in label files.
        void_id: id of pixels without a class; it gets an input plane of its own and is never scored.
        edges: the borders of instances are a further input plane.
        class_map: the scored class of each class, None for those that are not scored; None: all.
        class_names: of the scored classes; None: their numbers.
        palette: colours of the classes, ``[C, 3]`` from 0 to 255; None for drawn ones.
        size: (height, width) of what is trained on and judged, pixels.
        load_size: what training scenes are resized to before they are cropped to ``size``; None for the same.
        flip: training scenes from left to right, every other time.
        batch_size: samples per step and process.
        num_workers: loader processes.
        samples_per_epoch: samples in an epoch; None: one per scene.
        val_images: at most so many scenes are validated on, spread evenly; None for all.
        test_images: at most so many are judged, likewise.
        cache_mb: megabytes of scenes that are kept in memory.
        seed: of order, crops and flips.

    Attributes:
        channels: planes of the label map: classes, void, edges.
        void: whether there is void.
        scored_classes: K.
        palette: colours of the classes and, last, of void, ``[C + 1, 3]`` uint8.
        train_pairs: the scenes trained on, at ``load_size``.
        evaluation_pairs: those of ``val`` and ``test``, at ``size``.

    Raises:
        UserError: values that do not fit.
    """

    def __init__(
        self,
        num_classes: int | None,
        void_id: int | None = None,
        edges: bool = False,
        class_map: Sequence[int | None] | None = None,
        class_names: Sequence[str] | None = None,
        palette: Sequence[Sequence[int]] | None = None,
        size: Sequence[int] = (256, 256),
        load_size: Sequence[int] | None = None,
        flip: bool = True,
        batch_size: int = 1,
        num_workers: int = 0,
        samples_per_epoch: int | None = None,
        val_images: int | None = 16,
        test_images: int | None = None,
        cache_mb: float = CACHE_MB,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, samples_per_epoch, seed)
        self.classes = Classes(num_classes, void_id, class_map, class_names)
        self.num_classes, self.void, self.edges = self.classes.number, void_id is not None, edges
        self.channels = self.num_classes + self.void + self.edges
        self.scored_classes, self.class_names = self.classes.scored, self.classes.names
        self.class_map = None if class_map is None else list(class_map)
        self.palette = make_palette(self.num_classes, palette)
        self.size = check_size("data.size", size)
        self.load_size = self.size if load_size is None else check_size("data.load_size", load_size, self.size)
        self.flip, self.limits = flip, {"val": val_images, "test": test_images}
        self.cache = DecodeCache(cache_mb, num_workers)
        self.train_pairs: SceneSource
        self.evaluation_pairs: dict[str, SceneSource]

    def find(self) -> dict[str, list[LazyScene]]:
        """Find and check the scenes of ``train``, ``val`` and ``test``.

        Raises:
            UserError: anything that cannot be used.
        """
        raise NotImplementedError

    def setup_images(self) -> None:
        """Find and check the scenes."""
        found = self.find()
        self.train_pairs = Scenes(found["train"], self.load_size, self.cache)
        self.evaluation_pairs = {
            stage: Scenes(spread(found[stage], limit), self.size, self.cache) for stage, limit in self.limits.items()
        }

    def training_images(self) -> int:
        """Return the number of scenes to train on."""
        return len(self.train_pairs)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return batches of scenes, cropped and flipped."""
        length = self._epoch_length()
        scenes = TrainingScenes(self.train_pairs, self.classes, self.size, self.flip, length, self.seed)
        return self._training_loader(scenes)

    def val_dataloader(self) -> list[DataLoader[Sample]]:
        """Return one loader of single scenes."""
        return [self._loader(WholeScenes(self.evaluation_pairs["val"], self.classes), 1)]

    def test_dataloader(self) -> list[DataLoader[Sample]]:
        """Return one loader of single scenes."""
        return [self._loader(WholeScenes(self.evaluation_pairs["test"], self.classes), 1)]


def check_size(key: str, value: Sequence[int], least: Size = (1, 1)) -> Size:
    """Return a size as (height, width).

    Args:
        key: of the config.
        value: its value.
        least: the smallest possible size; above (1, 1) it is ``data.size``.

    Raises:
        UserError: not two whole numbers above 0, or smaller than ``least``.
    """
    sides = list(value) if isinstance(value, Sequence) else [value]
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise UserError(f"{key}={value} is no size; write [HEIGHT,WIDTH] in pixels, such as [256,256]")
    if sides[0] < least[0] or sides[1] < least[1]:
        raise UserError(
            f"{key}={sides} is smaller than data.size={list(least)}, which is cropped from it; raise it, or set "
            f"{key}=null"
        )
    return sides[0], sides[1]
