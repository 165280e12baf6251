"""Figure 3: features of the ResNet without and with NIB, of a flat and of a textured input; from Table 1's networks."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nibkit import __version__
from nibkit.estimators import binarize
from nibkit.probe import first_channels, inner
from nibkit.reproduce import Options
from nibkit.reproduce.drawn_cells import drawn_jobs, train_drawn
from nibkit.reproduce.results import write_files
from nibkit.reproduce.study import Job
from nibkit.reproduce.study_html import document
from nibkit.reproduce.study_pictures import judged_images, png
from nibkit.reproduce.study_text import Section, text
from nibkit.sheet import Cell, colorize, draw_sheet
from nibkit.weights import load_weights

VARIANTS = ("resnet", "resnet_nib")  # of Table 1
LAYERS = (4, 10, 16)  # convolutions, that of the NIB being the first, as the paper shows them
SIZE, RADIUS = 160, 32  # of the inputs, and of the disc in the flat one, pixels
FAR = 29  # pixels from the disc's edge: the ResNet sees 20 to each side, 28.3 along the diagonal
TITLE = "Figure 3: how does NIB work?"
FILES = tuple(f"figure3{suffix}" for suffix in (".md", ".json", ".png", ".html"))


def figure3(options: Options) -> str:
    """Train the two networks if they are missing, probe them, write the figure; return the Markdown.

    Raises:
        UserError: bad input, or a training that failed.
    """
    jobs = drawn_jobs("table1", VARIANTS, options, FILES)
    train_drawn("figure3", {"table1": jobs}, options)
    return _write(jobs, options)


def disc() -> Tensor:
    """Return a lighter disc on a constant gray, ``[1, SIZE, SIZE]`` in [-1, 1]."""
    return torch.where(_from_centre() < RADIUS, 0.4, -0.3)[None]


def far_from_edge() -> Tensor:
    """Return where the disc is out of sight, ``[SIZE, SIZE]`` bool; its middle is flat, too, but of another gray."""
    return _from_centre() - RADIUS > FAR


def _from_centre() -> Tensor:
    offset = torch.arange(SIZE) - (SIZE - 1) / 2
    return torch.hypot(offset[:, None], offset[None, :])


def probe(job: Job, image: Tensor) -> tuple[list[Cell], dict[str, float]]:
    """Return pictures of the features and the halftone, and the deviation of each far from the disc's edge.

    Args:
        job: a trained ResNet.
        image: ``[1, SIZE, SIZE]`` in [-1, 1].
    """
    network = load_weights(str(job.cell.checkpoint))
    features = first_channels(network, image[None], [layer - 1 for layer in LAYERS])
    planes = [inner(plane, SIZE, SIZE + 2 * network.extension()) for _, plane in features]
    with torch.no_grad():
        halftone = binarize(network(image[None])[0])
    far = far_from_edge()
    deviations = {f"layer {layer}": float(plane[far].std()) for layer, plane in zip(LAYERS, planes, strict=True)}
    deviations["halftone"] = float(halftone[0][far].std())
    cells = [(f"layer {layer}", colorize(plane)) for layer, plane in zip(LAYERS, planes, strict=True)]
    return [(f"input, {job.variant.title}", image), *cells, ("halftone", halftone)], deviations


def _write(jobs: Sequence[Job], options: Options) -> str:
    """Draw everything, then write everything; return the Markdown."""
    rows, figures = [], []
    for name, image in (("a disc on flat gray", disc()), ("photo", _photo(jobs[0]))):
        for job in jobs:
            row, deviations = probe(job, image)
            rows.append(row)
            figures.append({"input": name, "network": job.variant.title, "deviations": deviations})
    picture = png(draw_sheet(rows, "First feature channel of layers 4, 10 and 16, each stretched to its own range"))
    content = _content(figures, jobs, options)
    sections = _sections(content)
    page = text(TITLE, sections, "figure3.png")
    html = document(TITLE, sections, [], [("First feature channels", picture)], content)
    write_files(options.out, FILES, page, content, picture, html)
    return page


def _photo(job: Job) -> Tensor:
    """Return the middle of the first photo, ``[1, SIZE, SIZE]``; a smaller photo is repeated."""
    photo = next(judged_images(job, ["photo"], SIZE))[1][0]
    down, across = (-(-SIZE // side) for side in photo.shape[-2:])
    return photo.repeat(1, down, across)[:, :SIZE, :SIZE]


def _content(figures: list[dict[str, Any]], jobs: Sequence[Job], options: Options) -> dict[str, Any]:
    return {
        "experiment": "figure3",
        "title": TITLE,
        "cells": [job.cell.folder.parent.name for job in jobs],
        "protocol": {"scale": options.scale, "seed": options.seeds[0]},
        "versions": {"nibkit": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "rows": figures,
    }


def _sections(content: dict[str, Any]) -> list[Section]:
    names = list(content["rows"][0]["deviations"])
    rows = [[row["input"], row["network"], *(f"{row['deviations'][n]:.1e}" for n in names)] for row in content["rows"]]
    return [
        Section("", [
            f"The ResNet of [Table 1](table1.md), scale {content['protocol']['scale']}, seed "
            f"{content['protocol']['seed']}, without and with NIB: the first channel of three of its convolutions, for "
            "a flat input with a single edge and for a photo. In the standard network's flat regions every feature is "
            "constant (one colour) but for the surroundings of the edge, which grow with depth; with NIB none is.",
        ]),
        Section("Deviation far from the edge", [
            f"Standard deviation more than {FAR} pixels outside the disc's edge, where the network, which sees 41x41 "
            "pixels, sees constant gray only; 1e-6 is rounding. For the photo, of the same places.",
        ], ("input", "network", *names), rows),
    ]  # fmt: skip
