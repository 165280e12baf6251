"""Figure 7: colours hidden in gray and restored, of a photo, flat material and constant colours; by Table 3's pairs."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from nibkit import __version__
from nibkit.backbones import InvertibleGrayscale
from nibkit.color import luminance
from nibkit.grayscale_pictures import AMPLIFIED, grayscale_pictures, hide_and_restore
from nibkit.metrics.grayscale import level_error
from nibkit.metrics.reconstruction import psnr
from nibkit.quantize import LEVEL
from nibkit.reproduce import Options
from nibkit.reproduce.drawn_cells import drawn_jobs, train_drawn
from nibkit.reproduce.results import write_files
from nibkit.reproduce.study import Job
from nibkit.reproduce.study_html import document
from nibkit.reproduce.study_pictures import SIDE, judged_images, larger, most_colour, png
from nibkit.reproduce.study_text import Section, figure_title, number, text
from nibkit.sheet import Cell, draw_sheet
from nibkit.weights import load_weights

VARIANTS = ("published", "published_nib", "resnet", "resnet_nib", "resnet_nib_both")  # of Table 3
INPUTS = ("photo", "flat material", "constant colours")
TIMES = 2  # that every picture is enlarged
COLOURS = ((192, 32, 48), (240, 144, 32), (240, 224, 64), (48, 144, 64),
           (64, 192, 208), (32, 64, 176), (144, 64, 160), (128, 128, 128))  # fmt: skip
ACROSS, MIDDLE = 4, 24  # patches in a row of the chart; of each, the pixels that are judged and shown
BORDER = 80  # pixels around them: a pair must not see from them to the next patch, and the published one sees 78
CLOSE = 10  # 8-bit levels, an error that is counted as restored
TITLE = "Figure 7: colours hidden in gray, with and without NIB"
FILES = tuple(f"figure7{suffix}" for suffix in (".md", ".json", ".png", ".html"))
Pairs = Sequence[tuple[str, InvertibleGrayscale]]


class Answer(NamedTuple):
    """An image ``[3, H, W]``, the gray ``[1, H, W]`` that a pair hides it in, and what the pair restores of that."""

    network: str
    image: Tensor
    gray: Tensor
    restored: Tensor


def figure7(options: Options) -> str:
    """Train the pairs that are missing, hide and restore the three inputs, write the figure; return the Markdown.

    Raises:
        UserError: bad input, or a training that failed.
    """
    jobs = drawn_jobs("table3", VARIANTS, options, FILES)
    train_drawn("figure7", {"table3": jobs}, options)
    return _write(jobs, options)


def load_pairs(jobs: Sequence[Job]) -> Pairs:
    """Return the pairs of trained cells of Table 3 by title."""
    return [(job.variant.title, _pair(job)) for job in jobs]


def through(pairs: Pairs, image: Tensor) -> list[Answer]:
    """Return what each pair makes of an image ``[3, H, W]`` in [-1, 1]."""
    return [Answer(title, image, *hide_and_restore(pair, image)) for title, pair in pairs]


def chart() -> Tensor:
    """Return patches of constant colours, ``[3, H, W]`` in [-1, 1]."""
    colours = torch.tensor(COLOURS).T.reshape(3, -1, ACROSS)
    return larger(colours * LEVEL - 1, MIDDLE + 2 * BORDER)


def middles(image: Tensor) -> Tensor:
    """Return the middles of the chart's patches, ``[colours, C, MIDDLE, MIDDLE]``, of an image of its size."""
    patch = MIDDLE + 2 * BORDER
    patches = image.unfold(1, patch, patch).unfold(2, patch, patch).flatten(1, 2).transpose(0, 1)
    return patches[..., BORDER:-BORDER, BORDER:-BORDER]


def only_middles(answer: Answer) -> Answer:
    """Return the middles of the chart's patches beside each other."""
    rows = ([torch.cat(list(row), dim=2) for row in torch.split(middles(each), ACROSS)] for each in answer[1:])
    return Answer(answer.network, *(torch.cat(row, dim=1) for row in rows))


def judge(answer: Answer) -> dict[str, float]:
    """Return the PSNR of what is restored, and of the gray against the image's luminance, dB."""
    light = luminance(answer.image[None])
    return {
        "psnr": float(psnr(answer.restored[None], answer.image[None])),
        "gray_psnr": float(psnr(answer.gray[None], light)),
    }


def judge_colours(answer: Answer) -> dict[str, Any]:
    """Return error of the colour and deviation of the gray in the chart's middles, 8-bit levels; each and over all."""
    errors = level_error(middles(answer.restored), middles(answer.image))
    deviations = middles(answer.gray).double().flatten(1).std(dim=1, correction=0) / LEVEL
    each = zip(COLOURS, errors.tolist(), deviations.tolist(), strict=True)
    return {
        "flat_error": float(errors.mean()),
        "flat_error_worst": float(errors.max()),
        "flat_gray_std": float(deviations.mean()),
        "colours": [{"colour": list(colour), "flat_error": e, "flat_gray_std": d} for colour, e, d in each],
    }


def _write(jobs: Sequence[Job], options: Options) -> str:
    """Draw everything, then write everything; return the Markdown."""
    pairs = load_pairs(jobs)
    answers = {name: through(pairs, image) for name, image in zip(INPUTS, _inputs(jobs[0]), strict=True)}
    colours = [judge_colours(answer) for answer in answers[INPUTS[-1]]]
    answers[INPUTS[-1]] = [only_middles(answer) for answer in answers[INPUTS[-1]]]
    content = _content(answers, colours, jobs, options)
    picture, sections = png(_sheet(answers)), _sections(content)
    page = text(TITLE, sections, "figure7.png")
    html = document(TITLE, sections, [], [("What each pair makes of three inputs", picture)], content)
    write_files(options.out, FILES, page, content, picture, html)
    return page


def _pair(job: Job) -> InvertibleGrayscale:
    network = load_weights(str(job.cell.checkpoint))
    assert isinstance(network, InvertibleGrayscale)  # as all cells of Table 3
    return network


def _inputs(job: Job) -> Iterator[Tensor]:
    """Yield a crop of a photo and one of flat material, of a few the one with most colour, then the chart."""
    for _, crops in judged_images(job, ("photo", "comic"), SIDE):
        yield most_colour(crops)
    yield chart()


def _sheet(answers: dict[str, list[Answer]]) -> Image.Image:
    """Return per input a row of each kind of picture, and in it a column per network behind the image's own."""
    rows: list[list[Cell]] = []
    headings = {}
    for name, found in answers.items():
        image = found[0].image
        itself = Answer("the image itself", image, luminance(image[None])[0], image)
        columns = [(each.network.partition(" (")[0], grayscale_pictures(*each[1:])[1:]) for each in (itself, *found)]
        for index, (kind, _) in enumerate(columns[0][1]):
            headings[len(rows)] = f"{name}: {kind}"
            rows.append([(network, larger(pictures[index][1], TIMES)) for network, pictures in columns])
    return draw_sheet(rows, f"Colours hidden in 8-bit gray and restored; enlarged {TIMES} times", headings)


def _content(
    answers: dict[str, list[Answer]], colours: Sequence[dict[str, Any]], jobs: Sequence[Job], options: Options
) -> dict[str, Any]:
    """Return plain values; a reference is the title of the network that a network is compared with."""
    titles = {job.variant.name: job.variant.title for job in jobs}
    references = {job.variant.title: titles.get(job.variant.reference or "") for job in jobs}
    rows = [
        {"input": name, "network": each.network, "reference": references[each.network], **judge(each)}
        for name, found in answers.items()
        for each in found
    ]
    rows[-len(colours) :] = [row | further for row, further in zip(rows[-len(colours) :], colours, strict=True)]
    return {
        "experiment": "figure7",
        "title": TITLE,
        "cells": [job.cell.folder.parent.name for job in jobs],
        "protocol": {"scale": options.scale, "seed": options.seeds[0]},
        "versions": {"nibkit": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "rows": rows,
    }


def _sections(content: dict[str, Any]) -> list[Section]:
    rows, protocol = content["rows"], content["protocol"]
    return [
        Section("", [
            f"The pairs of [Table 3](table3.md), scale {protocol['scale']}, seed {protocol['seed']}, hide the colours "
            f"of three inputs in 8-bit gray and restore them: crops of {SIDE} pixels of a photo and of flat material, "
            f"and a chart of {len(COLOURS)} constant colours, of which only the middle {MIDDLE} pixels of each patch "
            "are shown and judged, from where no pair sees the next patch.",
            f"The texture is what the gray differs by from the luminance, {AMPLIFIED} times as strong, on the "
            "luminance; where that is plain, gray and luminance differ in tone at most, and there is no texture. "
            "The first column is the image itself: its luminance, its colours, no error.",
        ]),
        _images(rows),
        _colours([row for row in rows if "colours" in row]),
    ]  # fmt: skip


def _images(rows: Sequence[dict[str, Any]]) -> Section:
    names = ("psnr", "gray_psnr")
    cells = [[row["input"], row["network"], *(number(row[name], name) for name in names)] for row in rows]
    note = "PSNR is of the restored colours; that of the gray is against the image's luminance."
    return Section("Restored colours and gray", [note], ("input", "network", *map(figure_title, names)), cells)


def _colours(rows: Sequence[dict[str, Any]]) -> Section:
    """Return the table of the constant colours, and how each network with NIB compares with its standard one."""
    names, by_network = ("flat_error", "flat_error_worst", "flat_gray_std"), {row["network"]: row for row in rows}
    cells = [[row["network"], *(number(row[name], name) for name in names), _restored(row)] for row in rows]
    compared = [
        f"{row['network']}: off by {_levels(row)}, against {_levels(by_network[row['reference']])} of "
        f"{row['reference']}."
        for row in rows
        if row["reference"]
    ]
    notes = ["Mean absolute error of the restored colour and deviation of the gray within a patch, in 8-bit levels; a "
             "deviation of 0 is flatness degradation.", " ".join(compared)]  # fmt: skip
    head = ("network", *map(figure_title, names), f"within {CLOSE} levels")
    return Section("Constant colours", notes, head, cells)


def _levels(row: dict[str, Any]) -> str:
    return f"{number(row['flat_error'], 'flat_error')} levels"


def _restored(row: dict[str, Any]) -> str:
    return f"{sum(each['flat_error'] <= CLOSE for each in row['colours'])} of {len(row['colours'])}"
