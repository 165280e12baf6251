"""All that the pages of Table 2 show, in plain values; :mod:`nibkit.reproduce.table2_text` says in which form."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nibkit import __version__
from nibkit.config import load_config
from nibkit.reproduce import Options
from nibkit.reproduce.collect import parameters, seconds
from nibkit.reproduce.judge import Values
from nibkit.reproduce.results import say
from nibkit.reproduce.study import Job, Variant
from nibkit.reproduce.summary import spread
from nibkit.reproduce.table2_cells import VARIANTS, labels_name, training_settings
from nibkit.reproduce.table2_judge import Judge

TITLE = "Table 2: semantic synthesis with and without NIB"
Judged = Mapping[Path, Values]  # by run folder


def collect(jobs: Sequence[Job], judge: Judge, options: Options) -> dict[str, Any]:
    """Judge all finished cells and return plain values."""
    finished = [job.cell for job in jobs if job.cell.finished]
    judged = {}
    for index, cell in enumerate(finished, start=1):
        say(f"judging {index} of {len(finished)}: {cell.title}")
        judged[cell.folder] = judge.network(cell)
    photos, training = judge.photos(), judge.training_photos()
    return {
        "experiment": "table2",
        "title": TITLE,
        "protocol": _protocol(judge, options),
        "versions": {"nibkit": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "evaluator": judge.notes,
        "classes": list(judge.data.class_names),
        "figures": list(dict.fromkeys(name for values in (*judged.values(), photos) for name in values)),
        "photos": photos,
        "training_photos": training,
        "rows": [_row(variant, jobs, judged, options) for variant in VARIANTS],
    }


def _protocol(judge: Judge, options: Options) -> dict[str, Any]:
    height, width = judge.data.size
    return {
        "scale": options.scale,
        "command": command("table2", options),
        "seeds": list(options.seeds),
        "data": Path(labels_name(options)).name,
        "height": height,
        "width": width,
        "training_photos": len(judge.data.train_pairs),
        "photos": len(judge.names),
    }


def command(name: str, options: Options) -> str:
    """Return the command that does it again, files and folders by their names alone."""
    words = ["nibkit", "reproduce", name]
    words += ["--labels", Path(options.labels).name] if options.labels else []
    words += ["--label-settings", *options.label_settings] if options.label_settings else []
    for key, file in (("segmenter", options.segmenter), ("inception", options.inception), ("vgg", options.vgg)):
        words += [f"--{key}", file.name] if file else []
    words += ["--scale", options.scale] if options.scale != "small" else []
    words += ["--seeds", ",".join(map(str, options.seeds))]
    words += ["--limit", str(options.limit)] if options.limit else []
    return shlex.join(words)


def _row(variant: Variant, jobs: Sequence[Job], judged: Judged, options: Options) -> dict[str, Any]:
    """Return a variant's figures: of every seed, over seeds, and less those of its reference."""
    mine = [job.cell for job in jobs if job.variant == variant]
    done = {cell.seed: cell for cell in mine if cell.folder in judged}
    figures = {seed: judged[cell.folder] for seed, cell in done.items()}
    reference = {
        job.cell.seed: judged[job.cell.folder]
        for job in jobs
        if job.variant.name == variant.reference and job.cell.folder in judged
    }
    return {
        "name": variant.name,
        "title": variant.title,
        "group": variant.group,
        "reference": variant.reference,
        "parameters": parameters(mine[0]),
        "steps": load_config(mine[0].settings).trainer.max_steps,
        "settings": [f"experiment={variant.experiment}", *training_settings(variant, options)],
        "paper": dict(variant.published or {}),
        "note": "" if len(done) == len(mine) else f"{len(done)} of {len(mine)} seeds trained",
        "seeds": [{"seed": s, "seconds": seconds(cell), "figures": figures[s]} for s, cell in done.items()],
        "figures": {name: spread([each.get(name) for each in figures.values()]) for name in _names(figures)},
        "difference": differences(figures, reference) if variant.reference else None,
    }


def differences(mine: Mapping[int, Values], reference: Mapping[int, Values]) -> dict[str, Any]:
    """Return by figure how much larger it is than the reference's of the same seed: by seed, mean, sd and n."""
    shared = [seed for seed in mine if seed in reference]
    found = {}
    for name in _names(mine):
        pairs = {seed: (mine[seed].get(name), reference[seed].get(name)) for seed in shared}
        gains = {str(seed): a - b for seed, (a, b) in pairs.items() if a is not None and b is not None}
        found[name] = {**spread(list(gains.values())), "per_seed": gains}
    return found


def _names(figures: Mapping[int, Values]) -> list[str]:
    return list(dict.fromkeys(name for values in figures.values() for name in values))
