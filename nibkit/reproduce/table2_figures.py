"""The figures of Table 2: their names for people, their units, their digits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from nibkit.reproduce.study_text import MISSING, find


class Kind(NamedTuple):
    """How a figure is shown: its name for people, its digits, its unit, and what makes that of the figure."""

    name: str
    digits: int
    unit: str = ""
    times: float = 1.0


FIGURES = {
    "fid": Kind("FID", 1),
    "kid": Kind("KID x 1000", 2, times=1000),
    "frechet_vgg16": Kind("Fréchet distance, VGG16", 1),
    "kernel_vgg16": Kind("kernel distance, VGG16", 2),
    "frechet_vgg19": Kind("Fréchet distance, VGG19", 1),
    "kernel_vgg19": Kind("kernel distance, VGG19", 2),
    "miou": Kind("mIoU", 2, "%", 100),
    "pixel_accuracy": Kind("accuracy", 1, "%", 100),
    "pixel_accuracy_void_wrong": Kind("accuracy with void as wrong", 1, "%", 100),
    "l1": Kind("mean absolute error", 3),
    "texture_std": Kind("deviation", 2, "levels"),
    "texture_ratio": Kind("texture ratio", 2),
    "texture_flat_share": Kind("flat patches", 1, "%", 100),
    "texture_spectrum_db": Kind("spectrum off by", 1, "dB"),
    "texture_repeat": Kind("repetition", 2),
}
DISTANCES = ("fid", "frechet_vgg16", "frechet_vgg19")  # Fréchet distances, the first that exists is asked for
TEXTURE = tuple(name for name in FIGURES if name.startswith("texture_"))
CLASS = Kind("IoU", 1, "%", 100)


def there(content: Mapping[str, Any]) -> list[str]:
    """Return the figures that were measured, in their order."""
    return [name for name in FIGURES if name in content["figures"]]


def distance(content: Mapping[str, Any]) -> str | None:
    """Return the Fréchet distance that was measured; None for none."""
    return next((name for name in DISTANCES if name in content["figures"]), None)


def title(name: str) -> str:
    """Return a figure's name for people, with its unit."""
    kind = kind_of(name)
    return f"{kind.name}, {kind.unit}" if kind.unit else kind.name


def number(value: float | None, name: str, sign: str = "") -> str:
    """Return a figure in its unit; a dash for none."""
    kind = kind_of(name)
    return MISSING if value is None else f"{value * kind.times:{sign}.{kind.digits}f}"


def plus_minus(figure: Mapping[str, Any] | None, name: str, sign: str = "") -> str:
    """Return ``mean ± sd``, the mean alone where there is no spread, a dash for none."""
    sd = find(figure, "sd")
    return number(find(figure, "mean"), name, sign) + ("" if sd is None else f" ± {number(sd, name)}")


def kind_of(name: str) -> Kind:
    """Return how a figure is shown; those that are not listed by their own name."""
    return FIGURES.get(name, CLASS if name.startswith("iou_") else Kind(name.replace("_", " "), 3))
