"""Learning-rate schedules, chosen by plain values so that checkpoints hold them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from nibkit.errors import UserError, choose

SCHEDULES = ("constant", "cosine", "plateau", "polynomial")


def make_schedule(
    optimizer: Optimizer,
    name: str = "cosine",
    warmup: int = 0,
    final: float = 0.01,
    patience: int = 3,
    factor: float = 0.5,
    power: float = 0.9,
    hold: float = 0.0,
    *,
    total_steps: float,
) -> LRScheduler | ReduceLROnPlateau:
    """Return a scheduler; all but ``plateau`` are stepped once per training step.

    Args:
        optimizer: whose rate is scheduled.
        name: ``constant``, ``cosine`` or ``polynomial`` (down to ``final`` of the rate at the last step), or
            ``plateau``.
        warmup: steps of linear warm-up; not for ``plateau``.
        final: last rate of ``cosine`` and ``polynomial``, as a share of the first.
        patience: validations without progress before ``plateau`` lowers the rate.
        factor: by which it does.
        power: of ``polynomial``, final + (1 - final) (1 - done)^power.
        hold: share of the steps before ``cosine`` and ``polynomial`` begin to fall.
        total_steps: of the run; infinite (a run bounded by time only) makes these two constant.
    """
    if choose("task.schedule.name", name, SCHEDULES) == "plateau":
        return ReduceLROnPlateau(optimizer, factor=factor, patience=patience)
    if warmup < 0 or not 0 <= final <= 1:
        raise UserError(f"task.schedule: warmup={warmup} must be at least 0 and final={final} within 0 and 1")
    if power <= 0:
        raise UserError(f"task.schedule.power={power} must be above 0")
    if not 0 <= hold < 1:
        raise UserError(f"task.schedule.hold={hold} must be at least 0 and below 1")

    def share(step: int) -> float:
        rise = min(1.0, (step + 1) / (warmup + 1))
        if name == "constant" or math.isinf(total_steps):
            return rise
        done = max(0.0, min(1.0, step / max(1, total_steps)) - hold) / (1 - hold)
        left = (1 - done) ** power if name == "polynomial" else (1 + math.cos(math.pi * done)) / 2
        return rise * (final + (1 - final) * left)

    return LambdaLR(optimizer, share)


def check_schedule(spec: Mapping[str, Any]) -> None:
    """Raise for an unknown schedule or option, or a value out of range, before training starts."""
    choose("task.schedule.name", spec.get("name", "cosine"), SCHEDULES)
    for key in spec:
        choose("option of task.schedule", key, ("name", "warmup", "final", "patience", "factor", "power", "hold"))
    make_schedule(SGD([torch.zeros(1)], lr=1.0), **spec, total_steps=1)
