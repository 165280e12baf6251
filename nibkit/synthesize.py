"""Photographs from label maps: files of class numbers, by the generator of a semantic synthesis run.

generator = load_generator("RUN_DIR/checkpoints/best.ckpt")
synthesize_file(Path("street.png"), Path("photo.png"), generator)

The whole map goes through the network at once: its answer anywhere may depend on labels everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from nibkit.backbones.base import Backbone
from nibkit.checkpoint import read_checkpoint
from nibkit.data.images import save_png
from nibkit.data.label_classes import Classes
from nibkit.data.label_files import read_ids
from nibkit.data.label_layouts import NO_CLASS
from nibkit.data.labelled import instance_edges
from nibkit.data.scenes import Ids, Size, resize_ids
from nibkit.draws import drawn_for
from nibkit.errors import UserError
from nibkit.labels import condition
from nibkit.tiles import Progress, noise_shift
from nibkit.weights import build_network, check_weights_task, read_weights

TASK = "semantic_synthesis"
WANTED = f"RUN_DIR/checkpoints/best.ckpt of a run of task={TASK}"
LABELS, INSTANCES = "_labelIds", "_instanceIds"  # in Cityscapes' names


@dataclass(frozen=True)
class Generator:
    """A network that makes photographs of label maps, the classes it knows, and whether it reads instances' edges."""

    network: Backbone
    classes: Classes
    edges: bool


def load_generator(checkpoint: str) -> Generator:
    """Return the generator of a checkpoint, with its averaged weights if there are any, in eval mode.

    Args:
        checkpoint: file of a training run; the classes of its data lie in it.

    Raises:
        UserError: missing, broken, of another task, or without classes that fit its network.
    """
    if Path(checkpoint).suffix != ".ckpt":
        raise UserError(f"'{checkpoint}' is no training checkpoint, which alone knows its classes; give {WANTED}")
    weights = read_weights(checkpoint)
    check_weights_task(weights, (TASK,), checkpoint)
    network = build_network(weights, checkpoint).to(memory_format=torch.channels_last)
    stored = read_checkpoint(checkpoint)["hyper_parameters"].get("classes") or {}
    number, void_id, edges = stored.get("number"), stored.get("void_id"), bool(stored.get("edges"))
    if number is None:
        raise UserError(f"checkpoint '{checkpoint}' does not say what its classes are; give {WANTED}")
    planes = number + (void_id is not None) + edges
    if (planes, 3) != (network.in_channels, network.out_channels):
        raise UserError(
            f"checkpoint '{checkpoint}' has {planes} planes of labels and 3 colours, but its network takes "
            f"{network.in_channels} and gives {network.out_channels}; give {WANTED}"
        )
    return Generator(network, Classes(number, void_id), edges)


def synthesize_file(
    source: Path,
    target: Path,
    generator: Generator,
    *,
    instances: Path | None = None,
    size: Size | None = None,
    first: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[int, int]:
    """Write a photograph of a label map as RGB PNG, whole or not at all; return its (width, height).

    Args:
        source: the label map; see :func:`nibkit.data.label_files.read_ids`.
        target: the PNG, 8-bit RGB.
        generator: of :func:`load_generator`.
        instances: map of instances of the same size; for a generator that reads their edges, and only for it.
        size: (height, width) that the labels are resized to first; None: as they are.
        first: the file's id of class 0; void is counted from there, too.
        seed: of all that is random; see :func:`photograph`.
        progress: called with (done, all) at the end.

    Raises:
        UserError: labels that cannot be read, are too small or have ids of no class, instances missing or
            superfluous, or a PNG that cannot be written.
    """
    _check_wanted(source, instances, generator)
    maps = _read_maps(source, instances, generator.classes, first)
    ids, *others = maps if size is None else [resize_ids(each, size) for each in maps]
    try:
        image = photograph(generator, ids, others[0] if others else None, crc32(source.stem.encode(), seed), seed)
    except ValueError as error:  # of a normalisation that has a single value
        raise UserError(
            f"'{source}' of {ids.shape[0]}x{ids.shape[1]} pixels is too small for this generator ({error}); give a "
            "larger --size"
        ) from error
    save_png(image, target)
    if progress:
        progress(1, 1)
    return image.shape[-1], image.shape[-2]


@torch.inference_mode()
def photograph(generator: Generator, ids: Ids, instances: Ids | None = None, draw: int = 0, shift: int = 0) -> Tensor:
    """Return a photograph ``[3, H, W]`` in [-1, 1] of a label map of any size.

    Args:
        generator: of :func:`load_generator`.
        ids: of the classes, ``[H, W]``, void as in the label files it was trained on.
        instances: ids of instances ``[H, W]``, where the generator reads their edges.
        draw: seed of dropout and of noise that is drawn anew for each image.
        shift: moves the noise field; 0 leaves it.
    """
    label = torch.from_numpy(generator.classes.of_id[ids])[None]
    edges = None if instances is None else torch.from_numpy(instance_edges(instances))[None, None]
    network = generator.network
    origin = torch.tensor([noise_shift(shift, network.multiple)])
    with drawn_for({"draw": torch.tensor([draw])}):
        answer: Tensor = network(condition(label, network.in_channels, edges), origin)
    return answer[0].float().clamp(-1, 1)


def instances_of(source: Path, root: Path, folder: Path) -> Path:
    """Return the map of instances below ``folder`` that belongs to the label map ``source`` below ``root``.

    It has the same name; Cityscapes' ``NAME_labelIds.png`` has ``NAME_instanceIds.png``.
    """
    name = source.name.replace(f"{LABELS}.", f"{INSTANCES}.")
    return folder / source.relative_to(root).with_name(name)


def _check_wanted(source: Path, instances: Path | None, generator: Generator) -> None:
    """Raise unless there are instances exactly where the generator reads them."""
    if instances is None and generator.edges:
        raise UserError(f"'{source}': this checkpoint reads the edges of instances; give their maps by --instances")
    if instances is not None and not generator.edges:
        raise UserError("--instances is for checkpoints trained with data.edges=true; leave it out")
    if instances is not None and not instances.is_file():
        raise UserError(f"'{source}' has no map of instances '{instances}'; --instances needs one for each label map")
    if instances is not None and instances.resolve() == source.resolve():
        raise UserError(f"'{source}' cannot be its own map of instances; give another folder by --instances")


def _read_maps(source: Path, instances: Path | None, classes: Classes, first: int) -> list[Ids]:
    """Return the ids ``[H, W]`` of a label file, from 0 and checked, and those of its instances if there are any."""
    ids = read_ids(source)
    if source.stem.endswith(LABELS) and classes.void_id is None:
        ids[np.isin(ids, NO_CLASS)] = first  # as in training
    ids = ids - first
    strange = classes.strange(ids)
    if strange is not None:
        void = "there is no void" if classes.void_id is None else f"void is {classes.void_id + first}"
        raise UserError(
            f"label file '{source}' has the id {strange + first}, but the checkpoint's classes are {first} to "
            f"{classes.number - 1 + first} and {void}; give labels of the data it was trained on, numbered as there "
            "(--first-id)"
        )
    if instances is None:
        return [ids]
    others = read_ids(instances)
    if others.shape != ids.shape:
        height, width = others.shape
        raise UserError(
            f"'{instances}' has {height}x{width} pixels, its label map '{source}' {ids.shape[0]}x{ids.shape[1]}; "
            "they must be of one size"
        )
    return [ids, others]
