"""Figure 1: flatness degradation in three tasks, and the same networks with NIB; by those of Tables 1, 2 and 3.

Nothing is chosen by hand: panel a is the test set's middle image and its largest class, panels b and c are the crop of
flat material that Figure 7 shows.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from nibkit import __version__
from nibkit.color import luminance
from nibkit.errors import UserError
from nibkit.estimators import binarize
from nibkit.metrics.psnr import filtered_psnr
from nibkit.reproduce import Options, default_home
from nibkit.reproduce.drawn_cells import drawn_jobs, train_drawn
from nibkit.reproduce.figure7 import judge, load_pairs, through
from nibkit.reproduce.results import write_files
from nibkit.reproduce.study import Job
from nibkit.reproduce.study_html import document
from nibkit.reproduce.study_pictures import SIDE, TIMES, judged_images, larger, most_colour, png
from nibkit.reproduce.study_text import Section, text
from nibkit.reproduce.table2_cells import check_finished, labels_name, make_jobs
from nibkit.reproduce.table2_pictures import TIMES as REGION_TIMES
from nibkit.reproduce.table2_pictures import Pictures, Region, draw_images, drawn_data, region_deviation
from nibkit.sheet import Cell, draw_sheet
from nibkit.weights import load_weights

SYNTHESIS = ("spade", "spade_nib")  # of Table 2
GRAYSCALE = ("published", "published_nib")  # of Table 3
HALFTONES = ("resnet", "resnet_nib")  # of Table 1
SHOWN = SIDE * TIMES  # pixels of a picture's side: those of the three panels are alike, and captions have their place
SIGMA = 2.0  # of the filter before PSNR, pixels
TITLE = "Figure 1: flatness degradation, and the same networks with NIB"
FILES = tuple(f"figure1{suffix}" for suffix in (".md", ".json", ".png", ".html"))


class Panel(NamedTuple):
    """One task: what it is, its input, what the number of each picture is and in which unit; rows by heading."""

    title: str
    input: str
    figure: str
    unit: str
    numbers: dict[str, float]
    rows: dict[str, list[Cell]]


def figure1(options: Options) -> str:
    """Train the networks of the first seed that are missing, draw the panels; return the Markdown.

    Raises:
        UserError: bad input, or a training that failed.
    """
    options = replace(options, seeds=options.seeds[:1])
    of_images = _of_images(options)
    halftones = drawn_jobs("table1", HALFTONES, of_images, FILES)
    pairs = drawn_jobs("table3", GRAYSCALE, of_images, FILES)
    generators = [job for job in make_jobs(options) if job.variant.name in SYNTHESIS]
    check_finished(generators)
    data = drawn_data(options)
    train_drawn("figure1", {"table1": halftones, "table3": pairs, "table2": generators}, options)
    crop = most_colour(next(judged_images(pairs[0], ("comic",), SIDE))[1])
    panels = [synthesis(generators, data), grayscale(pairs, crop), halftoning(halftones, luminance(crop[None])[0])]
    return _write(panels, [*generators, *pairs, *halftones], options)


def _of_images(options: Options) -> Options:
    """Return the options of Tables 1 and 3: below the paper's scale without the home, which is the label maps' then.

    Cells are told apart by all their settings: with it, none that those tables trained without it would be found.
    """
    return options if options.scale == "paper" else replace(options, home=default_home())


def synthesis(jobs: Sequence[Job], data: Any) -> Panel:
    """Return panel a: the middle test image of ``data`` by each generator, and its largest region.

    Raises:
        UserError: the image has no class but void.
    """
    (pictures,) = draw_images(jobs, data, 1)
    region, times = _largest_region(pictures), enlargement(min(pictures.columns[0][1].shape[-2:]))
    numbers = {title: region_deviation(region, image) for title, image in pictures.columns[1:]}
    around = [(title, in_its_square(region, image, times)) for title, image in pictures.columns]
    parts = [(title, larger(region.cut(image), times * REGION_TIMES)) for title, image in pictures.columns]
    return Panel(
        "a: photographs from label maps", f"{region.name} of test image {pictures.name}",
        "deviation of luminance in the enlarged square", "levels", numbers,
        {f"test image {pictures.name}, enlarged {times} times": around,
         f"the framed square, {region.name}, enlarged {times * REGION_TIMES} times; deviation of its luminance":
         captioned(parts, numbers, "levels")},
    )  # fmt: skip


def _largest_region(pictures: Pictures) -> Region:
    if not pictures.regions:
        raise UserError(f"figure1: the label map of test image '{pictures.name}' is void everywhere, so there is no "
                        "region to enlarge; give other --labels or another --limit")  # fmt: skip
    return pictures.regions[0]


def grayscale(jobs: Sequence[Job], image: Tensor) -> Panel:
    """Return panel b: the grays that hide the colours of an image ``[3, H, W]``, and what is restored of them."""
    answers, times = through(load_pairs(jobs), image), enlargement(min(image.shape[-2:]))
    numbers = {answer.network: judge(answer)["psnr"] for answer in answers}
    grays = [("luminance", luminance(image[None])[0]), *((answer.network, answer.gray) for answer in answers)]
    colours = [("image", image), *((answer.network, answer.restored) for answer in answers)]
    return Panel(
        "b: colours hidden in gray", "flat material", "PSNR of the restored colours", "dB", numbers,
        {f"8-bit grays of flat material, enlarged {times} times": _larger(grays, times),
         "the colours restored from these grays; PSNR": captioned(_larger(colours, times), numbers, "dB")},
    )  # fmt: skip


@torch.no_grad()
def halftoning(jobs: Sequence[Job], gray: Tensor) -> Panel:
    """Return panel c: the binary halftones of a gray image ``[1, H, W]``."""
    networks = {job.variant.title: load_weights(str(job.cell.checkpoint)) for job in jobs}
    halftones = {title: binarize(network(gray[None])) for title, network in networks.items()}
    numbers = {title: float(filtered_psnr(each, gray[None], SIGMA)) for title, each in halftones.items()}
    cells = [("gray", gray), *((title, each[0]) for title, each in halftones.items())]
    times = enlargement(min(gray.shape[-2:]))
    return Panel(
        "c: halftones", "the same image in gray", f"PSNR of the filtered halftone, sigma {SIGMA} pixels", "dB", numbers,
        {f"binary, of the same image in gray, enlarged {times} times; PSNR of the filtered halftone":
         captioned(_larger(cells, times), numbers, "dB")},
    )  # fmt: skip


def in_its_square(region: Region, image: Tensor, times: int) -> Tensor:
    """Return the largest square around a region of an image ``[C, H, W]``, enlarged, the region in a frame."""
    square = square_around(region, *image.shape[-2:])
    top, left = (region.top - square.top) * times, (region.left - square.left) * times
    return framed(larger(square.cut(image), times), Region(region.name, top, left, region.side * times))


def square_around(region: Region, height: int, width: int) -> Region:
    """Return the largest square of an image of this size whose middle is as near as can be to the region's."""
    side = min(height, width)
    top, left = (first + (region.side - side) // 2 for first in (region.top, region.left))
    return Region(region.name, min(max(top, 0), height - side), min(max(left, 0), width - side), side)


def enlargement(side: int) -> int:
    """Return how many times a picture of this side, pixels, is enlarged to be about :data:`SHOWN` pixels."""
    return max(1, SHOWN // side)


def framed(image: Tensor, region: Region) -> Tensor:
    """Return a copy of an image ``[C, H, W]``, along the region's border a black line, within it a white one."""
    picture = image.clone()
    for inset, source in ((0, torch.full_like(image, -1)), (1, torch.ones_like(image)), (3, image)):
        part = Region(region.name, region.top + inset, region.left + inset, region.side - 2 * inset)
        part.cut(picture).copy_(part.cut(source))
    return picture


def captioned(cells: Sequence[Cell], numbers: Mapping[str, float], unit: str) -> list[Cell]:
    """Return pictures whose captions say their number, if they have one."""
    return [
        (f"{title}: {numbers[title]:.2f} {unit}" if title in numbers else title, picture) for title, picture in cells
    ]


def _larger(cells: Sequence[Cell], times: int) -> list[Cell]:
    return [(title, larger(picture, times)) for title, picture in cells]


def _write(panels: Sequence[Panel], jobs: Sequence[Job], options: Options) -> str:
    """Draw everything, then write everything; return the Markdown."""
    content = _content(panels, jobs, options)
    picture, sections = png(_sheet(panels)), _sections(content)
    page = text(TITLE, sections, "figure1.png")
    html = document(TITLE, sections, [], [("Three tasks, standard and with NIB", picture)], content)
    write_files(options.out, FILES, page, content, picture, html)
    return page


def _sheet(panels: Sequence[Panel]) -> Image.Image:
    rows = [(f"{panel.title}: {heading}", cells) for panel in panels for heading, cells in panel.rows.items()]
    return draw_sheet([cells for _, cells in rows], TITLE, dict(enumerate(heading for heading, _ in rows)))


def _content(panels: Sequence[Panel], jobs: Sequence[Job], options: Options) -> dict[str, Any]:
    """Return plain values."""
    rows = [
        {"panel": panel.title, "input": panel.input, "picture": title, "figure": panel.figure, "unit": panel.unit,
         "number": number}
        for panel in panels
        for title, number in panel.numbers.items()
    ]  # fmt: skip
    return {
        "experiment": "figure1",
        "title": TITLE,
        "cells": [job.cell.folder.parent.name for job in jobs],
        "protocol": {"scale": options.scale, "seed": options.seeds[0], "labels": Path(labels_name(options)).name},
        "versions": {"nibkit": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "rows": rows,
    }


def _sections(content: dict[str, Any]) -> list[Section]:
    protocol, rows = content["protocol"], content["rows"]
    of_panel = {row["panel"]: f"{row['panel'][0]}: {row['figure']} ({row['input']})." for row in rows}
    cells = [[row["panel"], row["picture"], f"{row['number']:.2f} {row['unit']}"] for row in rows]
    return [
        Section("", [
            f"Three tasks, each by a standard network and by the same with NIB, scale {protocol['scale']}, seed "
            f"{protocol['seed']}: SPADE of [Table 2](table2.md), on '{protocol['labels']}', the published pair of "
            "[Table 3](table3.md) and the ResNet of [Table 1](table1.md). Where a standard network sees a constant "
            "input alone, its answer is constant; a generator sees beyond a region, so there it is plain at most.",
        ]),
        Section("A number per picture", [
            " ".join(of_panel.values()),
            "A deviation is in 8-bit levels, the plane that fits best subtracted; the photo's is what it should be "
            "like. Each number is of one input and one seed; the tables have those of whole sets.",
        ], ("panel", "picture", "number"), cells),
    ]  # fmt: skip
