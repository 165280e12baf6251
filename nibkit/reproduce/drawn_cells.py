"""The networks that a figure draws: variants of tables, of the first seed alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nibkit.errors import UserError
from nibkit.reproduce import Options
from nibkit.reproduce.run_study import prepare, train_missing
from nibkit.reproduce.studies import STUDIES
from nibkit.reproduce.study import Job


def drawn_jobs(table: str, variants: Sequence[str], options: Options, files: Sequence[str]) -> list[Job]:
    """Check all that can be wrong before training; return the jobs of these variants of a study, of the first seed.

    Raises:
        UserError: as of :func:`nibkit.reproduce.run_study.prepare`.
    """
    jobs = prepare(STUDIES[table], replace(options, seeds=options.seeds[:1]), files)
    return [job for job in jobs if job.variant.name in variants]


def train_drawn(figure: str, tables: Mapping[str, Sequence[Job]], options: Options) -> None:
    """Train those jobs, given by table, that are missing.

    Raises:
        UserError: a figure needs them all, and some are not trained in the end.
    """
    jobs = [job for those in tables.values() for job in those]
    problems = train_missing(jobs, replace(options, cells=()))
    missing = {table: [job.variant.name for job in those if not job.cell.finished] for table, those in tables.items()}
    needed = [f"of {table} also the cells {', '.join(names)}" for table, names in missing.items() if names]
    if needed:
        raise UserError(f"{figure} needs {', '.join(needed)}: {'; '.join(problems) or 'leave out --no-train'}")
