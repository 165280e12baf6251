"""The figures of a study's cells, from their run folders, in plain values."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from omegaconf import OmegaConf

from nibkit import __version__
from nibkit.config import load_config
from nibkit.errors import UserError
from nibkit.metrics.sets import UNPREFIXED
from nibkit.registry import build_backbone
from nibkit.reproduce import Options
from nibkit.reproduce.cells import Cell
from nibkit.reproduce.study import Job, Study, Variant, image_sets, training_set
from nibkit.reproduce.summary import mean, spread

Values = dict[str, float | None]
Images = dict[str, dict[str, Values]]  # by set and name of the image
POOLED = ("psnr_pooled",)  # of all pixels of a set: not the mean of what its images have


class Judged(NamedTuple):
    """The figures of a finished cell: of each image, and of its test as a whole."""

    images: Images
    figures: Values

    def each(self, label: str, name: str) -> Values:
        """Return a figure of every image of a set; what is pooled is one value, of no image."""
        if name in POOLED:
            return {"": self.figures.get(f"test/{name}" if label in UNPREFIXED else f"test/{label}/{name}")}
        return {image: values[name] for image, values in self.images.get(label, {}).items()}


def collect(study: Study, jobs: Sequence[Job], options: Options) -> dict[str, Any]:
    """Return all that the pages show; see :mod:`nibkit.reproduce.study_text` for its form."""
    finished = [job.cell for job in jobs if job.cell.finished]
    judged = {cell.folder: Judged(read_images(cell), read_figures(cell)) for cell in finished}
    rows = [_row(study, variant, jobs, judged, options) for variant in study.variants]
    return {
        "experiment": study.name,
        "title": study.title,
        "question": study.question,
        "protocol": _protocol(study, jobs, options),
        "versions": {"nibkit": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "sets": _sets(study, judged, options),
        "figures": list(study.figures),
        "primary": study.figures[0],
        "gray_figures": list(study.gray_figures),
        "paper": {"figure": study.figures[0], "note": study.note, "sets": dict(study.paper_sets)},
        "rows": rows,
    }


def read_images(cell: Cell) -> Images:
    """Return the figures of each image of a finished cell.

    Raises:
        UserError: they cannot be read.
    """
    images: Images = _read(cell, "images.json")
    return images


def read_figures(cell: Cell) -> Values:
    """Return all figures of the test of a finished cell; errors as of :func:`read_images`."""
    figures: Values = _read(cell, "metrics.json")
    return figures


def _read(cell: Cell, name: str) -> Any:
    path = cell.folder / name
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        content = None
    if not content or not isinstance(content, dict):
        raise UserError(f"'{path}' cannot be read; delete the folder '{cell.folder}', and the cell is trained again")
    return content


def _protocol(study: Study, jobs: Sequence[Job], options: Options) -> dict[str, Any]:
    config = load_config(jobs[0].cell.settings)
    trained = Path(training_set(study, options)).name
    return {
        "scale": options.scale,
        "command": command(study, options),
        "settings": list(study.scales[options.scale]),
        "steps": config.trainer.max_steps,
        "seeds": list(options.seeds),
        "training": f"the training images of '{trained}'",
        "note": "",
    }


def command(study: Study, options: Options) -> str:
    """Return the command that does it again, folders by their names alone."""
    words = ["nibkit", "reproduce", study.name]
    for key, folder in (("images", options.images), ("flat", options.flat), ("train-images", options.train_images)):
        words += [f"--{key}", folder.name] if folder else []
    words += ["--scale", options.scale] if options.scale != "small" else []
    words += ["--seeds", ",".join(map(str, options.seeds))]
    words += ["--limit", str(options.limit)] if options.limit else []
    return shlex.join(words)


def _sets(study: Study, judged: Mapping[Path, Judged], options: Options) -> list[dict[str, Any]]:
    sources, some = image_sets(study, options), next((each.images for each in judged.values()), {})
    kinds = {"photo": "photos", "comic": "flat material"}
    return [
        {"label": label, "title": f"{kinds[label]}: {Path(sources[label]).name}", "count": len(some.get(label, {}))}
        for label in study.sets
    ]


def _row(
    study: Study, variant: Variant, jobs: Sequence[Job], judged: Mapping[Path, Judged], options: Options
) -> dict[str, Any]:
    """Return a variant's figures: of every seed, over seeds, and against its reference."""
    mine = [job.cell for job in jobs if job.variant == variant]
    done = [cell for cell in mine if cell.folder in judged]
    references = {job.cell.seed: job.cell for job in jobs if job.variant.name == variant.reference}
    seeds = [_seed(study, cell, judged[cell.folder]) for cell in done]
    pairs = [
        (judged[cell.folder], judged[references[cell.seed].folder])
        for cell in done
        if cell.seed in references and references[cell.seed].folder in judged
    ]
    labels, names = study.sets, study.figures
    return {
        "name": variant.name,
        "title": variant.title,
        "group": variant.group,
        "reference": variant.reference,
        "parameters": parameters(mine[0]),
        "settings": [f"experiment={variant.experiment}", *study.narrowed(variant, options.scale), *variant.settings],
        "paper": dict(variant.published or {}),
        "note": "" if len(done) == len(mine) else f"{len(done)} of {len(mine)} seeds trained",
        "seeds": seeds,
        "images": {s: {n: spread([seed["images"][s][n] for seed in seeds]) for n in names} for s in labels},
        "grays": {n: spread([seed["grays"][n] for seed in seeds]) for n in study.gray_figures},
        "difference": {s: {n: _difference(pairs, s, n) for n in names} for s in labels} if variant.reference else None,
    }


def parameters(cell: Cell) -> int:
    """Return the number of the network's parameters."""
    config = load_config(cell.settings)
    network = build_backbone(_plain(config.backbone), _plain(config.nib))
    return sum(parameter.numel() for parameter in network.parameters())


def _plain(config: Any) -> dict[str, Any]:
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    return plain


def _seed(study: Study, cell: Cell, judged: Judged) -> dict[str, Any]:
    """Return the figures of one training: means over the images of each set, and of constant grays."""
    return {
        "seed": cell.seed,
        "seconds": seconds(cell),
        "images": {s: {n: mean(list(judged.each(s, n).values())) for n in study.figures} for s in study.sets},
        "grays": {name: judged.figures.get(f"test/{name}") for name in study.gray_figures},
    }


def seconds(cell: Cell) -> float | None:
    """Return how long training and test took together; None where it was stopped in between."""
    if OmegaConf.load(cell.folder / "config.yaml").first_step:
        return None
    ended, began = ((cell.folder / name).stat().st_mtime for name in ("metrics.json", "environment.json"))
    return round(ended - began, 1)


def _difference(pairs: Sequence[tuple[Judged, Judged]], label: str, name: str) -> dict[str, Any]:
    """Return how much larger a figure is than the reference's, of the same seed and the same image."""
    gains = [_gains(mine.each(label, name), reference.each(label, name)) for mine, reference in pairs]
    per_seed = [fmean(each) if each else None for each in gains]
    every = [gain > 0 for each in gains for gain in each]
    return {**spread(per_seed), "per_seed": per_seed, "better": fmean(every) if every else None}


def _gains(mine: Values, reference: Values) -> list[float]:
    both = [(value, reference.get(image)) for image, value in mine.items()]
    return [a - b for a, b in both if a is not None and b is not None]
