"""The closing report: metrics.json, images.json, and a table beside the classics on the same images."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.table import Table

from nibkit.classical import floyd_steinberg, white_noise
from nibkit.color import luminance
from nibkit.files import write_json
from nibkit.metrics import HalftoneMetrics

log = logging.getLogger(__name__)
BASELINES = {"white_noise": white_noise, "floyd_steinberg": floyd_steinberg}
TITLES = {"white_noise": "white-noise threshold", "floyd_steinberg": "Floyd-Steinberg"}


class Report(pl.Callback):
    """Writes every test figure to ``metrics.json``, those of each image to ``images.json``, and prints the table.

    Args:
        run_dir: the run folder.
        baselines: judge the classics on the same test images; only for a task that makes halftones.
    """

    def __init__(self, run_dir: str, baselines: bool = True) -> None:
        self.run_dir = Path(run_dir)
        self.figures: dict[str, float | None] = {}  # of the last test, to be printed
        self.suites = {name: HalftoneMetrics() for name in BASELINES} if baselines else {}

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the classics out where the task makes no halftones."""
        if not getattr(pl_module, "makes_halftones", True):
            self.suites = {}

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Halftone the batch by the classics, as the tasks do: constant colours are left out."""
        if batch["set"][0] == "colour":
            return
        gray = luminance(batch["image"]).float()
        target = (gray[:, 0, 0, 0] + 1) / 2 if "level" in batch else gray
        for name, suite in self.suites.items():
            suite.update(batch["set"][0], BASELINES[name](gray).to(gray.device), target)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the figures of each image, before the task starts its metrics anew; all ranks collect, one writes."""
        if not hasattr(pl_module, "image_figures"):
            return
        every = pl_module.image_figures("test")  # type: ignore[operator]
        if trainer.is_global_zero:
            plain = {set_name: {image: _plain(v) for image, v in values.items()} for set_name, values in every.items()}
            write_json(self.run_dir / "images.json", plain)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Collect and write."""
        figures = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
        for baseline, suite in self.suites.items():
            figures |= {f"{baseline}/{name}": value for name, value in suite.compute().items()}
            suite.reset()
        if trainer.is_global_zero:
            plain = _plain(figures)
            write_json(self.run_dir / "metrics.json", plain)
            self.figures = plain

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Print the table, once the progress bar has left the screen."""
        if self.figures:
            self._print(self.figures)
            self.figures = {}

    def _print(self, figures: dict[str, float | None]) -> None:
        """Print the table and where the pictures are."""
        names = [name.removeprefix("test/") for name in figures if name.startswith("test/")]
        console = Console(width=max(100, Console().width))
        table = Table(title=f"test ({self.run_dir})", title_justify="left")
        columns = {"network": "test", **{TITLES[name]: name for name in self.suites}}
        for title in ("figure", *columns):
            table.add_column(title, justify="left" if title == "figure" else "right")
        for name in names:
            table.add_row(name, *(_cell(figures.get(f"{column}/{name}")) for column in columns.values()))
        with console.capture() as printed:
            console.print(table)
        log.info("\n%s", printed.get())
        log.info("pictures: %s   figures: %s", self.run_dir / "samples", self.run_dir / "metrics.json")


def _plain(values: Mapping[str, Any]) -> dict[str, float | None]:
    """Return figures as plain numbers."""
    return {name: _number(value) for name, value in values.items()}


def _number(value: Any) -> float | None:
    """Return a plain number; NaN (a figure that does not exist) becomes null."""
    number = float(value)
    return number if math.isfinite(number) else None


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if abs(value) < 1 else f"{value:.2f}"
