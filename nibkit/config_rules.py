"""Ranges of the configuration's values, checked before training starts.

A rule returns what is wrong with a value, or nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Rule = Callable[[Any], str | None]


def whole(minimum: int, *, optional: bool = False) -> Rule:
    """Return a rule for whole numbers of at least ``minimum``; ``optional`` allows null."""

    def rule(value: Any) -> str | None:
        if value is None and optional:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            return f"has the wrong type; give a whole number of at least {minimum}" + (" or null" if optional else "")
        return None if value >= minimum else f"is out of range; give a whole number of at least {minimum}"

    return rule


def number(minimum: float, maximum: float = math.inf, *, above: bool = False) -> Rule:
    """Return a rule for numbers from ``minimum`` (``above``: not itself) to ``maximum``."""
    bound = f"above {minimum:g}" if above else f"of at least {minimum:g}"
    wanted = f"give a number {bound}" + (f" and at most {maximum:g}" if maximum < math.inf else "")

    def rule(value: Any) -> str | None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return f"has the wrong type; {wanted}"
        inside = (value > minimum if above else value >= minimum) and value <= maximum and math.isfinite(value)
        return None if inside else f"is out of range; {wanted}"

    return rule


def one_of(*choices: str) -> Rule:
    """Return a rule for names."""

    def rule(value: Any) -> str | None:
        return None if value in choices else f"is unknown; choose from: {', '.join(choices)}"

    return rule


def batches(value: Any) -> str | None:
    """Rule of Lightning's limits: a whole number of batches, or a share of them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "has the wrong type; give a whole number of batches, or a share between 0.0 and 1.0"
    if (isinstance(value, float) and not 0 <= value <= 1) or value < 0:
        return "is out of range; give a whole number of batches, or a share between 0.0 and 1.0"
    return None


_POSITIVE = number(0, above=True)
_WEIGHT = number(0)
_LIMIT = whole(-1)

RULES: dict[str, Rule] = {
    "seed": whole(0),
    "data.crop_size": whole(11),
    "data.batch_size": whole(1),
    "data.num_workers": whole(0),
    "data.samples_per_epoch": whole(1, optional=True),
    "data.val_crop": whole(11, optional=True),
    "data.test_crop": whole(11, optional=True),
    "backbone.in_channels": whole(1),
    "backbone.out_channels": whole(1),
    "backbone.width": whole(1),
    "backbone.blocks": whole(1),
    "backbone.train_margin": whole(0),
    "backbone.padding": one_of("extend", "zeros"),
    "nib.form": one_of("symmetric", "impulse", "feature", "none"),
    "nib.noise": one_of("stationary", "dynamic", "grid"),
    "nib.distribution": one_of("normal", "uniform", "bernoulli"),
    "nib.scale": _POSITIVE,
    "nib.seed": whole(0),
    "nib.channels": whole(1, optional=True),
    "task.estimator": one_of("relaxed", "straight_through", "per_pixel"),
    "task.sigma": _POSITIVE,
    "task.tone_padding": one_of("valid", "zero", "reflect"),
    "task.tone_weight": _WEIGHT,
    "task.flat_tone_weight": _WEIGHT,
    "task.structure_weight": _WEIGHT,
    "task.blue_noise_weight": _WEIGHT,
    "task.blue_noise_band": one_of("low", "high"),
    "task.binarization_weight": _WEIGHT,
    "task.optimizer.lr": _POSITIVE,
    "task.schedule.name": one_of("constant", "cosine", "plateau"),
    "task.schedule.warmup": whole(0),
    "task.schedule.final": number(0, 1),
    "task.schedule.patience": whole(0),
    "task.schedule.factor": number(0, 1, above=True),
    "trainer.max_steps": _LIMIT,
    "trainer.max_epochs": _LIMIT,
    "trainer.limit_train_batches": batches,
    "trainer.limit_val_batches": batches,
    "trainer.limit_test_batches": batches,
    "trainer.val_check_interval": number(0, above=True),
    "trainer.log_every_n_steps": whole(1),
    "trainer.accumulate_grad_batches": whole(1),
    "trainer.num_nodes": whole(1),
}
