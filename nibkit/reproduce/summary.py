"""From figures per image and gray to the figures of a row."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import TypedDict

from nibkit.reproduce.evaluate import Evaluation
from nibkit.reproduce.judge import Values

IMAGE_FIGURES = ("psnr_sigma1.5", "psnr_sigma2.0", "ssim")
GRAY_FIGURES = ("low_frequency_ratio", "anisotropy_db")
SECONDS = "seconds_per_megapixel"

Figure = float | None
Statistic = Callable[[Sequence[float]], float]


class Spread(TypedDict):
    """A mean and its spread; None where there are too few values."""

    mean: Figure
    sd: Figure
    n: int


class Difference(TypedDict):
    """The mean of paired differences and its standard error."""

    mean: Figure
    standard_error: Figure
    n: int


def spread(values: Sequence[Figure]) -> Spread:
    """Return mean, standard deviation (ddof 1) and number of the values that exist."""
    there = [value for value in values if value is not None]
    return {"mean": mean(there), "sd": statistics.stdev(there) if len(there) > 1 else None, "n": len(there)}


def mean(values: Sequence[Figure]) -> Figure:
    """Return the mean of the values that exist; None if there is none."""
    return reduce(values, statistics.fmean)


def reduce(values: Sequence[Figure], statistic: Statistic) -> Figure:
    """Return a statistic of the values that exist; None if there is none."""
    there = [value for value in values if value is not None]
    return statistic(there) if there else None


def image_figures(seeds: Sequence[Evaluation]) -> dict[str, Spread]:
    """Return mean and spread over images; a figure of an image is its mean over the seeds."""
    return {name: spread(per_image(seeds, name)) for name in IMAGE_FIGURES}


def per_image(seeds: Sequence[Evaluation], name: str) -> list[Figure]:
    """Return a figure of every image, its mean over the seeds."""
    return [mean([image[name] for image in images]) for images in zip(*(e.images for e in seeds), strict=True)]


def scalar_figures(seed: Evaluation) -> Values:
    """Return the figures of one evaluation: means over images and grays, worst over grays, median time."""
    figures = {name: mean(_column(seed.images, name)) for name in IMAGE_FIGURES}
    figures |= {name: mean(_column(seed.grays, name)) for name in ("dotted_levels", "tone_error")}
    for name in GRAY_FIGURES:
        figures[name] = mean(_column(seed.grays, name))
        figures[f"{name}_worst"] = reduce(_column(seed.grays, name), max)
    return figures | {SECONDS: reduce(_column(seed.images, SECONDS), statistics.median)}


def over_seeds(seeds: Sequence[Evaluation]) -> dict[str, Spread]:
    """Return mean and spread over seeds of every figure of :func:`scalar_figures`."""
    each = [scalar_figures(seed) for seed in seeds]
    return {name: spread([figures[name] for figures in each]) for name in each[0]}


def paired(seeds: Sequence[Evaluation], reference: Sequence[Evaluation], name: str) -> Difference:
    """Return how much larger a figure is than that of a reference on the same images."""
    pairs = zip(per_image(seeds, name), per_image(reference, name), strict=True)
    found = spread([a - b for a, b in pairs if a is not None and b is not None])
    error = None if found["sd"] is None else found["sd"] / found["n"] ** 0.5
    return {"mean": found["mean"], "standard_error": error, "n": found["n"]}


def _column(values: Sequence[Values], name: str) -> list[Figure]:
    return [value[name] for value in values]
