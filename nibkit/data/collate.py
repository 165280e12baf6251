"""Samples to batches that cost little on their way from a loader's process to the trainer.

Torch moves each tensor of a batch as shared memory: a file descriptor is handed over and mapped, about a quarter of a
millisecond that the trainer waits. A few hundred kilobytes are copied through the pipe sooner, if the pipe holds all of
them: else the trainer waits until the other process has a core to send the rest.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate, get_worker_info

BY_VALUE = 384 * 2**10  # bytes of a tensor that is still copied; from 512 KiB on shared memory is no slower
PIPE = 2**20  # bytes; what Linux allows every user, in place of 64 KiB


def collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the batch of samples, as torch's ``default_collate`` makes it."""
    batch = {key: _column([sample[key] for sample in samples]) for key in samples[0]}
    return Parcel(batch) if get_worker_info() else batch


class Parcel(dict[str, Any]):
    """A batch that arrives in another process as a plain dictionary, its small tensors copied."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return how to open it, and what is sent."""
        return _open, ({key: value.numpy() if _small(value) else value for key, value in self.items()},)


def wide_pipes() -> BaseContext:
    """Return multiprocessing's usual way to start processes, with queues that hold a whole batch."""
    usual = multiprocessing.get_context(multiprocessing.get_start_method())

    class Wide(type(usual)):  # type: ignore[misc]
        def Queue(self, maxsize: int = 0) -> Any:  # noqa: N802  # multiprocessing's name
            queue = super().Queue(maxsize)
            _widen(queue._writer.fileno())
            return queue

    return Wide()


def _widen(pipe: int) -> None:
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):  # the user has too many of them
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)


def _open(sent: dict[str, Any]) -> dict[str, Any]:
    return {key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for key, value in sent.items()}


def _column(values: list[Any]) -> Any:
    """Return one entry of all samples; small tensors not in shared memory, where torch puts them in a worker."""
    first = values[0]
    if isinstance(first, torch.Tensor) and first.nbytes * len(values) <= BY_VALUE:
        return torch.stack(values)
    return default_collate(values)


def _small(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.nbytes <= BY_VALUE
