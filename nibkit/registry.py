"""The registry of backbones: a name, a class, nothing else.

    @register_backbone("my_net")
    class MyNet(Backbone): ...

Registering buys the config key ``backbone.name=my_net`` and the NIB in front; in this repository also the
tests that run over the whole registry.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from nibkit.errors import UserError, choose, suggestion
from nibkit.nib import NIB

if TYPE_CHECKING:
    from nibkit.backbones.base import Backbone

_BACKBONES: dict[str, type[Backbone]] = {}
B = TypeVar("B", bound="type[Backbone]")


def register_backbone(name: str) -> Callable[[B], B]:
    """Register a backbone class under ``name``; a name is given once.

    Raises:
        ValueError: the name is taken; the message names the first place.
    """

    def register(cls: B) -> B:
        first = _BACKBONES.get(name)
        # the same class again, from a reloaded module, is no clash
        if first is not None and (first.__module__, first.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"backbone '{name}' is already registered by {first.__module__}.{first.__qualname__}")
        _BACKBONES[name] = cls
        return cls

    return register


def _register_shipped() -> None:
    """Import nibkit's own backbones; when asked for, since they import this module."""
    import nibkit.backbones  # noqa: F401


def backbone_names() -> list[str]:
    """Return the registered names, sorted."""
    _register_shipped()
    return sorted(_BACKBONES)


def build_backbone(spec: Mapping[str, Any], nib: Mapping[str, Any]) -> Backbone:
    """Build a network from plain values, as configs and checkpoints hold them.

    Args:
        spec: ``name`` and the arguments of the class.
        nib: the config group ``nib``; see :func:`nibkit.nib.make_stem`.

    Raises:
        UserError: unknown name or argument, with the choices.
    """
    _register_shipped()
    arguments = dict(spec)
    cls = _BACKBONES[choose("backbone", arguments.pop("name", None), _BACKBONES)]
    accepted = [name for name in inspect.signature(cls).parameters if name != "nib"]
    for key in arguments:
        if key not in accepted:
            raise UserError(
                f"backbone '{spec['name']}' has no option '{key}'{suggestion(key, accepted)}; "
                f"choose from: {', '.join(accepted)}"
            )
    network = cls(nib=nib, **arguments)
    for module in network.modules():
        if isinstance(module, NIB):
            module.begin()
    return network
