"""Table 2: photographs from label maps by Pix2Pix and SPADE, with and without NIB.

    train what is missing (table2_cells.py)  ->  judge (table2_judge.py)  ->  collect  ->  table2.md, .json, .png, .html

The segmenter that reads the photographs is trained first, on the same photos, unless one is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nibkit.errors import UserError
from nibkit.plots import figure_bytes
from nibkit.reproduce import Options
from nibkit.reproduce.results import write_files
from nibkit.reproduce.run_study import train_missing
from nibkit.reproduce.study import Job
from nibkit.reproduce.study_html import document
from nibkit.reproduce.study_pictures import png
from nibkit.reproduce.study_text import text
from nibkit.reproduce.table2_cells import check_before, check_finished, make_jobs, segmenter_job
from nibkit.reproduce.table2_collect import collect
from nibkit.reproduce.table2_judge import Judge, make_judge
from nibkit.reproduce.table2_pictures import draw_images, first_trained, sheet
from nibkit.reproduce.table2_plot import plot
from nibkit.reproduce.table2_text import sections

FILES = tuple(f"table2{suffix}" for suffix in (".md", ".json", ".png", ".html"))


def table2(options: Options) -> str:
    """Train what is missing, judge all trained generators, write table, plot and page; return the Markdown.

    Raises:
        UserError: bad input, told before anything is trained; or a training that failed, after the rest is written.
    """
    check_before(options, FILES)
    make_judge(options, options.segmenter)  # what it needs is looked for before hours of training
    jobs = make_jobs(options)
    readers = [] if options.segmenter else [segmenter_job(options)]
    check_finished([*readers, *jobs])
    chosen = [job for job in jobs if not options.cells or job.variant.name in options.cells]
    problems = train_missing([*readers, *chosen], replace(options, cells=()))
    if not any(job.cell.finished for job in jobs):
        raise UserError(f"table2: no cell is trained; {'; '.join(problems) or 'leave out --no-train'}")
    page = _write(jobs, make_judge(options, _segmenter(readers, options)), options)
    if problems:
        raise UserError(f"{'; '.join(problems)}; the other cells are in '{options.out / FILES[0]}'")
    return page


def _segmenter(readers: Sequence[Job], options: Options) -> Path | None:
    """Return the file of the segmenter that was given or trained; None if there is none yet."""
    trained = [job.cell.checkpoint for job in readers if job.cell.finished]
    return trained[0] if trained else options.segmenter


def _write(jobs: Sequence[Job], judge: Judge, options: Options) -> str:
    """Judge and draw everything, then write everything; return the Markdown."""
    content = collect(jobs, judge, options)
    parts, drawn = sections(content), figure_bytes(plot(content))
    shown = first_trained(jobs, options.seeds)
    pictures = [png(sheet(draw_images(shown, judge.data), content["title"]))] if shown else []
    page = text(content["title"], parts, FILES[2])
    captioned = [("Test images, and regions of theirs", picture) for picture in pictures]
    html = document(content["title"], parts, [("What the figures say", drawn)], captioned, content)
    write_files(options.out, FILES, page, content, drawn, html)
    return page
