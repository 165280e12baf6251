"""Figures of methods per image and per constant gray, each measured once and kept.

A method's figures lie in ``RUNS/figures/KEY.json`` by the hash of the input's pixels, the file's name being the hash
of all that decides them (see :class:`nibkit.reproduce.methods.Method`). They are written after every input, so that
a call that was killed goes on there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nibkit.dither import Halftoner
from nibkit.errors import UserError
from nibkit.files import write_json
from nibkit.png import Bits, write_bits
from nibkit.reproduce.judge import Input, Values, image_input, measure, warm
from nibkit.reproduce.methods import Method

TAPS = 11  # of the metrics' filters
SHOWN = 10  # bad images named in a message; the rest are counted


@dataclass(frozen=True)
class Evaluation:
    """A method's figures: one entry per image, and one per constant gray, in the order of the inputs."""

    images: list[Values]
    grays: list[Values]


def evaluate(
    method: Method,
    images: Sequence[Input],
    grays: Sequence[Input],
    runs: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Return the method's figures; measure those that are not known yet.

    Args:
        method: what is judged.
        images: to judge it on.
        grays: likewise.
        runs: the folder where figures are kept.
        progress: called with (done, all) inputs.
    """
    store = Store(runs / "figures" / f"{method.key}.json", method.basis)
    halftoner: Halftoner | None = None
    for index, item in enumerate((*images, *grays), start=1):
        if item.key not in store.figures:
            halftoner = halftoner or warm(method.make(), item)
            store.add(item, measure(halftoner, item))
        if progress:
            progress(index, len(images) + len(grays))
    return Evaluation([store.figures[i.key] for i in images], [store.figures[i.key] for i in grays])


class Store:
    """The figures of one method, on disk; a file that cannot be read is begun anew."""

    def __init__(self, path: Path, basis: dict[str, Any]) -> None:
        self.path, self.basis = path, basis
        try:
            self.figures: dict[str, Values] = json.loads(path.read_text())["figures"]
        except (OSError, ValueError, KeyError, TypeError):
            self.figures = {}

    def add(self, item: Input, values: Values) -> None:
        """Keep the figures of an input."""
        self.figures[item.key] = values
        write_json(self.path, {"basis": self.basis, "figures": self.figures})


def kept_halftone(method: Method, item: Input, runs: Path) -> Bits:
    """Return the halftone of an input ``[H, W]``, kept as a PNG below ``runs``."""
    path = runs / "halftones" / f"{method.key}-{item.key}.png"
    plane = item.read()
    if not path.exists():
        write_bits(path, plane.shape[1], plane.shape[0], method.make()(plane, None))
    with Image.open(path) as image:
        return np.asarray(image.convert("1"))


def read_inputs(paths: Iterable[Path]) -> list[Input]:
    """Return image files as inputs.

    Raises:
        UserError: names all images at once that cannot be read or are smaller than the metrics' filters.
    """
    inputs, problems = [], []
    for path in paths:
        try:
            item = image_input(path)
        except UserError as error:
            problems.append(str(error))
            continue
        inputs.append(item)
        height, width = item.shape
        if min(height, width) < TAPS:
            problems.append(f"'{path}' has {width}x{height} pixels, the filters need {TAPS}x{TAPS}")
    if problems:
        more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise UserError(f"--images: {'; '.join(problems[:SHOWN])}{more}; remove or replace them")
    return inputs
