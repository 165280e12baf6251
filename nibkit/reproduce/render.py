"""Markdown of an experiment's results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nibkit.reproduce.summary import IMAGE_FIGURES, SECONDS

DIGITS = {"psnr_sigma1.5": 2, "psnr_sigma2.0": 2, "ssim": 4, "low_frequency_ratio": 3, "low_frequency_ratio_worst": 3,
          "anisotropy_db": 1, "anisotropy_db_worst": 1, "tone_error": 4, "dotted_levels": 2, SECONDS: 3}  # fmt: skip
TITLES = {
    "psnr_sigma1.5": "PSNR sigma 1.5, dB",
    "psnr_sigma2.0": "PSNR sigma 2.0, dB",
    "ssim": "SSIM",
    "low_frequency_ratio": "low-frequency ratio",
    "low_frequency_ratio_worst": "its worst",
    "anisotropy_db": "anisotropy, dB",
    "anisotropy_db_worst": "its worst",
    "tone_error": "tone error",
    "dotted_levels": "levels with dots",
    SECONDS: "s per megapixel",
}
DOTS = ("low_frequency_ratio", "low_frequency_ratio_worst", "anisotropy_db", "anisotropy_db_worst", "dotted_levels",
        "tone_error")  # fmt: skip
Cells = Sequence[str]


def markdown(content: dict[str, Any]) -> str:
    """Return the page of Table 4."""
    rows = content["rows"]
    judged = [row for row in rows if "figures" in row]
    several = [row for row in judged if row["kind"] == "trained" and row["figures"]["ssim"]["n"] > 1]
    parts = [
        _introduction(content),
        "## Images\n",
        table(("method", *map(TITLES.get, IMAGE_FIGURES), "paper's PSNR", "paper's SSIM"),  # type: ignore[arg-type]
              [_image_cells(row, content["paper"]) for row in rows]),
        _paper_note(content),
        "## Dots and time\n",
        table(("method", *(TITLES[name] for name in (*DOTS, SECONDS)), "threads"), [_dot_cells(row) for row in judged]),
        _dot_note(),
        "## Against Ostromoukhov on the same images\n",
        "Mean difference, with its standard error.\n",
        table(("method", *(TITLES[name] for name in IMAGE_FIGURES)), [_paired_cells(row) for row in judged]),
        *_seeds(several),
    ]  # fmt: skip
    return "\n".join(parts)


def table(head: Cells, rows: Sequence[Cells]) -> str:
    """Return a Markdown table whose columns are aligned in plain text, too."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [head, rule, *rows]
    return "".join(f"| {' | '.join(_aligned(line, widths))} |\n" for line in lines)


def _aligned(line: Cells, widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]


def number(value: float | None, name: str, sign: str = "") -> str:
    """Return a figure with its digits; a dash for none."""
    return "-" if value is None else f"{value:{sign}.{DIGITS[name]}f}"


def _introduction(content: dict[str, Any]) -> str:
    images, training = content["images"], content["training"]
    settings = " ".join(training["settings"])
    return (
        "# Table 4: dithering\n\n"
        f"{images['count']} image(s) of '{images['folder']}', all methods on the same, halftoned whole. Figures are "
        "mean ± standard deviation over the images.\n"
        f"Networks named *trained*: `nibkit reproduce table4 --scale {training['scale']}`, that is `{settings}`, on "
        f"{training['images']}, seeds {', '.join(map(str, training['seeds']))}; equal steps for all.\n"
    )


def _image_cells(row: dict[str, Any], published: dict[str, Any]) -> list[str]:
    theirs = published.get(row["paper"])
    beside = [f"{theirs['psnr']:.3f}", f"{theirs['ssim']:.4f}"] if theirs else ["", ""]
    if "images" not in row:
        return [f"{row['title']} (not trained)", "-", "-", "-", *beside]
    title = f"{row['title']} ({row['note']})" if row["note"] else row["title"]
    return [title, *(_plus_minus(row["images"][name], "sd", name) for name in IMAGE_FIGURES), *beside]


def _plus_minus(figure: dict[str, Any], spread: str, name: str, sign: str = "") -> str:
    """Return ``mean ± spread``, the mean alone where there is no spread."""
    text = number(figure["mean"], name, sign)
    return text if figure[spread] is None else f"{text} ± {number(figure[spread], name)}"


def _dot_cells(row: dict[str, Any]) -> list[str]:
    figures = [number(row["figures"][name]["mean"], name) for name in (*DOTS, SECONDS)]
    return [row["title"], *figures, str(row["threads"])]


def _paired_cells(row: dict[str, Any]) -> list[str]:
    differences = row["minus_ostromoukhov"]
    return [row["title"], *(_plus_minus(differences[name], "standard_error", name, "+") for name in IMAGE_FIGURES)]


def _seeds(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of the spread over seeds, if there is one."""
    if not rows:
        return []
    names = (*IMAGE_FIGURES, *DOTS)
    cells = [[row["title"], str(row["figures"]["ssim"]["n"]), *(_plus_minus(row["figures"][n], "sd", n) for n in names)]
             for row in rows]  # fmt: skip
    return ["## Over seeds\n", "Mean ± standard deviation over the trainings.\n",
            table(("network", "seeds", *(TITLES[name] for name in names)), cells)]  # fmt: skip


def _paper_note(content: dict[str, Any]) -> str:
    return (
        f"The paper's figures are of its own images, {content['paper']['set']}, by a filter whose width it does not "
        "say; its weight of Pang is not said either, .98 is that of later re-implementations.\nFigures of different "
        "image sets cannot be compared with each other, only the order of methods can.\n"
    )


def _dot_note() -> str:
    return (
        "Dots: 16 constant grays from 13 to 238 of 255, one halftone of 512x512 pixels each; white noise has a "
        "low-frequency ratio of 1 and an anisotropy of -12 dB.\nA halftone without dots has neither (-). "
        "Time: the median over the images, after compilation and a first call.\n"
    )
