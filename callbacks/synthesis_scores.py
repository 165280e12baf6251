"""Figures of generated photographs in a test: distances of their distribution, segmentation, texture."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from nibkit.metrics.synthesis import SynthesisMetrics, make_metrics

log = logging.getLogger(__name__)


class SynthesisScores(pl.Callback):
    """Judges the photographs that a task's test gives; the networks that judge are no part of the task.

    Args:
        metrics: the config section ``metrics``; see :func:`nibkit.metrics.synthesis.make_metrics`.

    Raises:
        UserError: weights that are asked for are not there.
    """

    def __init__(self, metrics: Mapping[str, Any]) -> None:
        self.spec = metrics
        self.metrics: SynthesisMetrics | None = None

    def prepare(self, data: Any) -> None:
        """Look for all weights; called before anything is written."""
        self.metrics, notes = make_metrics(self.spec, data)
        for note in notes:
            log.info("metrics: %s", note)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start anew, where the task computes."""
        if self.metrics is None:
            self.prepare(trainer.datamodule)  # type: ignore[attr-defined]
        assert self.metrics is not None
        self.metrics.reset()
        self.metrics.to(pl_module.device)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Judge the photographs of a batch."""
        if isinstance(outputs, Tensor) and self.metrics is not None:
            self.metrics.update(outputs, batch)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the figures; every rank computes, so they are of all ranks."""
        if self.metrics is not None:
            pl_module.log_dict({f"test/{name}": value.float() for name, value in self.metrics.compute().items()})
