"""Run a study: train its missing cells, collect, write."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from nibkit import multirun
from nibkit.errors import UserError
from nibkit.plots import figure_bytes
from nibkit.reproduce import Options
from nibkit.reproduce.cells import BusyError, Cell, check_data, claim, train
from nibkit.reproduce.collect import collect, read_figures, read_images
from nibkit.reproduce.results import check_folders, check_version, say, write_files
from nibkit.reproduce.studies import STUDIES
from nibkit.reproduce.study import Job, Study, check_names, make_jobs


def table1(options: Options) -> str:
    """Do Table 1; see :func:`run_study`."""
    return run_study(STUDIES["table1"], options)


def table3(options: Options) -> str:
    """Do Table 3; see :func:`run_study`."""
    return run_study(STUDIES["table3"], options)


def figure4(options: Options) -> str:
    """Do Figure 4; see :func:`run_study`."""
    return run_study(STUDIES["figure4"], options)


def figure5(options: Options) -> str:
    """Do Figure 5; see :func:`run_study`."""
    return run_study(STUDIES["figure5"], options)


def run_study(study: Study, options: Options) -> str:
    """Train what is missing, collect the figures of all cells, write table, plot and page; return the Markdown.

    Raises:
        UserError: bad input, told before anything is trained; or a training that failed, after the rest is written.
    """
    jobs = prepare(study, options, study.files)
    problems = train_missing(jobs, options)
    if not any(job.cell.finished for job in jobs):
        raise UserError(f"{study.name}: no cell is trained; {'; '.join(problems) or 'leave out --no-train'}")
    text = write(study, jobs, options)
    if problems:
        raise UserError(f"{'; '.join(problems)}; the other cells are in '{options.out / study.files[0]}'")
    return text


def prepare(study: Study, options: Options, files: Sequence[str]) -> list[Job]:
    """Check all that can be wrong before training; return all jobs of the study, chosen or not.

    Raises:
        UserError: folders, images, settings, or results of another version.
    """
    check_folders(options, files)
    for path in (options.out / name for name in files if name.endswith(".json")):
        if path.exists():
            check_version(path, path, "choose another --out, or move the old results away")
    check_names(study, options.cells)
    if options.launcher and options.train:
        multirun.check_launcher(options.launcher, options.launcher_options)
    jobs = make_jobs(study, options)
    check_data(jobs[0].cell)
    for job in jobs:
        if job.cell.finished:
            check_cell(job.cell)
    return jobs


def check_cell(cell: Cell) -> None:
    """Raise if a finished cell is of another version, or its figures cannot be read."""
    record = cell.folder / "environment.json"
    check_version(cell.folder, record, "choose another --runs, or move that folder away")
    read_images(cell)
    read_figures(cell)


def train_missing(jobs: Sequence[Job], options: Options) -> list[str]:
    """Train the chosen cells that are not finished; return what went wrong, and what others are training."""
    chosen = [job.cell for job in jobs if not options.cells or job.variant.name in options.cells]
    missing = [cell for cell in chosen if not cell.finished] if options.train else []
    if options.launcher and missing:
        return _train_elsewhere(missing, options)
    problems: list[tuple[Cell, str | None]] = []
    for index, cell in enumerate(missing, start=1):
        say(f"training {index} of {len(missing)}: {cell.title} in {cell.folder}")
        try:
            problems.append((cell, train(cell)))
        except BusyError as busy:  # the same command, started twice, shares the cells
            problems.append((cell, str(busy)))
    return [problem for cell, problem in problems if problem and not cell.finished]  # by the other one meanwhile


def _train_elsewhere(cells: Sequence[Cell], options: Options) -> list[str]:
    """Train cells by a Hydra launcher, all at once; this process holds their locks until all have ended."""
    problems: list[str] = []
    mine: list[Cell] = []
    with ExitStack() as locks:
        for cell in cells:
            try:
                locks.enter_context(claim(cell))
                mine += [] if cell.finished else [cell]  # by the process that had it
            except BusyError as busy:
                problems.append(str(busy))
        say(f"training {len(mine)} cells by {options.launcher}")
        outcomes = multirun.launch([cell.overrides() for cell in mine], str(options.launcher), options.launcher_options)
    for cell, outcome in zip(mine, outcomes, strict=True):
        if outcome or not cell.finished:
            problems.append(f"{cell.title}: {outcome or 'did not finish'}, see '{cell.folder / 'run.log'}'")
    return problems


def write(study: Study, jobs: Sequence[Job], options: Options) -> str:
    """Draw everything, then write everything; return the Markdown."""
    from nibkit.reproduce.study_html import page
    from nibkit.reproduce.study_pictures import draw_pictures
    from nibkit.reproduce.study_plot import plot
    from nibkit.reproduce.study_text import markdown

    content = collect(study, jobs, options)
    text, drawn = markdown(content, plot=f"{study.name}.png"), figure_bytes(plot(content))
    html = page(content, [("All figures", drawn), *draw_pictures(study, jobs)])
    write_files(options.out, study.files, text, content, drawn, html)
    return text
