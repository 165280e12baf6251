"""Sentences that answer Table 2's question, from its figures alone.

A difference of NIB and standard is *beyond the spread of seeds* where its mean over the seeds that both have is
larger than the standard deviations over seeds of either variant, and of the difference itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nibkit.reproduce.study_text import find
from nibkit.reproduce.table2_figures import distance, kind_of, number

POINT = 0.01  # of mIoU, within which it counts as kept
RULE = (
    "A difference is beyond the spread of seeds where it is larger than the standard deviations over seeds of either "
    "variant, and of the difference itself."
)
# texture figures: what those of a generator would have to be equal to, a number or the photos' figure of this name
TARGETS: dict[str, float | str] = {
    "texture_std": "texture_std",
    "texture_ratio": 1.0,
    "texture_flat_share": "texture_flat_share",
    "texture_spectrum_db": 0.0,
    "texture_repeat": "texture_repeat",
}
Row = Mapping[str, Any]


def answers(content: Mapping[str, Any]) -> list[str]:
    """Return a paragraph per pair, and how its words are to be read."""
    pairs = [(row, _named(content, row["reference"])) for row in content["rows"] if row["reference"]]
    return [RULE, *(_answer(content, nib, standard) for nib, standard in pairs)]


def _named(content: Mapping[str, Any], name: str) -> Row:
    return next(row for row in content["rows"] if row["name"] == name)


def _answer(content: Mapping[str, Any], nib: Row, standard: Row) -> str:
    seeds = [seed["seed"] for seed in nib["seeds"] if seed["seed"] in {other["seed"] for other in standard["seeds"]}]
    if not seeds:
        return f"{nib['group']}: not trained with and without NIB on the same seed, so there is no answer."
    found = [_of_distance(content, nib, standard), _of_miou(nib, standard), _of_texture(content, nib, standard)]
    return f"{nib['group']}, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}: {' '.join(s for s in found if s)}"


def _of_distance(content: Mapping[str, Any], nib: Row, standard: Row) -> str:
    """Return whether NIB lowers the Fréchet distance."""
    name = distance(content)
    if name is None:
        return "No Fréchet distance was measured."
    per_seed = find(nib, "difference", name, "per_seed")
    if not per_seed:
        return f"There is no {kind_of(name).name}."
    lower = sum(value < 0 for value in per_seed.values())
    return f"{_against(name, nib, standard)}, lower in {lower} of {len(per_seed)} seeds."


def _of_miou(nib: Row, standard: Row) -> str:
    """Return whether NIB keeps mIoU within a point."""
    change = find(nib, "difference", "miou", "mean")
    if change is None:
        return "No mIoU was measured."
    more = f"{'higher' if change > 0 else 'lower'} by more than 1 point"
    verdict = "kept within 1 point" if abs(change) <= POINT else more
    return f"{_against('miou', nib, standard)}: {verdict}."


def _of_texture(content: Mapping[str, Any], nib: Row, standard: Row) -> str:
    """Return which texture figures come nearer to the photos', by means over seeds."""
    nearer: list[str] = []
    others: list[str] = []
    for name, target in TARGETS.items():
        wanted = content["photos"].get(target) if isinstance(target, str) else target
        mine, other = find(nib, "figures", name, "mean"), find(standard, "figures", name, "mean")
        if wanted is None or mine is None or other is None or find(nib, "difference", name, "mean") is None:
            continue
        said = f"{_against(name, nib, standard)}, {number(wanted, name)} wanted"
        (nearer if _off(name, mine, wanted) < _off(name, other, wanted) else others).append(said)
    kinds = (("Nearer to the photos' texture", nearer), ("No nearer to it", others))
    return " ".join(f"{kind}: {'; '.join(said)}." for kind, said in kinds if said) or "No texture was measured."


def _against(name: str, nib: Row, standard: Row) -> str:
    """Return a figure's name, both variants' means, the difference, and whether it is beyond the spread of seeds."""
    mine, other = (number(find(row, "figures", name, "mean"), name) for row in (nib, standard))
    change = nib["difference"][name]["mean"]
    deviations = [find(row, "figures", name, "sd") for row in (nib, standard)] + [find(nib, "difference", name, "sd")]
    spread = "the spread of seeds is not known"
    if None not in deviations:
        spread = f"{'beyond' if abs(change) > max(deviations) else 'within'} the spread of seeds"
    kind = kind_of(name)
    unit = f" {kind.unit}" if kind.unit else ""
    return f"{kind.name} {mine} with NIB against {other}{unit} ({number(change, name, '+')}, {spread})"


def _off(name: str, value: float, wanted: float) -> float:
    """Return how far a figure is from what is wanted; a ratio by its logarithm."""
    if name == "texture_ratio":
        return abs(math.log(max(value, 1e-6) / wanted))
    return abs(value - wanted)
