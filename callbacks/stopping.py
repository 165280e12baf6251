"""A run that ends early still validates, so that a best checkpoint exists."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl


class ValidateAtEnd(pl.Callback):
    """Asks for a last validation when ``max_steps`` or ``max_epochs`` ends the run between two.

    Lightning validates after a batch that asks to stop (as its timer for ``max_time`` does), but not when a
    limit is simply reached.
    """

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Stop by asking when this batch is the last."""
        last_step = 0 <= trainer.max_steps <= trainer.global_step
        epochs = trainer.max_epochs if trainer.max_epochs is not None else -1
        last_epoch = 0 <= epochs <= trainer.current_epoch + 1 and trainer.is_last_batch
        if last_step or last_epoch:
            trainer.should_stop = True
