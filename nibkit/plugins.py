"""Packages that extend nibkit once they are installed.

They are found by their entry point:

    [project.entry-points."nibkit.plugins"]
    petals = "petals"

Its value is the package. A folder ``configs`` inside it joins the config groups without importing the package, which
may need torch; the package itself, which registers networks, is imported when a registry is first asked.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from nibkit.errors import UserError

GROUP = "nibkit.plugins"


@lru_cache(maxsize=1)
def plugins() -> tuple[EntryPoint, ...]:
    """Return the entry points of the installed plug-ins, by name."""
    return tuple(sorted(entry_points(group=GROUP), key=lambda plugin: plugin.name))


def config_folders() -> list[Path]:
    """Return the folders of config groups that the installed plug-ins bring.

    Raises:
        UserError: a plug-in's package is not there.
    """
    homes = (Path(home) for plugin in plugins() for home in _homes(plugin))
    return [home / "configs" for home in homes if (home / "configs").is_dir()]


def import_plugins() -> None:
    """Import the installed plug-ins, which register their networks; what is imported already is not done again.

    Raises:
        UserError: one cannot be imported.
    """
    for plugin in plugins():
        try:
            import_module(plugin.module)
        except Exception as error:  # whatever the code of somebody else raises
            raise _broken(plugin, f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def _homes(plugin: EntryPoint) -> list[str]:
    """Return where the package lies."""
    try:
        spec = find_spec(plugin.module)
    except ImportError:  # of a package that it lies in
        spec = None
    if spec is None:
        raise _broken(plugin, "its package is missing")
    return list(spec.submodule_search_locations or [])


def _broken(plugin: EntryPoint, why: str) -> UserError:
    name = plugin.dist.name if plugin.dist else plugin.name
    return UserError(f"the plug-in '{plugin.value}' cannot be used ({why}); repair it, or: pip uninstall {name}")
