"""The training runs that are measured, by what the figures call them."""

from __future__ import annotations

from omegaconf import DictConfig

from nibkit.config import load_config

CASES = {
    "dithering": ["task=dithering"],
    "dithering, relaxed": ["task=dithering", "task.estimator=relaxed"],
    "halftoning": ["task=halftoning"],
    "halftoning, U-Net": ["task=halftoning", "backbone=unet"],
    "autoencoder": ["task=autoencoder"],
    "invertible grayscale": ["task=invertible_grayscale"],
    "SPADE": ["task=semantic_synthesis", "backbone=spade"],
    "Pix2Pix": ["task=semantic_synthesis", "backbone=pix2pix"],
    "segmentation": ["task=segmentation"],
}


def case_config(name: str, *more: str, folder: str = "unused") -> DictConfig:
    """Return the config of a case as its users have it, run in ``folder``, with ``more`` settings."""
    return load_config([*CASES[name], f"run_dir='{folder}'", *more])
