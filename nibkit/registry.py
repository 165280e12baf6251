"""The registries of networks: a name, a class, nothing else.

    @register_backbone("my_net")
    class MyNet(Backbone): ...

Registering buys the config key ``backbone.name=my_net`` and the NIB in front; in this repository also the
tests that run over the whole registry. Discriminators are registered alike.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from nibkit.errors import UserError, choose, suggestion
from nibkit.nib import NIB
from nibkit.plugins import import_plugins

if TYPE_CHECKING:
    from torch import nn

    from nibkit.backbones.base import Backbone

N = TypeVar("N", bound="nn.Module")
T = TypeVar("T", bound="type[nn.Module]")


class Registry(Generic[N]):
    """Networks of a kind by name.

    Args:
        kind: for messages, and the config group.
        package: that holds nibkit's own, which register when it is imported; when asked for, since they import this
            module.
        given: arguments that no config gives.
    """

    def __init__(self, kind: str, package: str, given: tuple[str, ...] = ()) -> None:
        self.kind, self.package, self.given = kind, package, given
        self.classes: dict[str, type[N]] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers a class under ``name``; a name is given once.

        Raises:
            ValueError: the name is taken; the message names the first place.
        """

        def register(cls: T) -> T:
            first = self.classes.get(name)
            # the same class again, from a reloaded module, is no clash
            if first is not None and (first.__module__, first.__qualname__) != (cls.__module__, cls.__qualname__):
                where = f"{first.__module__}.{first.__qualname__}"
                raise ValueError(f"{self.kind} '{name}' is already registered by {where}")
            self.classes[name] = cls  # type: ignore[assignment]
            return cls

        return register

    def names(self) -> list[str]:
        """Return the registered names, nibkit's own and those of installed plug-ins, sorted."""
        import_module(self.package)
        import_plugins()
        return sorted(self.classes)

    def build(self, spec: Mapping[str, Any], **given: Any) -> N:
        """Build a network from plain values, as configs and checkpoints hold them.

        Args:
            spec: ``name`` and the arguments of the class.
            given: further arguments, those that no config gives.

        Raises:
            UserError: unknown name or argument, with the choices.
        """
        self.names()
        arguments = dict(spec)
        cls = self.classes[choose(self.kind, arguments.pop("name", None), self.classes)]
        accepted = [name for name in inspect.signature(cls).parameters if name not in self.given]
        for key in arguments:
            if key not in accepted:
                raise UserError(
                    f"{self.kind} '{spec['name']}' has no option '{key}'{suggestion(key, accepted)}; "
                    f"choose from: {', '.join(accepted)}"
                )
        return cls(**arguments, **given)


_BACKBONES: Registry[Backbone] = Registry("backbone", "nibkit.backbones", given=("nib",))
_DISCRIMINATORS: Registry[nn.Module] = Registry("discriminator", "nibkit.discriminators", given=("in_channels",))


def register_backbone(name: str) -> Callable[[T], T]:
    """Register a backbone class under ``name``; see :meth:`Registry.register`."""
    return _BACKBONES.register(name)


def register_discriminator(name: str) -> Callable[[T], T]:
    """Register a discriminator class under ``name``; see :meth:`Registry.register`."""
    return _DISCRIMINATORS.register(name)


def backbone_names(tileable: bool = False) -> list[str]:
    """Return the registered names, sorted; ``tileable``: only of networks that see surroundings, not the whole."""
    return [name for name in _BACKBONES.names() if not tileable or _BACKBONES.classes[name].tileable]


def discriminator_names() -> list[str]:
    """Return the registered names, sorted."""
    return _DISCRIMINATORS.names()


def build_backbone(spec: Mapping[str, Any], nib: Mapping[str, Any]) -> Backbone:
    """Build a network from plain values, as configs and checkpoints hold them.

    Args:
        spec: ``name`` and the arguments of the class.
        nib: the config group ``nib``; see :func:`nibkit.nib.make_stem`.

    Raises:
        UserError: unknown name or argument, with the choices.

    Examples:
        >>> network = build_backbone({"name": "resnet", "width": 8, "blocks": 2}, nib={"form": "symmetric"})
        >>> type(network).__name__, network.margin
        ('ResNet', 4)
        >>> build_backbone({"name": "resnt"}, nib={"form": "none"})
        Traceback (most recent call last):
        nibkit.errors.UserError: unknown backbone 'resnt' (did you mean 'resnet'?); choose from: ...
    """
    network = _BACKBONES.build(spec, nib=nib)
    for module in network.modules():
        if isinstance(module, NIB):
            module.begin()
    return network


def build_discriminator(spec: Mapping[str, Any], in_channels: int) -> nn.Module:
    """Build a discriminator from plain values.

    Args:
        spec: ``name`` and the arguments of the class.
        in_channels: of condition and image together.

    Raises:
        UserError: unknown name or argument, with the choices.
    """
    return _DISCRIMINATORS.build(spec, in_channels=in_channels)
