"""Checkpoints: written whole or not at all, and checked before they are used."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from nibkit.errors import UserError
from nibkit.files import whole_file

log = logging.getLogger(__name__)

FORMAT = 1  # of checkpoints; raised when an older nibkit could not read a new one
AVERAGE = "nibkit_ema"  # where a checkpoint holds the moving average of its backbone's weights, if it has one


class BrokenCheckpoint(UserError):  # noqa: N818 (it is told as an error of the user's)
    """A file that is no whole checkpoint."""


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes beside the previous checkpoint and takes its place at the end: a full disk leaves it whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path``.

        Raises:
            UserError: it cannot be written (no space left, say); the previous file stays whole.
        """
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            with whole_file(Path(path), durable=True) as partial:
                partial.write_bytes(buffer.getbuffer())
        except UserError as error:
            raise UserError(
                f"{error}; the previous checkpoint, if any, is whole: make room and resume with ckpt_path=CHECKPOINT"
            ) from error


def read_checkpoint(path: str | Path, what: str = "ckpt_path=") -> dict[str, Any]:
    """Read a checkpoint of plain values and tensors; ``what`` stands before the path in a message.

    Raises:
        UserError: missing, truncated, or no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{what}'{path}' does not exist; checkpoints lie in RUN_DIR/checkpoints/")
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:  # of the machine; a broken file is none of its errors, though torch may raise one, too
        raise UserError(f"{what}'{path}' cannot be read: {error.strerror}") from error
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        raise BrokenCheckpoint(
            f"{what}'{path}' is truncated or no checkpoint; use another, such as last.ckpt"
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint or "hyper_parameters" not in checkpoint:
        raise UserError(f"{what}'{path}' is no checkpoint of nibkit: it has no state_dict and hyper_parameters")
    if checkpoint.get("nibkit_format", FORMAT) > FORMAT:
        raise UserError(
            f"{what}'{path}' has the format {checkpoint['nibkit_format']} of a newer nibkit, this one reads up to "
            f"{FORMAT}; update nibkit"
        )
    return checkpoint


def newest_checkpoint(folder: Path) -> Path | None:
    """Return ``last.ckpt``, or where it is broken or missing the checkpoint of the most steps; None if there is none.

    The last one comes first whatever others hold: only it is surely of a moment between two steps.

    Raises:
        UserError: one cannot be read, or is of a newer nibkit: to begin anew would write over it.
    """
    steps: dict[Path, int] = {}
    last = folder / "last.ckpt"
    for path in sorted(folder.glob("*.ckpt"), key=lambda path: (path != last, path)):
        try:
            steps[path] = int(read_checkpoint(path).get("global_step", 0))
        except BrokenCheckpoint as error:
            log.warning("passed over: %s", error)
        if last in steps:
            return last
    return max(steps, key=lambda path: steps[path]) if steps else None


def use_average(checkpoint: dict[str, Any]) -> None:
    """Put the moving average, if there is one, in the place of the backbone's weights: to use them, not to go on."""
    for name, value in checkpoint.get(AVERAGE, {}).items():
        checkpoint["state_dict"][f"backbone.{name}"] = value


def task_name(task: type) -> str:
    """Return the name of a task's class as checkpoints hold it under ``nibkit_task``."""
    return f"{task.__module__}.{task.__qualname__}"


def check_task(checkpoint: Mapping[str, Any], task: type, path: str) -> None:
    """Raise if the checkpoint is of another task than the class ``task``."""
    made_by = checkpoint.get("nibkit_task", "unknown")
    if made_by != task_name(task):
        raise UserError(
            f"ckpt_path='{path}' is of task '{made_by}', but this run's task is '{task_name(task)}'; set task= to match"
        )


def check_network(checkpoint: Mapping[str, Any], hparams: Mapping[str, Any], path: str) -> None:
    """Raise if a run that resumes has another network than its checkpoint."""
    for group in ("backbone", "nib"):
        then, now = checkpoint["hyper_parameters"].get(group, {}), hparams.get(group, {})
        for key in sorted({*then, *now}):
            if then.get(key) != now.get(key):
                raise UserError(
                    f"ckpt_path='{path}' was trained with {group}.{key}={then.get(key)}, but this run has "
                    f"{now.get(key)}; set {group}.{key}={then.get(key)} to resume"
                )
