"""Figures of invertible grayscale: are the colours restored, and is the gray a good gray?

image sets      psnr, psnr_pooled, ssim     of the restored image
                gray_psnr, gray_ssim        of the gray and the image's luminance
                jpeg95_psnr, ...            of what is restored after an attack on the gray
colour          flat_error, flat_error_worst, flat_gray_std             (constant colours)
tone, spectrum  none: their grays are colours like others

Further image sets are prefixed: comic/psnr. The outputs that are judged come by name:

    gray        [B, 1, H, W]  on the 8-bit levels of [-1, 1]
    restored    [B, 3, H, W]  in [-1, 1]
    jpeg95 ...  [B, 3, H, W]  likewise, restored after the attack of this name; see nibkit.robustness
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.wrappers.abstract import WrapperMetric

from nibkit.color import luminance
from nibkit.metrics.mean import ImageMean
from nibkit.metrics.reconstruction import PSNR, reconstruction_metrics
from nibkit.metrics.sets import MetricSets
from nibkit.metrics.ssim import HalftoneSSIM
from nibkit.quantize import LEVEL

Outputs = Mapping[str, Tensor]


class OutputMetric(WrapperMetric):
    """A metric of one of several outputs; that metric keeps the state, and adds it up over processes.

    Args:
        name: of the output.
        metric: of (output, target).
        target: makes the target of the image; ``None``: it is the image.
    """

    def __init__(self, name: str, metric: Metric, target: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.name, self.metric, self.target = name, metric, target

    def _arguments(self, outputs: Outputs, image: Tensor) -> tuple[Tensor, Tensor]:
        return outputs[self.name], image if self.target is None else self.target(image)

    def update(self, outputs: Outputs, image: Tensor) -> None:
        """Add a batch: outputs by name, and the images ``[B, 3, H, W]`` in [-1, 1] that they are of."""
        self.metric.update(*self._arguments(outputs, image))

    def forward(self, outputs: Outputs, image: Tensor) -> Any:
        """Add a batch and return its own figure."""
        return self.metric(*self._arguments(outputs, image))

    def compute(self) -> Any:
        """Return the figure of all batches."""
        return self.metric.compute()

    def reset(self) -> None:
        """Start anew."""
        self.metric.reset()


def level_error(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute error of each image, ``[B]``, in 8-bit levels; arguments as of :class:`ImageMean`."""
    return (output.double() - target.double()).abs().flatten(1).mean(dim=1) / LEVEL


class FlatError(ImageMean):
    """The mean of :func:`level_error` over images, 8-bit levels."""

    def figure(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the error of each image."""
        return level_error(output, target)


class FlatErrorWorst(Metric):
    """The largest :func:`level_error` of an image, 8-bit levels."""

    full_state_update = False
    worst: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("worst", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="max")

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add images ``[B, C, H, W]`` in [-1, 1] and what they shall be."""
        self.worst = torch.maximum(self.worst, level_error(output, target).max())

    def compute(self) -> Tensor:
        """Return the error of the worst image."""
        return self.worst


class GrayStd(ImageMean):
    """The mean over images of the standard deviation of their pixels, 8-bit levels.

    Of the gray of a constant colour 0 is flatness degradation: there is no texture that could hide the colour.
    """

    def figure(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the deviation of each gray."""
        return output.double().flatten(1).std(dim=1, correction=0) / LEVEL


def image_metrics(attacks: Sequence[str]) -> dict[str, Metric]:
    """Return the metrics of (outputs, images) by their logged names."""
    gray = {"gray_psnr": PSNR(), "gray_ssim": HalftoneSSIM()}
    return {
        **{name: OutputMetric("restored", metric) for name, metric in reconstruction_metrics("photo").items()},
        **{name: OutputMetric("gray", metric, luminance) for name, metric in gray.items()},
        **{f"{attack}_psnr": OutputMetric(attack, PSNR()) for attack in attacks},
    }


def colour_metrics() -> dict[str, Metric]:
    """Return the metrics of (outputs, images) on constant colours."""
    return {
        "flat_error": OutputMetric("restored", FlatError()),
        "flat_error_worst": OutputMetric("restored", FlatErrorWorst()),
        "flat_gray_std": OutputMetric("gray", GrayStd()),
    }


def grayscale_metrics(set_name: str, attacks: Sequence[str]) -> dict[str, Metric]:
    """Return the metrics of a set; ``colour`` are constant colours, ``tone`` and ``spectrum`` are not judged."""
    if set_name in ("tone", "spectrum"):
        return {}
    return colour_metrics() if set_name == "colour" else image_metrics(attacks)


class GrayscaleMetrics(MetricSets):
    """All figures of invertible grayscale; the outputs, by name, are compared with their image.

    Args:
        attacks: names of the outputs restored after an attack on the gray, which every image then comes with.
    """

    def __init__(self, attacks: Sequence[str] = ()) -> None:
        super().__init__(partial(grayscale_metrics, attacks=tuple(attacks)))
