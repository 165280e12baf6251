"""The tables and sentences of a study, and their Markdown; :mod:`study_html` shows the same ones.

The pages are made of plain values, those of the study's JSON file. None is a value that does not exist::

    experiment, title, question: texts
    protocol: command, settings, steps, seeds, training (which images), note ("": none)
    versions: by program
    sets: of images, each with label, title, count
    figures, gray_figures: names; primary: that of ``figures`` that is shown first and drawn
    paper: figure (what its values are), note, sets (the paper's name of each, by label)
    rows: variants, each with
        name, title, group, settings, parameters, note ("": none)
        reference: name of the row to compare with, or None
        paper: the paper's value by set
        seeds: those trained, each with seed, seconds, images (set, figure), grays (figure)
        images: by set and figure mean, sd and n over the seeds; grays: by figure
        difference: by set and figure mean, sd and n, per_seed (in the order of the seeds that the reference
            has, too) and better (share of images where it is above 0); or None
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from nibkit.reproduce.render import DIGITS, TITLES, Cells, table

FURTHER_DIGITS = {"psnr": 2, "psnr_pooled": 2, "flat_psnr": 2, "gray_psnr": 2, "flat_error": 1, "flat_error_worst": 1,
                  "flat_gray_std": 2}  # fmt: skip
FURTHER_TITLES = {
    "psnr": "PSNR, dB",
    "psnr_pooled": "pooled PSNR, dB",
    "mae": "mean absolute error",
    "flat_psnr": "PSNR on grays, dB",
    "flat_std": "deviation on grays",
    "gray_psnr": "PSNR of the gray, dB",
    "gray_ssim": "SSIM of the gray",
    "flat_error": "error, levels",
    "flat_error_worst": "error of the worst colour, levels",
    "flat_gray_std": "deviation of the gray, levels",
}
OF_COLOURS = ("flat_error", "flat_error_worst", "flat_gray_std")  # constant colours; the others are of grays
NOTES = {
    "psnr_pooled": "Pooled is one PSNR over the error of all images together.",
    "gray_psnr": "The gray, rounded to 8 bit, is compared with the image's luminance.",
    "flat_std": "A deviation of 0 is flatness degradation.",
    "low_frequency_ratio": "White noise has a low-frequency ratio of 1.",
    "anisotropy_db": "White noise has an anisotropy of -12 dB. A halftone without dots has no spectrum (-).",
    "flat_error": "216 colours over the RGB cube, squares of 64 pixels. The error is the mean absolute error of the "
    "restored colour, in 8-bit levels, as a mean over the colours and of the worst.",
    "flat_gray_std": "The deviation is that of the gray's pixels, in 8-bit levels; 0 is flatness degradation.",
}
MISSING = "-"


class Section(NamedTuple):
    """A part of the page: paragraphs, then a table; in both, text between backticks is code."""

    heading: str
    paragraphs: Sequence[str]
    head: Cells = ()
    rows: Sequence[Cells] = ()


def markdown(content: Mapping[str, Any], plot: str = "") -> str:
    """Return the page of a study.

    Args:
        content: the study's plain values.
        plot: the plot's file as seen from the page; nothing: no plot is shown.
    """
    return text(content["title"], sections(content), plot)


def text(title: str, parts: Sequence[Section], plot: str = "") -> str:
    """Return Markdown of a page's parts, the plot behind the first; see :func:`markdown`."""
    picture = [f"![{_line(title)}]({plot})\n"] if plot else []
    lines = [f"# {_line(title)}\n"]
    for index, section in enumerate(parts):
        lines += picture if index == 1 else []  # behind the introduction
        lines += [f"## {_line(section.heading)}\n"] if section.heading else []
        lines += [f"{paragraph}\n" for paragraph in section.paragraphs]
        if section.rows:
            lines.append(table(_cells(section.head), [_cells(row) for row in section.rows]))
    return "\n".join(lines if len(parts) > 1 else [*lines, *picture])


def sections(content: Mapping[str, Any]) -> list[Section]:
    """Return the page's parts in their order, without its title; sections about nothing are left out."""
    names = [name for name in content["figures"] if name != content["primary"]]
    found = [
        Section("", _introduction(content)),
        *(_main(content, images) for images in content["sets"]),
        *(_others(content, images, names) for images in content["sets"] if names),
        *([_grays(content)] if content["gray_figures"] else []),
        _every_seed(content),
        _variants(content),
        Section("How to read the plot", _plot_notes(content)),
    ]
    return [section for section in found if section.rows or not section.head]


def number(value: float | None, name: str, sign: str = "") -> str:
    """Return a figure with its digits, four for unknown figures; a dash for none."""
    return MISSING if value is None else f"{value:{sign}.{(FURTHER_DIGITS | DIGITS).get(name, 4)}f}"


def figure_title(name: str) -> str:
    """Return a figure's name for people, with its unit."""
    return (FURTHER_TITLES | TITLES).get(name, name.replace("_", " "))


def find(values: Any, *keys: str) -> Any:
    """Return what lies under ``keys`` in nested mappings; None if any of them is missing."""
    for key in keys:
        values = values.get(key) if values else None
    return values


def row_title(row: Mapping[str, Any]) -> str:
    """Return a row's title, with what is special about it in parentheses."""
    remark = row["note"] if row["seeds"] else "not trained"
    return f"{row['title']} ({remark})" if remark else str(row["title"])


def set_title(images: Mapping[str, Any]) -> str:
    """Return a set's title with its number of images."""
    return f"{images['title']}, {images['count']} image{'' if images['count'] == 1 else 's'}"


def has_published(content: Mapping[str, Any]) -> bool:
    """Whether the paper has any value of the primary figure."""
    published = [value for row in content["rows"] for value in row["paper"].values() if value is not None]
    return bool(published) and bool(content["paper"]["figure"] == content["primary"])


def _introduction(content: Mapping[str, Any]) -> list[str]:
    protocol = content["protocol"]
    settings = f", that is `{' '.join(protocol['settings'])}`" if protocol["settings"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    return [
        content["question"],
        f"`{protocol['command']}`{settings}: {protocol['steps']} steps, {_seeds(protocol['seeds'])}, "
        f"on {protocol['training']}; equal steps for all variants.",
        *([protocol["note"]] if protocol["note"] else []),
        f"Figures are mean ± standard deviation over seeds. A difference is taken to the variant's reference, with the "
        f"same seed and on the same images. {content['paper']['note']}",
        f"Made with {versions}.",
    ]


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _main(content: Mapping[str, Any], images: Mapping[str, Any]) -> Section:
    """Return the table of the primary figure on one set, beside the paper's."""
    label, name = images["label"], content["primary"]
    head, rows = ["variant", "parameters", figure_title(name), "difference", "images above the reference"], []
    for row in content["rows"]:
        better = find(row, "difference", label, name, "better")
        ours = [_over_seeds(row, part, label, name) for part in ("images", "difference")]
        rows.append([row_title(row), _or_missing(row["parameters"], "d"), *ours,
                     _or_missing(better, ".0%").replace("%", " %")])  # fmt: skip
    if any(find(row, "paper", label) is not None for row in content["rows"]):
        theirs = find(content, "paper", "sets", label)
        head += [f"paper, {theirs}" if theirs else "paper", "paper's difference"]
        for row, cells in zip(content["rows"], rows, strict=True):
            cells += _paper_cells(content, row, label)
    return Section(set_title(images), [], head, rows)


def _paper_cells(content: Mapping[str, Any], row: Mapping[str, Any], label: str) -> list[str]:
    digits, difference = _paper_digits(content["rows"]), _paper_difference(content, row, label)
    return [_or_missing(find(row, "paper", label), f".{digits}f"), _or_missing(difference, f"+.{digits}f")]


def _or_missing(value: float | None, form: str) -> str:
    return MISSING if value is None else f"{value:{form}}"


def _paper_digits(rows: Iterable[Mapping[str, Any]]) -> int:
    """Return the digits that the paper prints: the most that any of its values has."""
    values = [value for row in rows for value in row["paper"].values() if value is not None]
    return max((len(repr(value).partition(".")[2]) for value in values), default=0)


def _paper_difference(content: Mapping[str, Any], row: Mapping[str, Any], label: str) -> float | None:
    """Return the paper's value less that of the reference; None where the paper lacks one of them."""
    ours, theirs = find(row, "paper", label), find(_reference(content, row), "paper", label)
    return None if ours is None or theirs is None else ours - theirs


def _reference(content: Mapping[str, Any], row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return next((other for other in content["rows"] if other["name"] == row["reference"]), None)


def _over_seeds(row: Mapping[str, Any], part: str, *keys: str) -> str:
    """Return ``mean ± sd`` of a figure over seeds, differences with sign; how many seeds, if not all have it."""
    figure = find(row, part, *keys)
    if find(figure, "mean") is None:
        return MISSING
    spread = "" if figure["sd"] is None else f" ± {number(figure['sd'], keys[-1])}"
    count = f" ({figure['n']} of {len(row['seeds'])} seeds)" if figure["n"] < len(row["seeds"]) else ""
    return number(figure["mean"], keys[-1], "+" if part == "difference" else "") + spread + count


def _others(content: Mapping[str, Any], images: Mapping[str, Any], names: Sequence[str]) -> Section:
    """Return the further figures of one set, each with its difference."""
    head = ["variant"]
    for name in names:
        head += [figure_title(name), "difference"]
    rows = []
    for row in _trained(content):
        pairs = ((_over_seeds(row, part, images["label"], name)) for name in names for part in ("images", "difference"))
        rows.append([row_title(row), *pairs])
    return Section(f"Other figures, {images['title']}", _notes(names), head, rows)


def _notes(names: Sequence[str]) -> list[str]:
    """Return a paragraph on figures that need one."""
    notes = [NOTES[name] for name in names if name in NOTES]
    return [" ".join(notes)] if notes else []


def _grays(content: Mapping[str, Any]) -> Section:
    """Return the table of constant grays or colours."""
    names = content["gray_figures"]
    rows = [[row_title(row), *(_over_seeds(row, "grays", name) for name in names)] for row in _trained(content)]
    heading = "Constant colours" if set(names) <= set(OF_COLOURS) else "Constant grays"
    return Section(heading, _notes(names), ("variant", *map(figure_title, names)), rows)


def _trained(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in content["rows"] if row["seeds"]]


def _every_seed(content: Mapping[str, Any]) -> Section:
    """Return the primary figure of every training and its difference, per set."""
    labels = [images["label"] for images in content["sets"]]
    head = ["variant", "seed"]
    for label in labels:
        head += [label, f"{label}, difference"]
    rows = [_seed_cells(content, row, seed, labels) for row in _trained(content) for seed in row["seeds"]]
    return Section("Every seed", [f"{figure_title(content['primary'])}, and the seconds of training and test."],
                   [*head, "seconds"], rows)  # fmt: skip


def _seed_cells(
    content: Mapping[str, Any], row: Mapping[str, Any], seed: Mapping[str, Any], labels: Sequence[str]
) -> list[str]:
    name, cells = content["primary"], [row["title"], str(seed["seed"])]
    for label in labels:
        difference = _seed_differences(content, row, label).get(seed["seed"])
        cells += [number(find(seed, "images", label, name), name), number(difference, name, "+")]
    return [*cells, _or_missing(seed["seconds"], ".1f")]


def _seed_differences(content: Mapping[str, Any], row: Mapping[str, Any], label: str) -> dict[int, float | None]:
    """Return the primary figure's differences by seed; they are listed for the seeds that the reference has, too."""
    listed = find(row, "difference", label, content["primary"], "per_seed") or []
    partners = [seed["seed"] for seed in find(_reference(content, row), "seeds") or []]
    seeds = [seed["seed"] for seed in row["seeds"]]
    shared = [seed for seed in seeds if seed in partners]
    return dict(zip(seeds if len(listed) == len(seeds) else shared, listed, strict=bool(listed)))


def _variants(content: Mapping[str, Any]) -> Section:
    """Return what each variant is trained with and compared with."""
    rows = []
    for row in content["rows"]:
        reference = _reference(content, row)
        settings = f"`{' '.join(row['settings'])}`" if row["settings"] else MISSING
        rows.append([row["title"], settings, reference["title"] if reference else MISSING])
    return Section("Variants", ["Settings beside those of the study."], ("variant", "settings", "reference"), rows)


def _plot_notes(content: Mapping[str, Any]) -> list[str]:
    name = figure_title(content["primary"])
    notes = (
        f"One panel per set of images: {name}, on an axis that does not start at 0. A large dot is the mean over "
        "seeds, its bar one standard deviation to each side, the small dots to its right are the seeds; the mean is "
        "written above the panel. A dashed line is a reference, as wide as the group of variants compared with it."
    )
    if not has_published(content):
        return [notes]
    return [f"{notes} A hollow diamond is the paper's value: it is of other images, so only the order can be compared."]


def _cells(cells: Cells) -> list[str]:
    """Return cells that cannot break a Markdown table."""
    return [_line(cell).replace("|", r"\|") for cell in cells]


def _line(text: str) -> str:
    return " ".join(text.split())
