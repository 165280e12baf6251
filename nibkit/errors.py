"""The one exception for what a user can put right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: one sentence that says what is wrong, where, the choices and the fix.

    The command line prints it without a traceback and exits with code 2.
    """


def choose(kind: str, name: object, choices: Iterable[str]) -> str:
    """Return ``name`` if it is one of ``choices``, else raise with the list and the nearest.

    Args:
        kind: what is being chosen, as the message shall name it ("backbone").
        name: the user's choice.
        choices: the names that exist.
    """
    known = sorted(choices)
    if name in known:
        return str(name)
    raise UserError(f"unknown {kind} '{name}'{suggestion(str(name), known)}; choose from: {', '.join(known)}")


def suggestion(name: str, choices: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the choice nearest to ``name``, or nothing."""
    near = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""
