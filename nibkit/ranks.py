"""What the processes of one run share: values, and sums that make a loss or a statistic that of the whole batch."""

from __future__ import annotations

import time
from typing import TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_reduce

T = TypeVar("T")
SETTLE = 0.2  # seconds in which a thread that is ready to run gets to run


def own_rank() -> int:
    """Return this process's rank, known before the processes have met."""
    from lightning.fabric.utilities.rank_zero import rank_zero_only  # a second, which nibkit dither does without

    return int(getattr(rank_zero_only, "rank", 0))


def world_size() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def is_first_rank() -> bool:
    """Say whether this process is the one that writes."""
    return world_size() == 1 or distributed.get_rank() == 0


def of_all_ranks(own: T) -> list[T]:
    """Return the value of every rank, in their order; every rank must call it."""
    if world_size() == 1:
        return [own]
    every: list[T] = [own] * world_size()
    distributed.all_gather_object(every, own)
    return every


def settle() -> None:
    """Give torch's communication threads the time to free what they have sent; the last thing before a process ends.

    One that frees a tensor while Python is ending aborts the process (pytorch issue 190489): a run that is done would
    look as if a rank had died.
    """
    if world_size() > 1:
        time.sleep(SETTLE)


def sum_of_ranks(value: Tensor) -> Tensor:
    """Return the sum of every rank's ``value``; the gradient is that of the sum of all ranks' losses."""
    summed: Tensor = all_reduce(value.contiguous()) if world_size() > 1 else value  # type: ignore[no-untyped-call]
    return summed


def mean_of_ranks(value: Tensor) -> Tensor:
    """Return the mean of every rank's ``value``, with the gradient of this rank's own.

    Ranks average their gradients, so that a function of the mean, which is no mean over samples itself, gets the
    gradient of the whole batch. Without gradients, where ranks judge different numbers of images, each keeps its own.
    """
    if world_size() == 1 or not torch.is_grad_enabled():
        return value
    mean = value.detach().clone()
    distributed.all_reduce(mean)
    return value + (mean / world_size() - value.detach())
