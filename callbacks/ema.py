"""A moving average of the generator's weights, for validation, test and use.

Only the backbone is averaged, buffers included: no discriminator, no metrics. The run goes on with its own weights,
which checkpoints hold as ever; the average lies beside them, under ``nibkit_ema``, and what reads a checkpoint for use
takes it in their place.
"""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from nibkit.checkpoint import AVERAGE
from nibkit.errors import UserError


class GeneratorEMA(pl.Callback):
    """Averages the backbone once per step: average = decay * average + (1 - decay) * weights.

    Args:
        decay: at least 0 and below 1; .999 averages over the last 1,000 steps or so.

    Raises:
        UserError: ``decay`` is out of range.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"callbacks.ema.decay={decay} is out of range; use at least 0 and below 1")
        self.decay = decay
        self.average: dict[str, Tensor] = {}
        self._own: dict[str, Tensor] = {}  # the run's weights, while the average is in their place
        self._step = 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with the weights as they are; a resumed run goes on with its average."""
        weights = _weights(pl_module)
        self.average = {name: self.average.get(name, value).clone().to(value) for name, value in weights.items()}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note where the run begins: a resumed one knows its step only now."""
        self._step = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Follow the weights, once per step whatever the batches in it."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        for name, value in _weights(pl_module).items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - self.decay)
            else:
                self.average[name].copy_(value)  # a counter

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in place."""
        self._swap_in(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the run's weights back, before a checkpoint is saved."""
        self._swap_out(pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in place."""
        self._swap_in(pl_module)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the run's weights back."""
        self._swap_out(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the average beside the weights."""
        if self.average:
            checkpoint[AVERAGE] = {name: value.detach().clone() for name, value in self.average.items()}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the average of what is resumed or tested."""
        self.average = dict(checkpoint.get(AVERAGE, {}))

    @torch.no_grad()
    def _swap_in(self, pl_module: pl.LightningModule) -> None:
        if not self.average:
            return
        weights = _weights(pl_module)
        self._own = {name: value.clone() for name, value in weights.items()}
        for name, value in weights.items():
            value.copy_(self.average[name])

    @torch.no_grad()
    def _swap_out(self, pl_module: pl.LightningModule) -> None:
        for name, value in _weights(pl_module).items() if self._own else ():
            value.copy_(self._own[name])
        self._own = {}


def _weights(pl_module: pl.LightningModule) -> dict[str, Tensor]:
    """Return the backbone's weights and buffers, which share their memory with it."""
    weights: dict[str, Tensor] = pl_module.backbone.state_dict()  # type: ignore[union-attr]
    return weights
