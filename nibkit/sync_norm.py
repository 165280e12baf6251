"""Batch norm over the batches of all processes: torch's own on GPUs, and ours on the CPU, where torch's refuses."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.layer_sync import LayerSync
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nibkit.precision import widened
from nibkit.ranks import sum_of_ranks, world_size

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class CPUSyncBatchNorm(_BatchNorm):
    """Batch norm whose statistics in training are those of all processes; in evaluation it is as any other."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        """Take any number of dimensions, as torch's synchronised norm does."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Normalise ``input`` ``[B, C, ...]``."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        x = widened(input)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        count = sum_of_ranks(x.new_tensor(x.numel() / x.shape[1]))
        mean = sum_of_ranks(x.sum(dim=axes)) / count
        centred = x - _along(mean, x)
        variance = sum_of_ranks(centred.square().sum(dim=axes)) / count
        self._follow(mean.detach(), variance.detach() * count / (count - 1))
        normal = centred * _along((variance + self.eps).rsqrt(), x)
        return (normal * _along(self.weight, x) + _along(self.bias, x) if self.affine else normal).to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Let the statistics for evaluation follow those of a batch, as every batch norm does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)


def _along(channels: Tensor, like: Tensor) -> Tensor:
    """Return values of channels ``[C]`` in a shape that meets ``like`` ``[B, C, ...]``."""
    return channels.view(1, -1, *[1] * (like.dim() - 2))


class SyncNorms(LayerSync):
    """Lightning's hook: while a model trains on several processes, its batch norms are of all of them.

    The layers change their class and stay the same objects, so that nothing that refers to one goes stale. A class of
    the user's own that is derived from a batch norm stays as it is: what it computes is not known.
    """

    def __init__(self) -> None:
        self._kinds: dict[_BatchNorm, type[nn.Module]] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """Synchronise each batch norm."""
        assert isinstance(model, pl.LightningModule)
        on_cpu = model.trainer.strategy.root_device.type == "cpu"
        for layer in model.modules():
            if type(layer) in KINDS:
                assert isinstance(layer, _BatchNorm)
                self._kinds[layer] = type(layer)
                layer.__class__ = CPUSyncBatchNorm if on_cpu else nn.SyncBatchNorm
                layer.process_group = None  # type: ignore[assignment]
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Make them what they were."""
        for layer, kind in self._kinds.items():
            layer.__class__ = kind  # type: ignore[assignment]
        self._kinds.clear()
        return model
