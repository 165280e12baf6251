"""nibkit: train, measure and use image-generation CNNs that do not go flat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nibkit.layers import flatness
    from nibkit.retrofit import equip, held_noise, nib_weights, unequip

__version__ = "0.1.0"
__all__ = ["equip", "flatness", "held_noise", "nib_weights", "unequip"]

_HOMES = {
    "equip": "retrofit",
    "unequip": "retrofit",
    "nib_weights": "retrofit",
    "held_noise": "retrofit",
    "flatness": "layers",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: torch takes seconds, and ``nibkit --help`` needs none of it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nibkit' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"nibkit.{_HOMES[name]}"), name)
