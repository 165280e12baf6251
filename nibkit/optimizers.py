"""Optimizers from plain values, in the fastest form that torch has of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import hydra
from torch import nn
from torch.optim import Optimizer

FUSED_ON = ("cpu", "cuda")  # kinds of device that torch has one kernel for a whole step of Adam and SGD on
FORMS = ("fused", "foreach", "capturable", "differentiable")  # of which a user's own choice stays


def make_optimizer(spec: Mapping[str, Any], weights: Iterable[nn.Parameter]) -> Optimizer:
    """Make an optimizer of ``weights``, fused where torch can and ``spec`` does not choose its form.

    A fused step rounds as the plain one does but for the last bit, and costs a small network a tenth of its time.

    Args:
        spec: ``_target_`` and arguments of a torch optimizer.
        weights: what it shall change.
    """
    chosen, weights = dict(spec), list(weights)
    fused = not chosen.keys() & set(FORMS) and all(weight.device.type in FUSED_ON for weight in weights)
    if fused and "fused" in _arguments(chosen):
        chosen["fused"] = True
    optimizer: Optimizer = hydra.utils.instantiate(chosen, params=weights)
    # else Lightning refuses to clip under float16: a fused step would take the loss's scale off by itself
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return optimizer


def _arguments(spec: Mapping[str, Any]) -> Iterable[str]:
    """Return the names of the arguments that the optimizer takes; none of what cannot be found, which Hydra tells."""
    try:
        return inspect.signature(hydra.utils.get_object(str(spec["_target_"]))).parameters
    except (KeyError, ImportError, TypeError, ValueError):
        return ()
