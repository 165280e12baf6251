"""Draws that belong to no sample, such as torch's own dropout in a network of yours, are fixed by the step."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch

from nibkit.draws import training_key


class StepSeeds(pl.Callback):
    """Seeds torch's global generator at each training batch by (seed, batch, rank).

    So a run that is resumed draws what the run that was stopped would have drawn.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Seed."""
        key = training_key(self.seed, trainer.fit_loop.total_batch_idx, trainer.global_rank)
        torch.default_generator.manual_seed(key)  # torch.manual_seed takes a millisecond where CUDA is not in use
        if pl_module.device.type == "cuda":
            torch.cuda.manual_seed(key)
