"""What a halftone makes of constant gray: its tone, and whether there are dots at all."""

from __future__ import annotations

from torch import Tensor

from nibkit.metrics.mean import ImageMean


class ToneError(ImageMean):
    """Mean over levels of | share of white dots - level |, in [0, 1]."""

    def figure(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the error of each halftone."""
        return ((_dots(output).mean(dim=1) + 1) / 2 - target.double()).abs()


class FlatStd(ImageMean):
    """Mean over levels of the halftone's standard deviation on [-1, 1]: 0 is flatness degradation.

    A halftone of tone g has 2 sqrt(g (1 - g)), .85 in the mean over 5 % to 95 %.

    Examples:
        >>> import torch
        >>> metric = FlatStd()
        >>> float(metric(torch.tensor([[[[1.0, -1.0, 1.0, -1.0]]]]), torch.tensor([0.5])))
        1.0
    """

    def figure(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the deviation of each halftone."""
        return _dots(output).std(dim=1, correction=0)


class DottedLevels(ImageMean):
    """Share of the levels whose halftone has both black and white dots, in [0, 1]."""

    def figure(self, output: Tensor, target: Tensor) -> Tensor:
        """Return 1 for each halftone that has both, else 0."""
        dots = _dots(output)
        return (dots > 0).any(dim=1) & (dots < 0).any(dim=1)


def _dots(halftone: Tensor) -> Tensor:
    return halftone.double().flatten(1)
