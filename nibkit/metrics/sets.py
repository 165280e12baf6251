"""Figures by evaluation set, of all images together and of each one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, distributed
from torchmetrics import Metric

from nibkit.precision import full_precision

UNPREFIXED = ("photo", "tone", "spectrum", "colour")  # sets whose figures are logged by their own names
T = TypeVar("T")
Values = dict[str, dict[str, float]]  # of every image by its name: figures by theirs


class MetricSets:
    """Metrics per evaluation set, made when a set first shows up.

    Args:
        make: returns fresh metrics by their logged names for the name of a set.
    """

    def __init__(self, make: Callable[[str], dict[str, Metric]]) -> None:
        self.make = make
        self.metrics: dict[str, dict[str, Metric]] = {}
        self.values: dict[str, Values] = {}

    def update(
        self, set_name: str, output: Tensor | Mapping[str, Tensor], target: Tensor, names: Sequence[str] = ()
    ) -> None:
        """Add a batch of the set ``set_name``.

        Args:
            set_name: of the evaluation set.
            output: ``[B, C, H, W]`` in [-1, 1]; or several such by name, for metrics that know the names.
            target: what the set's metrics compare it with, on the same device.
            names: of the images; with one name, its figures are kept for :meth:`per_image`.
        """
        metrics = self._of(set_name, target.device)
        with full_precision(target.device):  # under autocast SSIM would be one of bfloat16
            if len(names) != 1:
                for metric in metrics.values():
                    metric.update(output, target)
                return
            # forward updates as well, and returns the figure of this image alone
            figures = {name: float(metric(output, target)) for name, metric in metrics.items()}
        self.values.setdefault(set_name, {})[names[0]] = figures

    def _of(self, set_name: str, device: torch.device) -> dict[str, Metric]:
        if set_name not in self.metrics:
            self.metrics[set_name] = {name: metric.to(device) for name, metric in self.make(set_name).items()}
        return self.metrics[set_name]

    def _sets_of_all_ranks(self) -> dict[str, dict[str, Metric]]:
        """Return the metrics per set, the same sets in the same order on every rank.

        A set with fewer images than there are ranks never showed up on some; those would not take part
        in its reduction, and the others would wait for them for ever.
        """
        if not _several_ranks():
            return self.metrics
        device = torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
        return {name: self._of(name, device) for name in dict.fromkeys(chain(*_gather(list(self.metrics))))}

    def compute(self) -> dict[str, Tensor]:
        """Return all figures by name; every rank must call it."""
        figures: dict[str, Tensor] = {}
        for set_name, metrics in self._sets_of_all_ranks().items():
            prefix = "" if set_name in UNPREFIXED else f"{set_name}/"
            figures |= {prefix + name: metric.compute() for name, metric in metrics.items()}
        return figures

    def per_image(self) -> dict[str, Values]:
        """Return the figures of every image by set, image and name; every rank must call it."""
        every: dict[str, Values] = {}
        for part in _gather(self.values) if _several_ranks() else [self.values]:
            for set_name, values in part.items():
                every.setdefault(set_name, {}).update(values)
        return every

    def reset(self) -> None:
        """Start anew."""
        self.metrics.clear()
        self.values.clear()


def _several_ranks() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _gather(own: T) -> list[T]:
    """Return the value of every rank."""
    every: list[T] = [own] * distributed.get_world_size()
    distributed.all_gather_object(every, own)
    return every
