"""What the processes of one run share."""

from __future__ import annotations

from typing import TypeVar

from torch import distributed

T = TypeVar("T")


def of_all_ranks(own: T) -> list[T]:
    """Return the value of every rank, in their order; every rank must call it."""
    if not _several_ranks():
        return [own]
    every: list[T] = [own] * distributed.get_world_size()
    distributed.all_gather_object(every, own)
    return every


def is_first_rank() -> bool:
    """Say whether this process is the one that writes."""
    return not _several_ranks() or distributed.get_rank() == 0


def _several_ranks() -> bool:
    return distributed.is_available() and distributed.is_initialized()
