"""Photographs with label maps: what semantic synthesis and segmentation learn from.

A sample is a dictionary:

    image   [3, H, W] float32 in [-1, 1], the photograph
    label   [H, W] int64, class ids 0 to C-1; C is void, where the data have it
    target  [H, W] int64, the scored class 0 to K-1, or IGNORE: void, and classes that are not scored
    edges   [1, H, W] float32, 0 or 1, the borders of instances; only where the data have them
    origin  [2] int64, absolute (y, x) of the sample in the noise field
    set     name of the evaluation set, "photo"; evaluation only
    name    name of the image; evaluation only
"""

from __future__ import annotations

import colorsys
import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from nibkit.data.images import Pixels, to_tensor
from nibkit.data.module import TrainingData
from nibkit.data.sets import FIELD, Sample
from nibkit.errors import UserError
from nibkit.labels import IGNORE

Ids = NDArray[np.int32]
Size = tuple[int, int]  # height and width, pixels


class Scene(NamedTuple):
    """A photograph ``[H, W, 3]`` in [0, 1], its label ids ``[H, W]`` as in the file, and its instances' or None."""

    photo: Pixels
    ids: Ids
    instances: Ids | None = None


class SceneSource(Protocol):
    """Scenes that can be read one by one, all of one size."""

    def __len__(self) -> int:
        """Return the number of scenes."""
        ...

    def name(self, index: int) -> str:
        """Return a name for messages and files."""
        ...

    def read(self, index: int) -> Scene:
        """Return scene ``index``."""
        ...


class Classes:
    """The classes of label files, and what they are to a network and to a score.

    Args:
        number: C; ids 0 to C-1 are classes.
        void_id: of pixels without a class; None where there are none.
        class_map: the scored class of each class, None for those that are not scored; None: all, as they are.
        names: of the scored classes; None: their numbers.

    Raises:
        UserError: numbers or lengths that do not fit.
    """

    def __init__(
        self,
        number: int | None,
        void_id: int | None = None,
        class_map: Sequence[int | None] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        if number is None:
            raise UserError("data.num_classes is not set; give the number of classes in the label files")
        if void_id is not None and void_id < number:
            raise UserError(
                f"data.void_id={void_id} is one of the classes 0 to {number - 1}; give the classes numbers from 0 on "
                "and void one beyond them"
            )
        if class_map is not None and len(class_map) != number:
            raise UserError(f"data.class_map has {len(class_map)} entries for data.num_classes={number}; give one each")
        self.number, self.void_id = number, void_id
        scored = list(range(number)) if class_map is None else list(class_map)
        self.scored = 1 + max((s for s in scored if s is not None), default=-1)
        if sorted({s for s in scored if s is not None}) != list(range(self.scored)) or not self.scored:
            raise UserError("data.class_map must lead to scored classes 0, 1, 2, ... without a gap, or null")
        self.names = [str(s) for s in range(self.scored)] if names is None else list(names)
        if len(self.names) != self.scored:
            raise UserError(f"data.class_names has {len(self.names)} names for {self.scored} scored classes")
        self.classes = np.full(256, -1, dtype=np.int64)  # by id in the file
        self.classes[:number] = range(number)
        if void_id is not None:
            self.classes[void_id] = number
        targets = [IGNORE if s is None else s for s in scored]
        self.targets = np.array([*targets, IGNORE], dtype=np.int64)  # by class

    def wrong(self, ids: Ids) -> int | None:
        """Return an id that is none of the classes, or None."""
        values = np.unique(ids)
        inside = (values >= 0) & (values < len(self.classes))
        inside[inside] = self.classes[values[inside]] >= 0
        return None if inside.all() else int(values[~inside][0])


def instance_edges(instances: Ids) -> NDArray[np.float32]:
    """Return 1 where a pixel's neighbour above, below, left or right is of another instance, ``[H, W]``."""
    edges = np.zeros(instances.shape, dtype=np.float32)
    beside, below = instances[:, 1:] != instances[:, :-1], instances[1:] != instances[:-1]
    for differs, one, other in (
        (beside, edges[:, 1:], edges[:, :-1]),
        (below, edges[1:], edges[:-1]),
    ):
        one[differs] = other[differs] = 1
    return edges


def make_sample(scene: Scene, classes: Classes, origin: NDArray[np.int64]) -> Sample:
    """Return the sample of a scene; see above."""
    label = classes.classes[scene.ids]
    sample: Sample = {
        "image": to_tensor(scene.photo),
        "label": torch.from_numpy(label),
        "target": torch.from_numpy(classes.targets[label]),
        "origin": torch.from_numpy(origin),
    }
    if scene.instances is not None:
        sample["edges"] = torch.from_numpy(instance_edges(scene.instances))[None]
    return sample


class TrainingScenes(Dataset[Sample]):
    """Scenes cropped and flipped at random; each sample is a pure function of (seed, epoch, index).

    Args:
        source: the scenes; sample i is of scene i modulo their number.
        classes: of the label files.
        size: of the crops.
        flip: from left to right, every other time.
        length: samples in an epoch.
        seed: of the run.
    """

    def __init__(
        self, source: SceneSource, classes: Classes, size: Size, flip: bool, length: int, seed: int
    ) -> None:
        import albumentations as A

        self.source, self.classes, self.length, self.seed = source, classes, length, seed
        transforms = [A.RandomCrop(*size), *([A.HorizontalFlip(p=0.5)] if flip else [])]
        self.augmentation = A.Compose(transforms)

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
        scene = Scene(drawn["image"], *drawn["masks"])
        return make_sample(scene, self.classes, rng.integers(0, FIELD, 2))


class WholeScenes(Dataset[Sample]):
    """Scenes for evaluation, one after the other, read at the noise field's (0, 0).

    Args:
        source: the scenes.
        classes: of the label files.
        limit: at most so many, spread evenly over all; None for all.
    """

    def __init__(self, source: SceneSource, classes: Classes, limit: int | None = None) -> None:
        count = len(source) if limit is None else min(limit, len(source))
        self.source, self.classes = source, classes
        self.indices = [number * len(source) // count for number in range(count)]

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.indices)

    def __getitem__(self, number: int) -> Sample:
        """Return scene ``number``."""
        index = self.indices[number]
        sample = make_sample(self.source.read(index), self.classes, np.zeros(2, dtype=np.int64))
        return sample | {"set": "photo", "name": self.source.name(index)}


class LabelledData(TrainingData):
    """Base of data with label maps; a subclass finds the scenes in :meth:`find`.

    Args:
        num_classes: C, of the ids in label files.
        void_id: id of pixels without a class; it gets an input plane of its own and is never scored.
        edges: the borders of instances are a further input plane.
        class_map: the scored class of each class, None for those that are not scored; None: all.
        class_names: of the scored classes.
        palette: colours of the classes, ``[C, 3]`` from 0 to 255; None for drawn ones.
        size: (height, width) of what is trained on and judged, pixels.
        load_size: what training scenes are resized to before they are cropped to ``size``; None for the same.
        flip: training scenes from left to right, every other time.
        batch_size: samples per step and process.
        num_workers: loader processes.
        samples_per_epoch: samples in an epoch; None: one per scene.
        val_images: at most so many scenes are validated on, spread evenly.
        test_images: at most so many are judged; None for all.
        seed: of order, crops and flips.

    Attributes:
        num_classes: C.
        void: whether there is void.
        edges: whether there are edges.
        channels: planes of the label map: classes, void, edges.
        scored_classes: K.
        class_names: of the scored classes.
        palette: colours of the classes and of void, ``[C + 1, 3]`` uint8.
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
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, samples_per_epoch, seed)
        self.classes = Classes(num_classes, void_id, class_map, class_names)
        self.num_classes, self.void, self.edges = self.classes.number, void_id is not None, edges
        self.channels = self.num_classes + self.void + edges
        self.scored_classes, self.class_names = self.classes.scored, self.classes.names
        self.class_map = None if class_map is None else list(class_map)
        self.palette = make_palette(self.num_classes, palette)
        self.size: Size = (int(size[0]), int(size[1]))
        self.load_size: Size = self.size if load_size is None else (int(load_size[0]), int(load_size[1]))
        if any(load < side for load, side in zip(self.load_size, self.size, strict=True)):
            raise UserError(
                f"data.load_size={list(self.load_size)} is smaller than data.size={list(self.size)}, which is cropped "
                "from it; raise it, or set data.load_size=null"
            )
        self.flip, self.val_images, self.test_images = flip, val_images, test_images
        self.train_pairs: SceneSource
        self.evaluation_pairs: dict[str, SceneSource]

    def find(self) -> dict[str, SceneSource]:
        """Find and check the scenes of ``train`` (at :attr:`load_size`), ``val`` and ``test`` (at :attr:`size`).

        Raises:
            UserError: anything that cannot be used.
        """
        raise NotImplementedError

    def setup_images(self) -> None:
        """Find and check the scenes."""
        found = self.find()
        self.train_pairs = found.pop("train")
        self.evaluation_pairs = found

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
        return [self._loader(WholeScenes(self.evaluation_pairs["val"], self.classes, self.val_images), 1)]

    def test_dataloader(self) -> list[DataLoader[Sample]]:
        """Return one loader of single scenes."""
        return [self._loader(WholeScenes(self.evaluation_pairs["test"], self.classes, self.test_images), 1)]


def make_palette(number: int, colours: Sequence[Sequence[int]] | None) -> NDArray[np.uint8]:
    """Return colours of classes and of void (black), ``[number + 1, 3]``; hues by the golden ratio where none are given.

    Raises:
        UserError: not one colour for each class.
    """
    if colours is None:
        hues = [colorsys.hsv_to_rgb(n * 0.61803 % 1, 0.45 + 0.25 * (n % 3), 0.95 - 0.2 * (n % 2)) for n in range(number)]
        colours = [[round(255 * part) for part in hue] for hue in hues]
    if len(colours) != number or any(len(colour) != 3 for colour in colours):
        raise UserError(f"data.palette has {len(colours)} colours for {number} classes; give [red, green, blue] for each")
    return np.array([*colours, [0, 0, 0]], dtype=np.uint8)
