"""Being told to stop: by Ctrl-C, by a cluster before its time limit, by another user of the machine.

A signal is only noted. The run looks at what it was told between two steps, where it can be saved and gone on with.
"""

from __future__ import annotations

import os
import signal
import subprocess
from multiprocessing.util import Finalize
from types import FrameType
from typing import Any

import torch
from torch import distributed

from nibkit.errors import Stopped, UserError
from nibkit.ranks import own_rank, world_size

STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Signals:
    """Notes the first signal that asks to stop; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.noted = 0
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """Note signals from now on; only the main thread of a process can."""
        try:
            self._before = {number: signal.signal(number, self._note) for number in STOP}
        except ValueError:
            self._before = {}

    def ignore(self) -> None:
        """Leave signals to those who handled them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.noted == signal.SIGINT:
            message = "stopped at once by a second Ctrl-C; go on from the last checkpoint with ckpt_path=auto"
            raise Stopped(message if own_rank() == 0 else "", 128 + number)
        self.noted = self.noted or number


class Vote:
    """What the ranks of a run have to say, without waiting for each other: each step answers for the one before.

    The answers travel by the CPU (gloo) beside the gradients, so that no rank waits for its GPU.
    """

    def __init__(self) -> None:
        self._group: Any = distributed.new_group(backend="gloo") if world_size() > 1 else None
        self._answer: torch.Tensor | None = None
        self._work: Any = None

    def largest(self, *own: int) -> list[int]:
        """Give this rank's numbers of a step; return the largest of all ranks', of the step before, 0 at first."""
        if self._group is None:
            return list(own)
        largest = [0] * len(own)
        if self._work is not None and self._answer is not None:
            self._work.wait()
            largest = self._answer.tolist()
        self._answer = torch.tensor(own)
        self._work = distributed.all_reduce(self._answer, distributed.ReduceOp.MAX, group=self._group, async_op=True)
        return largest


def begin_worker(_: int) -> None:
    """Leave signals to the process that a loader's worker serves: Ctrl-C reaches all of them; and end with it."""
    for number in STOP:
        signal.signal(number, signal.SIG_IGN)
    # before multiprocessing waits, at the end, until the batches are read that are in the pipe
    Finalize(None, _leave_if_alone, (os.getppid(),), exitpriority=100)


def _leave_if_alone(served: int) -> None:
    """End at once if the process that was served is gone, killed say: nobody will read what is in the pipe."""
    if os.getppid() != served:
        os._exit(1)


def slurm_job() -> str | None:
    """Return the id of the Slurm job that this process belongs to, as ``scontrol`` wants it; None outside of Slurm."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID")


def requeue(job: str) -> None:
    """Ask Slurm to put a job back into its queue.

    Raises:
        UserError: it refuses.
    """
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
        problem = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        problem = f"scontrol: {error.strerror}"
    if problem:
        raise UserError(f"Slurm does not requeue job {job} ({problem}); submit it again with ckpt_path=auto")
