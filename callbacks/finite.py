"""A loss that is no number ends the run before it reaches the weights that are kept."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor, distributed

from nibkit.errors import Stopped
from nibkit.ranks import of_all_ranks, world_size

LAG = 2  # losses that a GPU may be behind


class _Verdict(NamedTuple):
    step: int
    bad: Tensor  # 0, or the number of ranks from the first bad one on
    event: Any  # of a GPU: the verdict has arrived
    terms: dict[str, Tensor]


class StopOnNaN(pl.Callback):
    """Ends the run at the first loss that is NaN or infinite, on all ranks.

    On the CPU before the step is applied. A GPU is not waited for: the run ends some losses later, at the same one on
    all ranks; before a checkpoint is written all verdicts are in, so that no bad step is ever saved.
    """

    def __init__(self) -> None:
        self._verdicts: deque[_Verdict] = deque()

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Judge a loss."""
        bad = (~loss.detach().isfinite()).long() * (trainer.world_size - trainer.global_rank)
        if world_size() > 1:
            distributed.all_reduce(bad, distributed.ReduceOp.MAX)
        event = None
        if bad.is_cuda:
            bad = bad.to("cpu", non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self._verdicts.append(_Verdict(trainer.global_step, bad, event, getattr(pl_module, "last_terms", {})))
        self._read(trainer, lag=LAG if event else 0)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save nothing that a bad step has changed."""
        self._read(trainer, lag=0)

    def _read(self, trainer: pl.Trainer, lag: int) -> None:
        """Read all verdicts but the last ``lag``."""
        while len(self._verdicts) > lag:
            verdict = self._verdicts.popleft()
            if verdict.event is not None:
                verdict.event.synchronize()
            if int(verdict.bad):
                said = of_all_ranks(_message(trainer, verdict))[trainer.world_size - int(verdict.bad)]
                raise Stopped(said if trainer.is_global_zero else "", 1)


def _message(trainer: pl.Trainer, verdict: _Verdict) -> str:
    where = f" of rank {trainer.global_rank}" if trainer.world_size > 1 else ""
    terms = ", ".join(f"{name} {float(term):.4g}" for name, term in verdict.terms.items())
    return (
        f"the loss{where} is not finite at step {verdict.step + 1}{f' ({terms})' if terms else ''}; the step is in "
        "no checkpoint: go on from last.ckpt (ckpt_path=auto), with a lower task.optimizer.lr say"
    )
