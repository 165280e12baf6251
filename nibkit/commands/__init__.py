"""The sub-commands of ``nibkit``, one module each, and what they share: parsing, and errors in one sentence."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from nibkit.errors import Stopped, UserError


class Parser(argparse.ArgumentParser):
    """A parser that raises :class:`UserError` instead of printing its usage, and takes no abbreviations."""

    def __init__(self, prog: str, description: str, epilog: str = "") -> None:
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(prog, description=description, epilog=epilog, formatter_class=layout, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong in one sentence."""
        raise UserError(f"{message}; see {self.prog} --help")


def whole(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return a type for :meth:`Parser.add_argument`: whole numbers from ``minimum`` to ``maximum``."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if minimum <= value <= maximum:
            return value
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from {minimum} to {maximum}")

    return number


@contextmanager
def reported(prog: str) -> Iterator[None]:
    """Report what the user can put right as one sentence, with exit code 2; exit with 130 after Ctrl-C."""
    try:
        yield
    except UserError as error:
        _refuse(prog, _sentence(error))
    except OSError as error:
        if error.errno is None:
            raise
        # of the machine, not of the program: no space for a logger, a folder that may not be searched
        where = f": '{error.filename}'" if error.filename else ""
        _refuse(prog, f"{error.strerror}{where}")
    except KeyboardInterrupt:
        sys.exit(130)
    except Stopped as error:
        if str(error):
            print(f"{prog}: {error}", file=sys.stderr)
        sys.exit(error.code)


def _refuse(prog: str, sentence: str) -> NoReturn:
    print(f"{prog}: error: {sentence}", file=sys.stderr)
    sys.exit(2)


def _sentence(error: UserError) -> str:
    """Return the error's own sentence, without the traceback that a loader process wraps around it."""
    text = str(error)
    return text.strip().splitlines()[-1].partition("UserError: ")[2] if "Original Traceback" in text else text
