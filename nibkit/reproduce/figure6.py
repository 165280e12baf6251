"""Figure 6: photographs from label maps with and without NIB, their large regions enlarged; by Table 2's networks."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from nibkit import __version__
from nibkit.errors import UserError
from nibkit.reproduce import Options
from nibkit.reproduce.results import write_files
from nibkit.reproduce.run_study import train_missing
from nibkit.reproduce.study import Job
from nibkit.reproduce.study_html import document
from nibkit.reproduce.study_pictures import png
from nibkit.reproduce.study_text import Section, text
from nibkit.reproduce.table2_cells import check_before, check_finished, make_jobs
from nibkit.reproduce.table2_collect import command
from nibkit.reproduce.table2_pictures import Pictures, draw_images, drawn_data, first_trained, region_deviation, sheet

TITLE = "Figure 6: photographs from label maps, with and without NIB"
FILES = tuple(f"figure6{suffix}" for suffix in (".md", ".json", ".png", ".html"))


def figure6(options: Options) -> str:
    """Train the networks of the first seed that are missing, draw test images, write the figure; return the Markdown.

    Raises:
        UserError: bad input, or no generator that is trained with and without NIB.
    """
    check_before(options, FILES)
    jobs = make_jobs(options)
    check_finished(jobs)
    first = [job for job in jobs if job.cell.seed == options.seeds[0]]
    known = {job.variant.group for job in first_trained(jobs, options.seeds)}
    problems = train_missing([job for job in first if job.variant.group not in known], replace(options, cells=()))
    shown = first_trained(jobs, options.seeds)
    if not shown:
        raise UserError("figure6: no generator of table2 is trained with and without NIB on one seed; "
                        f"{'; '.join(problems) or 'leave out --no-train'}")  # fmt: skip
    page = _write(shown, options)
    if problems:
        raise UserError(f"{'; '.join(problems)}; the other networks are in '{options.out / FILES[0]}'")
    return page


def _write(jobs: Sequence[Job], options: Options) -> str:
    """Draw everything, then write everything; return the Markdown."""
    images = draw_images(jobs, drawn_data(options))
    content = _content(images, jobs, options)
    picture, parts = png(sheet(images, TITLE)), _sections(content)
    page = text(TITLE, parts, FILES[2])
    html = document(TITLE, parts, [], [("Test images, and regions of theirs", picture)], content)
    write_files(options.out, FILES, page, content, picture, html)
    return page


def _content(images: Sequence[Pictures], jobs: Sequence[Job], options: Options) -> dict[str, Any]:
    """Return plain values."""
    rows = [
        {"image": pictures.name, **region._asdict(),
         "deviation": {title: region_deviation(region, image) for title, image in pictures.columns[1:]}}
        for pictures in images
        for region in pictures.regions
    ]  # fmt: skip
    return {
        "experiment": "figure6",
        "title": TITLE,
        "networks": [{"title": job.variant.title, "seed": job.cell.seed} for job in jobs],
        "protocol": {"scale": options.scale, "command": command("figure6", options)},
        "versions": {"nibkit": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "rows": rows,
    }


def _sections(content: dict[str, Any]) -> list[Section]:
    networks = ", ".join(f"{each['title']} (seed {each['seed']})" for each in content["networks"])
    rows = content["rows"]
    introduction = [
        f"`{content['protocol']['command']}`, of [Table 2](table2.md): {networks}.",
        "Per test image the label map, what each network makes of it, and the photo; below, its largest classes, each "
        "where it is most uniform, enlarged. The images are spread evenly over the test set.",
    ]
    columns = list(rows[0]["deviation"]) if rows else []
    cells = [
        [f"{row['image']}: {row['name']}", *(f"{row['deviation'][column]:.2f}" for column in columns)] for row in rows
    ]
    note = (
        "Standard deviation of luminance in the enlarged squares, in 8-bit levels, the plane that fits best subtracted."
    )
    return [Section("", introduction), Section("Deviation in the regions", [note], ("region", *columns), cells)]
