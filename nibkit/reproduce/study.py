"""A study: the same training for several variants of a network, on several seeds, judged on the same images.

    train what is missing (cells.py)  ->  collect the figures  ->  NAME.md, .json, .png and .html

A cell is a run of ``train.py``; its figures, of all images and of each, are those of its own test. So cells may as
well be trained elsewhere: on a cluster, or by the same command in several processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nibkit.config import quoted
from nibkit.errors import choose
from nibkit.reproduce import Options
from nibkit.reproduce.cells import Cell, make_cell

LABELS = ("photo", "comic")  # of the sets that are judged, in the runs' figures


@dataclass(frozen=True)
class Variant:
    """A row of a study.

    Args:
        name: for programs, and on the command line.
        title: for people.
        experiment: the choice of the config group ``experiment``.
        group: rows of a group stand together.
        reference: the name of the variant that it is compared with; None for none.
        published: the paper's figure by the label of the set.
        settings: further overrides.
        cell: the name of its run folders; variants of two studies that are the same training share them.
    """

    name: str
    title: str
    experiment: str
    group: str = ""
    reference: str | None = None
    published: Mapping[str, float] | None = None
    settings: tuple[str, ...] = ()
    cell: str = ""


@dataclass(frozen=True)
class Study:
    """What is trained and how it is shown.

    Args:
        name: of the experiment.
        title: of the page.
        question: that it answers.
        variants: its rows.
        sets: labels of the sets that are shown, of :data:`LABELS`; the first stands first.
        scales: settings of all cells by scale.
        figures: per image, the first is the one that is plotted.
        gray_figures: of constant grays, from the runs' ``metrics.json``.
        paper_sets: the paper's image sets by label.
        narrow: further settings at all scales but the paper's, by experiment.
        note: what a reader must know to compare with the paper.
        paper_data: image sets by name at the paper's scale: trained on, photos and flat material judged on.
    """

    name: str
    title: str
    question: str
    variants: tuple[Variant, ...]
    sets: tuple[str, ...]
    scales: Mapping[str, tuple[str, ...]]
    figures: tuple[str, ...]
    gray_figures: tuple[str, ...]
    paper_sets: Mapping[str, str]
    narrow: Mapping[str, tuple[str, ...]]
    note: str
    paper_data: tuple[str, str, str] = ("voc2012", "voc2012", "comic")

    @property
    def files(self) -> tuple[str, ...]:
        """The names of what it writes."""
        return tuple(f"{self.name}{suffix}" for suffix in (".md", ".json", ".png", ".html"))

    def narrowed(self, variant: Variant, scale: str) -> tuple[str, ...]:
        """Return the settings that make a variant's network smaller than the paper's."""
        return () if scale == "paper" else self.narrow.get(variant.experiment, ())


@dataclass(frozen=True)
class Job:
    """A variant's training on one seed."""

    variant: Variant
    cell: Cell


def check_names(study: Study, names: Sequence[str]) -> None:
    """Raise if a variant of one of these names does not exist."""
    for name in names:
        choose(f"cell of {study.name}", name, [variant.name for variant in study.variants])


def make_jobs(study: Study, options: Options) -> list[Job]:
    """Return all trainings, seed after seed, so that the first seed of all is there first; nothing is written.

    Args:
        study: whose variants.
        options: scale, seeds and data.

    Raises:
        UserError: a setting is wrong.
    """
    data = data_settings(study, options)
    jobs = []
    for seed in options.seeds:
        for variant in study.variants:
            scale = (*study.scales[options.scale], *study.narrowed(variant, options.scale))
            settings = (f"experiment={variant.experiment}", *scale, *data, *variant.settings)
            jobs.append(Job(variant, make_cell(variant.cell or variant.name, seed, settings, options.runs)))
    return jobs


def image_sets(study: Study, options: Options) -> dict[str, str]:
    """Return what is judged by label: folders that were given, else the embedded or the paper's sets."""
    default = study.paper_data[1:] if options.scale == "paper" else ("builtin_photos", "builtin_comics")
    given = (options.images, options.flat)
    return {
        label: str(folder.absolute()) if folder else name
        for label, folder, name in zip(LABELS, given, default, strict=True)
    }


def training_set(study: Study, options: Options) -> str:
    """Return what is trained on: a folder that was given, the photos' own, or the embedded or the paper's set."""
    if given := options.train_images or options.images:
        return str(given.absolute())
    return study.paper_data[0] if options.scale == "paper" else "builtin_photos"


def data_settings(study: Study, options: Options) -> tuple[str, ...]:
    """Return the settings of the data: trained on the photos, or on what the user names, and judged on all sets."""
    sets = image_sets(study, options)
    judged = ",".join(quoted(f"{label}={name}") for label, name in sets.items())
    limit = () if options.limit is None else (f"data.test_images={options.limit}",)
    home = f"data.home={quoted(options.home)}"
    return ("data=sets", f"data.train={quoted(training_set(study, options))}", f"data.test=[{judged}]", home, *limit)
