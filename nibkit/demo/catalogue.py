"""The weights that the page offers: the shipped ones, and those given on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nibkit.dither import TASKS, neural
from nibkit.errors import UserError
from nibkit.hide import TASK, Pair, load_pair
from nibkit.weights import read_weights


@dataclass(frozen=True)
class Catalogue:
    """Names of weights that make halftones, the default first, and the pairs that hide colours, by name."""

    halftoning: tuple[str, ...]
    pairs: dict[str, Pair]


def read_catalogue(files: Sequence[str] = ()) -> Catalogue:
    """Return what is offered; all of it is built once, so that what cannot be used is told before the page opens.

    Args:
        files: further ``.safetensors`` or ``.ckpt`` files.

    Raises:
        UserError: a file that cannot be used, or of another task.
    """
    halftoning, pairs = list(TASKS), {TASK: load_pair()}
    for file in files:
        task = read_weights(file).task
        if task == TASK:
            pairs[file] = load_pair(file)
        elif task in TASKS:
            neural(file)
            halftoning.append(file)
        else:
            raise UserError(
                f"--weights '{file}' are of task '{task}'; the page has use for {', '.join((*TASKS, TASK))}"
            )
    return Catalogue(tuple(dict.fromkeys(halftoning)), pairs)
