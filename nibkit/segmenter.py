"""Segmenters for scoring: any network that names the classes of a photograph's pixels.

    segmenter = load_segmenter({"source": "best.ckpt"}, data.class_names, data.size)
    ids = segmenter(images)     # [B, 3, H, W] in [-1, 1]  ->  [B, H, W]

A source is a checkpoint of ``task=segmentation`` (``.ckpt``), a TorchScript file, or ``package.module:factory``, a
function without arguments that returns a module. The last two answer ``[B, classes, h, w]`` logits, or a tuple that
begins with them, or a dictionary that has them as ``out`` or ``logits``. All is checked when it is loaded.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nibkit.checkpoint import read_checkpoint
from nibkit.errors import UserError, choose
from nibkit.weights import build_network, check_weights_task, read_weights

SECTION = "metrics.segmenter"
OPTIONS = ("source", "size", "normalization", "class_map")
NORMALIZATIONS = {  # mean and deviation by channel, of images in [0, 1]
    "symmetric": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


class Segmenter(nn.Module):
    """Classes of pixels, by a network that may want other sizes, ranges and classes than the data have.

    Args:
        network: gives logits.
        class_map: the data's scored class of each of the network's classes; None for those never to be named.
        size: (height, width) that the network wants; None for the images' own.
        normalization: a name of :data:`NORMALIZATIONS`: what the network reads.
    """

    chosen: Tensor
    scored: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        network: nn.Module,
        class_map: Sequence[int | None],
        size: Sequence[int] | None = None,
        normalization: str = "symmetric",
    ) -> None:
        super().__init__()
        self.network = network
        self.size = None if size is None else (int(size[0]), int(size[1]))
        pairs = [(own, scored) for own, scored in enumerate(class_map) if scored is not None]
        for name, values in zip(("chosen", "scored"), zip(*pairs, strict=True), strict=True):
            self.register_buffer(name, torch.tensor(values))
        for name, values in zip(("mean", "deviation"), NORMALIZATIONS[normalization], strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None])
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return scored classes ``[B, H, W]``, int64, of images ``[B, 3, H, W]`` in [-1, 1].

        Images are enlarged to the network's size, its logits brought back to theirs. Where several of its classes
        are one of the data, the likeliest single one decides.
        """
        logits = _logits(self.network(self.prepared(images))).float()[:, self.chosen]
        if logits.shape[-2:] != images.shape[-2:]:
            logits = F.interpolate(logits, size=images.shape[-2:], mode="bilinear", antialias=True)
        return self.scored[logits.argmax(dim=1)]

    def prepared(self, images: Tensor) -> Tensor:
        """Return images as the network reads them: its size (bicubic) and its range."""
        images = images.float()
        if self.size not in (None, tuple(images.shape[-2:])):
            images = F.interpolate(images, size=self.size, mode="bicubic", antialias=True).clamp(-1, 1)
        return ((images + 1) / 2 - self.mean) / self.deviation


def load_segmenter(spec: Mapping[str, Any], class_names: Sequence[str], image_size: Sequence[int]) -> Segmenter:
    """Return a segmenter of the data's scored classes, in eval mode, tried on one image.

    Args:
        spec: the config section ``metrics.segmenter``: ``source``, and where wanted ``size`` ``[height, width]``,
            ``normalization`` and ``class_map``, see :class:`Segmenter`.
        class_names: of the data's scored classes, by id.
        image_size: (height, width) of the images to be judged.

    Raises:
        UserError: an unknown option; a source that is missing, unreadable or no segmenter; classes that are not the
            data's.
    """
    for key in spec:
        choose(f"option of {SECTION}", key, OPTIONS)
    normalization = choose(f"{SECTION}.normalization", spec.get("normalization") or "symmetric", NORMALIZATIONS)
    source, size, class_map = str(spec["source"]), spec.get("size"), spec.get("class_map")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise UserError(f"{SECTION}.size={list(size)} is no size; write [HEIGHT,WIDTH] in pixels, or null")
    network, names = _network(source)
    own = _try(network, source, size or image_size)
    if class_map is None:
        _check_same_classes(own, names, class_names, source)
        class_map = range(own)
    else:
        _check_class_map(list(class_map), own, class_names, source)
    return Segmenter(network, class_map, size, normalization)


def _network(source: str) -> tuple[nn.Module, list[str] | None]:
    """Return the network of a source, and the names of its classes where it knows them."""
    if source.endswith(".ckpt"):
        return _from_checkpoint(source)
    module, colon, factory = source.partition(":")
    if colon and all(part.isidentifier() for part in (*module.split("."), factory)):
        return _from_factory(module, factory), None
    return _from_torchscript(source), None


def _from_checkpoint(path: str) -> tuple[nn.Module, list[str] | None]:
    try:
        weights = read_weights(path)
        check_weights_task(weights, ("segmentation",), path)
        network = build_network(weights, path)
    except UserError as error:
        raise UserError(f"{SECTION}.source: {error}") from error
    return network, read_checkpoint(path)["hyper_parameters"].get("class_names")


def _from_torchscript(path: str) -> nn.Module:
    if not Path(path).is_file():
        raise _wrong(path, "does not exist; give a .ckpt of task=segmentation, a TorchScript file, or module:factory")
    try:
        with Path(path).open("rb") as file:
            network: nn.Module = torch.jit.load(file, map_location="cpu")  # type: ignore[no-untyped-call]
    except PermissionError as error:
        raise _wrong(path, f"cannot be read: {error.strerror}") from error
    except (RuntimeError, ValueError, OSError) as error:
        raise _wrong(path, "is truncated or no TorchScript file; write one with torch.jit.save") from error
    return network


def _from_factory(module: str, factory: str) -> nn.Module:
    source = f"{module}:{factory}"
    try:
        make = getattr(importlib.import_module(module), factory)
    except ModuleNotFoundError as error:
        reason = f"needs a module named '{error.name}', which is not there; install it, or start with: python -m nibkit"
        raise _wrong(source, reason) from error
    except AttributeError as error:
        raise _wrong(source, f"is not there: {error}") from error
    try:
        network = make()
    except Exception as error:  # it is the user's code
        raise _wrong(source, f"failed with {type(error).__name__}: {_one_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise _wrong(source, f"returned {type(network).__name__}; it must return a torch.nn.Module")
    return network.float().cpu()


def _try(network: nn.Module, source: str, size: Sequence[int]) -> int:
    """Return the number of the network's classes, from its answer to an image of ``size``."""
    image = torch.zeros(1, 3, *size)
    where = f"of {size[0]}x{size[1]} pixels"
    try:
        with torch.no_grad():
            logits = _logits(network.eval()(image))
    except Exception as error:  # it may be the user's code
        reason = f"fails on an image {where}: {_one_line(error)}; set {SECTION}.size to what it wants"
        raise _wrong(source, reason) from error
    if not isinstance(logits, Tensor) or logits.ndim != 4 or len(logits) != 1 or not logits.is_floating_point():
        found = f"{logits.dtype} of shape {list(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise _wrong(source, f"is no segmenter: it answers {found} to an image {where}, not logits [1, classes, h, w]")
    return logits.shape[1]


def _logits(answer: Any) -> Any:
    """Return the logits in a network's answer, in the forms in which networks give them."""
    if isinstance(answer, Mapping):
        return answer["out"] if "out" in answer else answer.get("logits")
    return answer[0] if isinstance(answer, tuple | list) else answer


def _check_same_classes(own: int, names: Sequence[str] | None, wanted: Sequence[str], source: str) -> None:
    if own != len(wanted):
        fix = f"list in {SECTION}.class_map, for each of its classes, the data's class (from 0) or null"
        raise _wrong(source, f"names {own} classes, but the data have {len(wanted)} scored ones; {fix}")
    for number, (its, ours) in enumerate(zip(names or wanted, wanted, strict=True)):
        if its != ours:
            reason = f"calls class {number} '{its}', which is '{ours}' in the data; set {SECTION}.class_map"
            raise _wrong(source, f"{reason}, or use a segmenter trained on these data")


def _check_class_map(class_map: list[Any], own: int, wanted: Sequence[str], source: str) -> None:
    if len(class_map) != own:
        reason = f"names {own} classes, but {SECTION}.class_map has {len(class_map)} entries; give one per class"
        raise _wrong(source, reason)
    for entry in class_map:
        if entry is not None and (type(entry) is not int or not 0 <= entry < len(wanted)):
            raise UserError(f"{SECTION}.class_map has {entry!r}; give classes from 0 to {len(wanted) - 1}, or null")
    for number, name in enumerate(wanted):
        if number not in class_map:
            raise UserError(f"{SECTION}.class_map leads to no class {number} ('{name}'), which the data score; add it")


def _wrong(source: str, reason: str) -> UserError:
    return UserError(f"{SECTION}.source='{source}' {reason}")


def _one_line(error: Exception) -> str:
    """Return the last line of an error: that of a TorchScript says what is wrong, those before it where."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
