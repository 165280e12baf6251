"""The exceptions that reach the user as one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: one sentence that says what is wrong, where, the choices and the fix.

    The command line prints it without a traceback and exits with code 2.
    """


class Stopped(Exception):  # noqa: N818 (a run may well be told to stop)
    """A run that ends before its time, and can go on from its last checkpoint.

    Args:
        message: one sentence: why, where, and how to go on; empty where another rank says it.
        code: of the process's exit.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)  # both, so that a launcher can send it from process to process
        self.message, self.code = message, code

    def __str__(self) -> str:
        """Return the sentence."""
        return self.message


def choose(kind: str, name: object, choices: Iterable[str]) -> str:
    """Return ``name`` if it is one of ``choices``, else raise with the list and the nearest.

    Args:
        kind: what is being chosen, as the message shall name it ("backbone").
        name: the user's choice.
        choices: the names that exist.

    Examples:
        >>> choose("noise", "blu", ["blue", "grid"])
        Traceback (most recent call last):
        nibkit.errors.UserError: unknown noise 'blu' (did you mean 'blue'?); choose from: blue, grid
    """
    known = sorted(choices)
    if name in known:
        return str(name)
    raise UserError(f"unknown {kind} '{name}'{suggestion(str(name), known)}; choose from: {', '.join(known)}")


def suggestion(name: str, choices: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the choice nearest to ``name``, or nothing."""
    near = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""
