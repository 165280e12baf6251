"""Trained networks as files: safetensors of the backbone's tensors, and how to rebuild it, in the metadata.

The metadata (texts) are ``format_version``, ``task`` (``dithering``, ``halftoning``, ...), ``backbone``, ``nib``
and ``refinement`` (config groups as JSON) and ``about`` (one line). Weights that come with nibkit lie in this folder
as ``NAME.safetensors``, each with its model card ``NAME.md``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nibkit.errors import UserError, suggestion
from nibkit.files import whole_file

if TYPE_CHECKING:  # torch is imported where it is used, so that the names of the weights can be told at once
    from torch import Tensor

    from nibkit.backbones import Backbone

FOLDER = Path(__file__).parent
SUFFIX = ".safetensors"
FORMAT_VERSION = "1"


@dataclass(frozen=True)
class Weights:
    """A trained network in plain values: what :func:`nibkit.registry.build_backbone` takes, and the tensors.

    ``refinement`` holds the arguments of :class:`nibkit.refine.Refinement` that its halftones are meant for; empty
    for none.
    """

    task: str
    backbone: dict[str, Any]
    nib: dict[str, Any]
    state: dict[str, Tensor]
    about: str = ""
    refinement: dict[str, Any] = field(default_factory=dict)


def shipped() -> list[str]:
    """Return the names of the weights that come with nibkit, sorted."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def load_weights(name_or_path: str, task: str | None = None) -> Backbone:
    """Return the trained network, float32, in eval mode.

    Args:
        name_or_path: a name of :func:`shipped`, a ``.safetensors`` file or a training checkpoint (``.ckpt``).
        task: that the network must have been trained for; None for any.

    Raises:
        UserError: unknown name, missing or broken file, another task, unknown backbone.
    """
    weights = read_weights(name_or_path)
    check_weights_task(weights, (weights.task if task is None else task,), name_or_path)
    return build_network(weights, name_or_path)


def check_weights_task(weights: Weights, tasks: Sequence[str], name: str) -> None:
    """Raise :class:`UserError` if the ``weights`` called ``name`` are of none of the ``tasks``."""
    if weights.task not in tasks:
        wanted = "' or '".join(tasks)
        raise UserError(f"weights '{name}' are of task '{weights.task}', but weights of '{wanted}' are needed here")


def read_weights(name_or_path: str) -> Weights:
    """Return the stored network without building it; arguments and errors as of :func:`load_weights`."""
    path = Path(name_or_path)
    if path.suffix == ".ckpt":
        return _read_checkpoint(path)
    if path.suffix == SUFFIX:
        return _read_file(path)
    names = shipped()
    if name_or_path not in names:
        listed = f"{', '.join(names)}, or " if names else ""
        near = suggestion(name_or_path, names)
        raise UserError(
            f"unknown weights '{name_or_path}'{near}; choose from: {listed}a path to a {SUFFIX} or .ckpt file"
        )
    return _read_file(FOLDER / f"{name_or_path}{SUFFIX}")


def build_network(weights: Weights, name: str | Path = "") -> Backbone:
    """Return the network of stored ``weights``, float32, in eval mode; ``name`` is what an error calls them.

    Raises:
        UserError: a backbone that is not registered, or tensors that do not fit it.
    """
    from nibkit.registry import build_backbone

    try:
        network = build_backbone(weights.backbone, weights.nib)
        network.load_state_dict({key: tensor.float() for key, tensor in weights.state.items()})
    except UserError as error:
        raise UserError(f"weights '{name}' cannot be used: {error}") from error
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"weights '{name}' are broken: their tensors do not fit their backbone") from error
    return network.eval()


def save_weights(
    path: str | Path,
    backbone_config: Mapping[str, Any],
    nib_config: Mapping[str, Any],
    state_dict: Mapping[str, Tensor],
    *,
    task: str,
    about: str = "",
    half: bool = False,
    refinement: Mapping[str, Any] | None = None,
) -> None:
    """Write a trained network to ``path``, whole or not at all.

    Args:
        path: of the file, ``.safetensors``.
        backbone_config: the config group: ``name`` and the arguments of its class.
        nib_config: the config group ``nib``.
        state_dict: of the backbone alone, without a prefix.
        task: what it was trained for: ``dithering``, ``halftoning``, ...
        about: one line for people.
        half: store half-precision numbers; they are loaded as float32.
        refinement: see :class:`Weights`.

    Raises:
        UserError: the file cannot be written.
    """
    import torch
    from safetensors.torch import save

    tensors = {key: (t.half() if half else t).detach().cpu().contiguous() for key, t in state_dict.items()}
    groups = {"backbone": json.dumps(dict(backbone_config)), "nib": json.dumps(dict(nib_config))}
    groups["refinement"] = json.dumps(dict(refinement or {}))
    metadata = {"format_version": FORMAT_VERSION, "task": task, **groups, "about": " ".join(about.split())}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise UserError(f"cannot write '{path}': the network has values that are not finite" + " in half" * half)
    with whole_file(Path(path)) as partial:
        partial.write_bytes(save(tensors, metadata))


def _read_file(path: Path) -> Weights:
    """Read a safetensors file."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"weights '{path}' do not exist; give a {SUFFIX} or .ckpt file, or a name of shipped weights")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (no mapping)
    except SafetensorError as error:
        raise UserError(f"weights '{path}' are truncated or no safetensors file") from error
    except OSError as error:
        raise UserError(f"weights '{path}' cannot be read: {error.strerror or error}") from error
    return _parse(path, metadata, state)


def _parse(path: Path, metadata: Mapping[str, str], state: dict[str, Tensor]) -> Weights:
    """Make sense of a file's metadata."""
    version = metadata.get("format_version")
    if version is None:
        raise UserError(f"weights '{path}' are no weights of nibkit: they do not say their network and task")
    if version != FORMAT_VERSION:
        raise UserError(f"weights '{path}' have format {version}, this nibkit reads {FORMAT_VERSION}; update nibkit")
    try:
        groups = {key: dict(json.loads(metadata[key])) for key in ("backbone", "nib")}
        refinement = dict(json.loads(metadata.get("refinement", "{}")))
        about = metadata.get("about", "")
        return Weights(metadata["task"], **groups, state=state, about=about, refinement=refinement)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"weights '{path}' are broken: their metadata do not name a network and a task") from error


def _read_checkpoint(path: Path) -> Weights:
    """Read the network out of a training checkpoint."""
    from nibkit.checkpoint import read_checkpoint, use_average

    checkpoint = read_checkpoint(path, "checkpoint ")
    settings = checkpoint["hyper_parameters"]
    use_average(checkpoint)
    state = {k.removeprefix("backbone."): v for k, v in checkpoint["state_dict"].items() if k.startswith("backbone.")}
    if not state or not {"backbone", "nib"} <= settings.keys():
        raise UserError(f"checkpoint '{path}' holds no network of nibkit")
    task = _plain_name(checkpoint.get("nibkit_task", "unknown"))
    return Weights(task, dict(settings["backbone"]), dict(settings["nib"]), state)


def _plain_name(task: str) -> str:
    """Return ``deep_dithering`` for the class ``any.module.DeepDitheringTask``."""
    name = task.rpartition(".")[2].removesuffix("Task")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
