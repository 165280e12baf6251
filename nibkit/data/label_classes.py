"""The classes of label maps: what the ids in files are to a network, to a score, and in pictures."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nibkit.data.scenes import Bytes, Ids
from nibkit.errors import UserError
from nibkit.labels import IGNORE

GOLDEN = (5**0.5 - 1) / 2  # of the hue circle between one class and the next: no two of a few dozen look alike


class Classes:
    """The classes of a data set.

    Args:
        number: C; the ids 0 to C-1 are classes.
        void_id: the id of pixels without a class; None where there are none.
        class_map: the scored class of each class, None for those that are not scored; None: all, as they are.
        names: of the scored classes; None: their numbers.

    Attributes:
        scored: K, the number of scored classes.
        names: of the scored classes.
        of_id: the class of each id from 0 to 255, C for void, -1 for what is none, ``[256]``.
        target: the scored class of each class, IGNORE for void and what is not scored, ``[C + 1]``.

    Raises:
        UserError: numbers, lengths or names that do not fit.
    """

    def __init__(
        self,
        number: int | None,
        void_id: int | None = None,
        class_map: Sequence[int | None] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.number, self.void_id = _check_number(number), void_id
        _check_void(self.number, void_id)
        scored: list[int | None] = [*range(self.number)] if class_map is None else list(class_map)
        self.scored = _check_map(scored, self.number)
        self.names = [f"class {k}" for k in range(self.scored)] if names is None else _check_names(names, self.scored)
        self.of_id: NDArray[np.int64] = np.full(256, -1, dtype=np.int64)
        self.of_id[: self.number] = range(self.number)
        if void_id is not None:
            self.of_id[void_id] = self.number
        self.target: NDArray[np.int64] = np.array([*(IGNORE if k is None else k for k in scored), IGNORE])

    def strange(self, ids: Ids) -> int | None:
        """Return an id that is neither a class nor void, or None if there is none."""
        values = np.unique(ids)
        known = np.flatnonzero(self.of_id >= 0)
        strange = values[~np.isin(values, known)]
        return int(strange[0]) if len(strange) else None


def _check_number(number: int | None) -> int:
    if number is None:
        raise UserError("data.num_classes is not set; give the number of classes in the label files")
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= 255:
        raise UserError(f"data.num_classes={number} is no whole number from 1 to 255")
    return number


def _check_void(number: int, void_id: int | None) -> None:
    if void_id is None:
        return
    if not isinstance(void_id, int) or isinstance(void_id, bool) or not 0 <= void_id <= 255:
        raise UserError(f"data.void_id={void_id} is no whole number from 0 to 255; use null where there is no void")
    if void_id < number:
        raise UserError(
            f"data.void_id={void_id} is one of the classes 0 to {number - 1} of data.num_classes={number}; number the "
            "classes from 0 on and void beyond them, such as 255"
        )


def _check_map(scored: list[int | None], number: int) -> int:
    """Return the number of scored classes that a class map leads to."""
    if len(scored) != number:
        raise UserError(f"data.class_map has {len(scored)} entries for data.num_classes={number}; give one for each")
    found = {k for k in scored if k is not None}
    if not found or found != set(range(len(found))):
        raise UserError(
            f"data.class_map leads to {sorted(found, key=str)}; scored classes must be 0, 1, 2, ... without a gap, and "
            "null for what is not scored"
        )
    return len(found)


def _check_names(names: Sequence[str], scored: int) -> list[str]:
    if len(names) != scored:
        raise UserError(f"data.class_names has {len(names)} names for {scored} scored classes; give one for each")
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise UserError(f"data.class_names={list(names)} must be texts, all of them different")
    return list(names)


def make_palette(number: int, colours: Sequence[Sequence[int]] | None = None) -> Bytes:
    """Return the colours of the classes and, last, of void (black), ``[number + 1, 3]``.

    Args:
        number: of classes.
        colours: (red, green, blue) from 0 to 255 of each; None for hues at golden steps.

    Raises:
        UserError: not one colour for each class.
    """
    chosen = [_hue(k) for k in range(number)] if colours is None else [list(colour) for colour in colours]
    if len(chosen) != number:
        raise UserError(f"data.palette has {len(chosen)} colours for {number} classes; give one for each")
    for colour in chosen:
        if len(colour) != 3 or not all(isinstance(part, int) and 0 <= part <= 255 for part in colour):
            raise UserError(f"data.palette has {colour}; a colour is [RED,GREEN,BLUE], whole numbers from 0 to 255")
    return np.array([*chosen, [0, 0, 0]], dtype=np.uint8)


def _hue(k: int) -> list[int]:
    """Return the colour of class ``k``: neighbours differ in strength and brightness, too."""
    return [
        round(255 * part) for part in colorsys.hsv_to_rgb(k * GOLDEN % 1, 0.45 + 0.25 * (k % 3), 0.95 - 0.2 * (k % 2))
    ]
