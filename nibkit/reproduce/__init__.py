"""Experiments of the paper, done again on any images: ``nibkit reproduce NAME``.

An experiment is a function of :class:`Options` that writes ``NAME.md``, ``NAME.json`` and pictures to
``options.out`` and returns the Markdown; it keeps what took long below ``options.runs``, so that a call that was
killed goes on where it was. It is registered here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# name: (one line of help, where its function is)
EXPERIMENTS = {
    "table4": ("dithering: classical methods, shipped networks and the ablation", "nibkit.reproduce.table4:table4"),
}
SCALES = ("small", "paper")


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Args:
        images: the folder that all methods are judged on.
        out: the folder for table and pictures.
        runs: the folder for trained networks and what was measured before.
        scale: of the training: ``small`` or ``paper``.
        limit: only the first so many images; None for all.
        weights: further networks: shipped names, ``.safetensors`` or ``.ckpt`` files.
        seeds: of the networks that are trained.
        train: train what is missing; else its rows stay empty.
        train_images: the folder to train on; None for the embedded data.
    """

    images: Path
    out: Path
    runs: Path
    scale: str = "small"
    limit: int | None = None
    weights: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    train: bool = True
    train_images: Path | None = None
