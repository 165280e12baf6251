"""A run that goes on: from which checkpoint, in which folder, at which step."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from nibkit.checkpoint import newest_checkpoint, read_checkpoint
from nibkit.errors import UserError

log = logging.getLogger(__name__)
AUTO = "auto"


def find_checkpoint(config: DictConfig) -> bool:
    """Put the checkpoint in the place of ``ckpt_path=auto``, and what loggers need to go on into the config.

    Returns:
        Whether the run may use its folder again: it goes on there, or ``auto`` found nothing whole to go on from.

    Raises:
        UserError: there is no such checkpoint, or it is broken.
    """
    auto = config.ckpt_path == AUTO
    if auto:
        if config.mode != "train":
            raise UserError(f"ckpt_path=auto is for mode=train; for mode={config.mode} name the checkpoint")
        newest = newest_checkpoint(Path(config.run_dir) / "checkpoints")
        config.ckpt_path = None if newest is None else str(newest)
        log.info("ckpt_path=auto: %s", f"goes on from {newest}" if newest else f"{config.run_dir} has none, so begins")
    if resumes(config):
        config.first_step = int(read_checkpoint(config.ckpt_path).get("global_step", 0))
        config.run_dir = str(config.run_dir)  # of itself it would follow the id
        config.run_id = _run_id(Path(config.run_dir) / "config.yaml") or config.run_id
    return auto or resumes(config)


def resumes(config: DictConfig) -> bool:
    """Say whether the run goes on in the folder of its checkpoint."""
    folder = Path(config.run_dir).resolve()
    return config.mode == "train" and folder in Path(config.ckpt_path or "").resolve().parents


def _run_id(path: Path) -> str | None:
    """Return the id under which a run began, from the config in its folder."""
    try:
        return str(OmegaConf.load(path).run_id)
    except Exception:  # a folder that was made by hand, a config that was edited
        return None
