"""The log of figures as CSV, which a run that is resumed goes on with."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from nibkit.files import whole_file

Row = dict[str, str]


class CSVLog(CSVLogger):
    """Lightning's, except that the rows of a run that goes on stay, up to where it goes on.

    Args:
        first_step: of the run as it is resumed; rows of later steps, which come again, are dropped.
        settings: of Lightning's logger.
    """

    def __init__(self, first_step: int = 0, **settings: Any) -> None:
        super().__init__(**settings)
        self._first_step = first_step

    @property
    @rank_zero_experiment
    def experiment(self) -> _Writer:
        """The writer; the first call drops the rows that come again."""
        if self._experiment is None:
            self._experiment = _Writer(self.log_dir, self._first_step)
        return self._experiment  # type: ignore[return-value]

    def forget_validation(self, step: int) -> None:
        """Drop the row of the validation at a step, which is made again."""
        self.experiment.drop(lambda row: int(row["step"]) == step and any(map(row.get, filter(_of_validation, row))))


class _Writer(ExperimentWriter):
    """Lightning's, except that it keeps what is there, and that a kill at any moment costs no row."""

    def __init__(self, log_dir: str, end: int) -> None:
        super().__init__(log_dir)
        self._path = Path(self.metrics_file_path)
        self.drop(lambda row: int(row["step"]) >= end)

    def drop(self, which: Callable[[Row], bool]) -> None:
        """Keep the rows of the file that are not so."""
        header, rows = _read(self._path)
        kept = [row for row in rows if not which(row)]
        self.metrics_keys = header if kept else []
        if kept:
            _write(self._path, header, kept)
        else:
            self._path.unlink(missing_ok=True)

    def _check_log_dir_exists(self) -> None:
        """Leave the file where it is; Lightning deletes it."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        _write(self._path, fieldnames, _read(self._path)[1])


def _of_validation(name: str) -> bool:
    return name.startswith("val/")


def _read(path: Path) -> tuple[list[str], list[Row]]:
    """Return the header and the rows, without a last one that was not written to its end."""
    if not path.is_file():
        return [], []
    lines = path.read_text().splitlines(keepends=True)
    table = csv.DictReader(line for line in lines if line.endswith("\n"))
    rows = list(table)
    return list(table.fieldnames or []), rows


def _write(path: Path, header: list[str], rows: list[Row]) -> None:
    with whole_file(path) as partial, partial.open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=header)
        table.writeheader()
        table.writerows(rows)
