"""Experiments of the paper, done again on any images: ``nibkit reproduce NAME``.

An experiment is a function of :class:`Options` that writes ``NAME.md``, ``NAME.json`` and pictures to
``options.out`` and returns the Markdown; it keeps what took long below ``options.runs``, so that a call that was
killed goes on where it was. It is registered here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# name: (one line of help, where its function is)
EXPERIMENTS = {
    "table1": ("halftoning by ResNet and U-Net, with and without NIB", "nibkit.reproduce.run_study:table1"),
    "table2": ("photos from label maps by Pix2Pix and SPADE, with and without NIB", "nibkit.reproduce.table2:table2"),
    "table3": ("invertible grayscale, with and without NIB", "nibkit.reproduce.run_study:table3"),
    "table4": ("dithering: classical methods, shipped networks and the ablation", "nibkit.reproduce.table4:table4"),
    "figure1": ("flatness degradation in three tasks; networks of tables 1, 2, 3", "nibkit.reproduce.figure1:figure1"),
    "figure3": ("features of flat and textured input; from table1's networks", "nibkit.reproduce.figure3:figure3"),
    "figure4": ("modes of the noise", "nibkit.reproduce.run_study:figure4"),
    "figure5": ("an autoencoder, with additive noise, and with NIB", "nibkit.reproduce.run_study:figure5"),
    "figure6": ("photos from label maps, flat regions enlarged; table2's networks", "nibkit.reproduce.figure6:figure6"),
    "figure7": ("colours hidden in gray and restored; from table3's networks", "nibkit.reproduce.figure7:figure7"),
}
SCALES = ("small", "medium", "paper")


def default_home() -> Path:
    """Return the folder of image sets by name where none is given: ``$NIBKIT_DATA``, or ``data``."""
    return Path(os.environ.get("NIBKIT_DATA", "data"))


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Args:
        images: the folder of photos that are judged; None for the embedded ones, or the paper's set.
        out: the folder for table and pictures.
        runs: the folder for trained networks and what was measured before.
        scale: of the training, of :data:`SCALES`.
        limit: only the first so many images of each set; None for all.
        weights: further networks: shipped names, ``.safetensors`` or ``.ckpt`` files.
        seeds: of the networks that are trained.
        train: train what is missing; else its rows stay empty.
        train_images: the folder to train on; None for that of the photos, or the embedded data.
        flat: the folder of flat material that is judged; None as of ``images``.
        home: the folder of image sets by name, for the paper's scale and for label maps.
        cells: names of the variants to train; none for all.
        launcher: of Hydra, that trains the cells elsewhere; None for here, one after the other.
        launcher_options: its settings, ``hydra.launcher.KEY=VALUE``.
        labels: photos with label maps: the name of a set, or a folder; None for the scale's.
        label_settings: of these data, ``KEY=VALUE``.
        segmenter: the file of the network that reads generated photos; None: it is trained.
        inception: the file of Inception's weights, for FID; None: those on this machine, if there are any.
        vgg: the file of VGG's weights, for a Fréchet distance of its features; None for no such distance.
    """

    images: Path | None
    out: Path
    runs: Path
    scale: str = "small"
    limit: int | None = None
    weights: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    train: bool = True
    train_images: Path | None = None
    flat: Path | None = None
    home: Path = Path("data")
    cells: tuple[str, ...] = ()
    launcher: str | None = None
    launcher_options: tuple[str, ...] = ()
    labels: str | None = None
    label_settings: tuple[str, ...] = ()
    segmenter: Path | None = None
    inception: Path | None = None
    vgg: Path | None = None
