"""The methods by name, and their options as a command line or a config states them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from nibkit.classical.block_descent import block_descent
from nibkit.classical.direct_binary_search import direct_binary_search
from nibkit.classical.floyd_steinberg import floyd_steinberg
from nibkit.classical.ostromoukhov import ostromoukhov
from nibkit.classical.pang import pang
from nibkit.classical.void_and_cluster import void_and_cluster
from nibkit.classical.white_noise import white_noise
from nibkit.errors import UserError, choose

Method = Callable[..., Tensor]  # (gray [B, 1, H, W] in [-1, 1], **options) -> -1 or 1, same shape and dtype

METHODS: dict[str, Method] = {
    "white_noise": white_noise,
    "floyd_steinberg": floyd_steinberg,
    "ostromoukhov": ostromoukhov,
    "void_and_cluster": void_and_cluster,
    "dbs": direct_binary_search,
    "pang": pang,
    "block_descent": block_descent,
}
_KINDS = {int: "a whole number", float: "a number"}


def find_method(name: str) -> Method:
    """Return the method called ``name``, or raise :class:`UserError` with the choices."""
    return METHODS[choose("halftoning method", name, METHODS)]


def method_options(name: str) -> dict[str, Any]:
    """Return the options of a method with their defaults, whose types are the options' types."""
    parameters = inspect.signature(find_method(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def parse_options(name: str, settings: Iterable[str]) -> dict[str, Any]:
    """Return the options that ``KEY=VALUE`` settings give to a method; see :func:`check_options`."""
    options = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"'{setting}' is no setting of {name}; write KEY=VALUE{_known(name)}")
        options[key.strip()] = value.strip()
    return check_options(name, options)


def check_options(name: str, options: Mapping[str, object]) -> dict[str, Any]:
    """Return ``options`` with each value, text or typed, in the type of its default.

    Raises:
        UserError: no such method or option, or a value of another type. Ranges are the methods' own business.
    """
    defaults = method_options(name)
    if options and not defaults:
        raise UserError(f"{name} has no options, so '{next(iter(options))}' cannot be set")
    keys = {key: choose(f"option of {name}", key, defaults) for key in options}
    return {key: _typed(name, key, value, defaults[keys[key]]) for key, value in options.items()}


def _typed(name: str, key: str, value: object, default: Any) -> Any:
    """Return ``value`` in the type of ``default``; a number that is not finite is none."""
    kind = type(default)
    try:
        typed = kind(str(value).strip())
    except ValueError:
        typed = math.nan
    if kind is str or math.isfinite(typed):
        return typed
    raise UserError(f"{key}={value} of {name} must be {_KINDS[kind]} (default {default})")


def _known(name: str) -> str:
    """Return the keys of a method for a message."""
    keys = ", ".join(method_options(name))
    return f" with KEY from: {keys}" if keys else ""
