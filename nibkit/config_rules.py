"""Ranges of the configuration's values, checked before training starts.

A rule returns what is wrong with a value, or nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

Rule = Callable[[Any], str | None]


def whole(minimum: int, maximum: float = math.inf, *, optional: bool = False) -> Rule:
    """Return a rule for whole numbers from ``minimum`` to ``maximum``; ``optional`` allows null."""
    wanted = f"give a whole number of at least {minimum}" + (f" and at most {maximum}" if maximum < math.inf else "")

    def rule(value: Any) -> str | None:
        if value is None and optional:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            return f"has the wrong type; {wanted}" + (" or null" if optional else "")
        return None if minimum <= value <= maximum else f"is out of range; {wanted}"

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


def some_batches(value: Any) -> str | None:
    """Rule of the limit of training: without a batch there is no training."""
    none = isinstance(value, int | float) and not isinstance(value, bool) and value == 0
    return "is out of range; give at least 1, or a share above 0.0" if none else batches(value)


def limit(value: Any) -> str | None:
    """Rule of Lightning's ends of a run: a whole number of at least 1, or -1 for none."""
    problem = whole(-1)(value)
    return "is out of range; give a whole number of at least 1, or -1 for no limit" if value == 0 else problem


def duration(value: Any) -> str | None:
    """Rule of times: DD:HH:MM:SS, or null."""
    if value is None or (isinstance(value, str) and re.fullmatch(r"\d+:\d\d:\d\d:\d\d", value)):
        return None
    return "is no time; write DD:HH:MM:SS, such as 00:01:30:00 for an hour and a half, or null"


def devices(value: Any) -> str | None:
    """Rule of Lightning's devices: how many, which ones, or auto."""
    if isinstance(value, str):
        listed = re.fullmatch(r"\d+(,\d+)*,?", value)
        return None if value == "auto" or listed else "is unknown; give a number of devices, a list of them, or auto"
    if isinstance(value, Sequence):
        numbers = value and all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in value)
        return None if numbers else "is out of range; list device numbers of at least 0"
    if not isinstance(value, int) or isinstance(value, bool):
        return "has the wrong type; give a number of devices, a list of them, or auto"
    return None if value >= 1 or value == -1 else "is out of range; give at least 1, or -1 or auto for all"


def size(value: Any) -> str | None:
    """Rule of sizes: [height, width] in pixels; null is allowed where the data allow it."""
    sides = isinstance(value, Sequence) and len(value) == 2 and all(isinstance(v, int) and v > 0 for v in value)
    return None if value is None or sides else "is no size; write [HEIGHT,WIDTH] in pixels, such as [256,256]"


def class_number(value: Any) -> str | None:
    """Rule of the number of classes, which only the owner of the labels knows."""
    return "is not set; give the number of classes in the label files" if value is None else whole(1, 255)(value)


def text(value: Any) -> str | None:
    """Rule of names and paths; null is allowed."""
    return None if value is None or isinstance(value, str) else f"has the wrong type; give a text, such as '{value}'"


_POSITIVE = number(0, above=True)
_WEIGHT = number(0)
_SEED = whole(0, 2**32 - 1)

RULES: dict[str, Rule] = {
    "seed": _SEED,
    **dict.fromkeys(("run_dir", "run_id", "ckpt_path", "input", "output"), text),
    **dict.fromkeys(("data.root", "data.train", "data.home"), text),
    "data.split_seed": whole(0),
    "data.crop_size": whole(11),
    "data.batch_size": whole(1),
    "data.num_workers": whole(0),
    "data.cache_mb": number(0),
    "data.samples_per_epoch": whole(1, optional=True),
    "data.val_crop": whole(11, optional=True),
    "data.val_images": whole(1, optional=True),
    "data.test_images": whole(1, optional=True),
    "data.test_crop": whole(11, optional=True),
    "data.num_classes": class_number,
    "data.void_id": whole(0, 255, optional=True),
    "data.size": size,
    "data.load_size": size,
    "backbone.in_channels": whole(1),
    "backbone.out_channels": whole(1),
    "backbone.width": whole(1),
    "backbone.blocks": whole(1),
    "backbone.latent": whole(1),
    "backbone.hidden": whole(1),
    "backbone.ups": whole(5, 6),
    "backbone.downs": whole(5),
    "backbone.dropout": number(0, 0.99),
    "backbone.nib_place": one_of("branches", "map", "first"),
    "discriminator.width": whole(1),
    "discriminator.layers": whole(1),
    "discriminator.scales": whole(1),
    "backbone.train_margin": whole(0),
    "backbone.padding": one_of("extend", "zeros"),
    "nib.form": one_of("symmetric", "impulse", "feature", "additive", "none"),
    "nib.noise": one_of("stationary", "dynamic", "blue", "grid"),
    "nib.distribution": one_of("normal", "uniform", "bernoulli"),
    "nib.scale": _POSITIVE,
    "nib.seed": _SEED,
    "nib.start": one_of("random", "quiet"),
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
    "task.reconstruction_weight": _WEIGHT,
    "task.l1_weight": _WEIGHT,
    "task.contrast_weight": _WEIGHT,
    "task.gan_loss": one_of("hinge", "least_squares", "bce"),
    **dict.fromkeys(("task.adversarial_weight", "task.discriminator_weight"), _WEIGHT),
    **dict.fromkeys(("task.feature_matching_weight", "task.perceptual_weight"), _WEIGHT),
    "task.discriminator_optimizer.lr": _POSITIVE,
    "task.lightness_weight": _WEIGHT,
    "task.lightness_tolerance": number(0, 2),
    "task.likeness_weight": _WEIGHT,
    "task.quantization_weight": _WEIGHT,
    "task.second_stage.start": number(0, 1),
    "task.rounding": one_of("straight_through", "noise", "none"),
    "task.flats": whole(0),
    "task.vgg_weights": text,
    "task.optimizer.lr": _POSITIVE,
    "task.schedule.name": one_of("constant", "cosine", "plateau", "polynomial"),
    "task.schedule.warmup": whole(0),
    "task.schedule.final": number(0, 1),
    "task.schedule.patience": whole(0),
    "task.schedule.factor": number(0, 1, above=True),
    "task.schedule.power": _POSITIVE,
    "task.schedule.hold": number(0, 1),
    "trainer.max_steps": limit,
    "trainer.max_epochs": limit,
    "trainer.max_time": duration,
    "trainer.devices": devices,
    "trainer.limit_train_batches": some_batches,
    "trainer.limit_val_batches": batches,
    "trainer.limit_test_batches": batches,
    "trainer.val_check_interval": number(0, above=True),
    "trainer.log_every_n_steps": whole(1),
    "trainer.accumulate_grad_batches": whole(1),
    "trainer.num_nodes": whole(1),
}
