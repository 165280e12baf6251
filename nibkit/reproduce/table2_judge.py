"""Judging for Table 2: every generator renders the whole test set, and one evaluator scores them all.

The figures of a network are kept in ``RUNS/figures/KEY.json``, KEY being the hash of all that decides them: the
checkpoint, the evaluator with the weights that it uses, the data, and the code of both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import lightning.pytorch as pl
import torch
from omegaconf import OmegaConf
from torch import Tensor

from nibkit.config import load_config, quoted
from nibkit.files import write_json
from nibkit.metrics.feature_cache import network_digest
from nibkit.metrics.synthesis import SynthesisMetrics, make_metrics
from nibkit.reproduce import Options
from nibkit.reproduce.cells import Cell
from nibkit.reproduce.judge import Values
from nibkit.reproduce.methods import code_hash, digest
from nibkit.reproduce.table2_cells import data_settings, make_data

# what figures depend on, relative to the package
JUDGES = ("metrics", "segmenter.py", "inception.py", "vgg.py", "color.py", "labels.py", "data/labelled.py",
          "data/scenes.py", "data/label_classes.py", "data/drawn_labels.py", "data/drawn_textures.py",
          "reproduce/table2_judge.py")  # fmt: skip
GENERATORS = ("backbones", "nib.py", "noise.py", "labels.py")
DISTANCES = ("fid", "kid", "frechet_", "kernel_")  # how names of figures of distributions begin
LOADER = ("batch_size", "num_workers", "cache_mb", "seed")  # of the data: how they are read in training

Batch = Mapping[str, Any]
Renderer = Callable[[Batch], Tensor]  # a test batch -> photographs [B, 3, H, W] in [-1, 1]


@dataclass(frozen=True)
class Judge:
    """One evaluator and the photos that it judges on.

    Args:
        metrics: the evaluator.
        notes: what it uses, and what it lacks, for people.
        data: whose test set is judged.
        basis: plain values that decide the figures, but for the generator.
        folder: where figures are kept.
    """

    metrics: SynthesisMetrics
    notes: list[str]
    data: Any
    basis: dict[str, Any]
    folder: Path

    @property
    def names(self) -> list[str]:
        """The names of the test photos."""
        return list(self.basis["names"])

    def network(self, cell: Cell) -> Values:
        """Return the figures of a finished cell's photographs."""
        basis = {"checkpoint": digest([cell.checkpoint.read_bytes()]), "code": code_hash(GENERATORS)}
        return self._kept(basis, lambda: self._measure(renderer(cell)))

    def photos(self) -> Values:
        """Return what the evaluator says of the test photos themselves; a distance to themselves says nothing."""
        found = self._kept({"photos": "test"}, lambda: self._measure(lambda batch: batch["image"]))
        return {name: value for name, value in found.items() if not name.startswith((*DISTANCES, "l1"))}

    def training_photos(self) -> Values | None:
        """Return the distances of as many training photos as there are test photos; None if there are too few."""
        if len(self.data.train_pairs) < len(self.names):
            return None
        found = self._kept({"photos": "train"}, self._measure_training)
        return {name: value for name, value in found.items() if name.startswith(DISTANCES)}

    def _kept(self, basis: Mapping[str, Any], measure: Callable[[], Values]) -> Values:
        """Return the figures kept under a basis, or measure and keep them; a file that cannot be read is made anew."""
        whole = self.basis | dict(basis)
        path = self.folder / f"{digest([json.dumps(whole, sort_keys=True).encode()])}.json"
        try:
            found: Values = json.loads(path.read_text())["figures"]
        except (OSError, ValueError, KeyError, TypeError):
            found = measure()
            write_json(path, {"basis": whole, "figures": found})
        return found

    def _measure(self, render: Renderer) -> Values:
        """Return all figures of what a renderer makes of the test set, and its mean absolute error on [-1, 1]."""
        where = device()
        self.metrics.reset()
        self.metrics.to(where)
        errors: list[float] = []
        for batch in test_batches(self.data, where):
            fake = render(batch)
            self.metrics.update(fake, batch)
            errors += (fake - batch["image"]).abs().mean(dim=(1, 2, 3)).tolist()
        return _values(self.metrics.compute()) | {"l1": math.fsum(errors) / len(errors)}

    def _measure_training(self) -> Values:
        """Return the distances of drawn training photos to the test photos."""
        alone = SynthesisMetrics(self.metrics.distributions, None, None, None, None)
        photos = drawn_photos(self.data, len(self.names))
        where = device()
        alone.reset()
        alone.to(where)
        for batch in test_batches(self.data, where):
            alone.update(torch.stack([next(photos) for _ in batch["image"]]).to(where), batch)
        return _values(alone.compute())


def make_judge(options: Options, segmenter: Path | None) -> Judge:
    """Return the evaluator that the options ask for.

    Args:
        options: data, how many photos, and files of feature networks.
        segmenter: the file of the segmenter; None for none.

    Raises:
        UserError: data or files that are missing or cannot be used.
    """
    limit = () if options.limit is None else (f"data.test_images={options.limit}",)
    settings = (*data_settings(options), *limit)
    config = load_config(("task=semantic_synthesis", *settings, *metric_settings(options, segmenter)))
    spec: dict[str, Any] = OmegaConf.to_container(config.metrics, resolve=True)  # type: ignore[assignment]
    data = make_data(settings)
    metrics, notes = make_metrics(spec, data)
    source: dict[str, Any] = OmegaConf.to_container(config.data, resolve=True)  # type: ignore[assignment]
    scenes = data.evaluation_pairs["test"]
    basis = {
        "evaluator": _without_paths(spec),
        "networks": _networks(metrics),
        "data": {key: value for key, value in source.items() if key not in LOADER},
        "names": [scenes.name(index) for index in range(len(scenes))],
        "code": code_hash(JUDGES),
    }
    if segmenter:
        notes = [note.replace(str(segmenter), _short(segmenter, options.runs)) for note in notes]
    return Judge(metrics, notes, data, basis, options.runs / "figures")


def _short(file: Path, runs: Path) -> str:
    """Return a file as a page names it: below the folder of runs, or by its name."""
    return file.relative_to(runs).as_posix() if file.is_relative_to(runs) else file.name


def metric_settings(options: Options, segmenter: Path | None) -> tuple[str, ...]:
    """Return the settings of the evaluator."""
    files = {
        "metrics.fid.weights_path": options.inception,
        "metrics.frechet.weights_path": options.vgg,
        "metrics.segmenter.source": segmenter,
    }
    given = tuple(f"{key}={quoted(path)}" for key, path in files.items() if path)
    return (*given, "metrics.fid.mode=on") if options.inception else given


def _without_paths(spec: Any) -> Any:
    """Return a section of the configuration without the places of files, which decide nothing."""
    if isinstance(spec, dict):
        return {key: _without_paths(value) for key, value in spec.items() if key not in ("weights_path", "source")}
    return spec


def _networks(metrics: SynthesisMetrics) -> dict[str, str]:
    """Return the hashes of the networks that judge, by what they are for."""
    found = {distribution.name: network_digest(distribution.features) for distribution in metrics.distributions}
    return found | ({"segmenter": network_digest(metrics.segmenter)} if metrics.segmenter else {})


def renderer(cell: Cell) -> Renderer:
    """Return what a finished cell's network makes of test batches, the same at every call."""
    task = load_task(cell).to(device()).eval()

    @torch.no_grad()
    def render(batch: Batch) -> Tensor:
        answer: Tensor = task.render_batch(batch)  # type: ignore[operator]
        return answer

    return render


def load_task(cell: Cell) -> pl.LightningModule:
    """Return the task of a finished cell with its trained networks.

    Raises:
        UserError: its checkpoint cannot be used.
    """
    from nibkit.make import make_task

    return make_task(load_config((*cell.settings, "mode=test", f"ckpt_path={quoted(cell.checkpoint)}")))


def test_batches(data: Any, where: torch.device) -> Iterator[Batch]:
    """Yield the test set as tests see it, tensors on a device."""
    for loader in data.test_dataloader():
        for batch in loader:
            yield on_device(batch, where)


def on_device(batch: Batch, where: torch.device) -> dict[str, Any]:
    """Return a batch with its tensors on a device."""
    return {key: value.to(where) if isinstance(value, Tensor) else value for key, value in batch.items()}


def drawn_photos(data: Any, count: int) -> Iterator[Tensor]:
    """Yield training photos ``[3, H, W]`` in [-1, 1], drawn without repetition, the same at every call."""
    for index in Random(0).sample(range(len(data.train_pairs)), count):
        photo = data.train_pairs.read(index)[0]
        yield torch.from_numpy(photo).permute(2, 0, 1) * 2 - 1


def device() -> torch.device:
    """Return where networks are judged."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _values(figures: Mapping[str, Tensor]) -> Values:
    """Return plain numbers; None for figures that do not exist."""
    return {name: float(value) if math.isfinite(float(value)) else None for name, value in figures.items()}
