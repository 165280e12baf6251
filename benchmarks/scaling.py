"""One, two and four processes, each with as many threads: images per second, and what the processes wait for another.

The processes are started as torchrun starts them; the run is the default one with Lightning's DDP. Communication is the
time that a step loses to it: in every other stretch the gradients are not averaged (what DDP's ``no_sync`` does).
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from benchmarks.figures import Figure
from benchmarks.timing import now
from benchmarks.training import training_config
from nibkit.make import make, make_trainer

COUNTS = (1, 2, 4)
CASE = "dithering"
ROOT = Path(__file__).resolve().parent.parent
WARMUP = 5  # steps
Times = dict[str, list[float]]  # "synced" and "alone": seconds per step by round


class Stretches(pl.Callback):
    """Times stretches of steps, with gradients averaged over the processes and without, in turn.

    Args:
        rounds: of one stretch each.
        steps: of a stretch.
    """

    def __init__(self, rounds: int, steps: int) -> None:
        self.rounds, self.steps = rounds, steps
        self.times: Times = {"synced": [], "alone": []}
        self._start = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """End a stretch and begin the next."""
        done = trainer.global_step - WARMUP
        if done < 0 or done % self.steps:
            return
        stretch = done // self.steps  # the one that begins
        if stretch:
            self.times["alone" if stretch % 2 == 0 else "synced"].append((now() - self._start) / self.steps)
        trainer.strategy.model.require_backward_grad_sync = stretch % 2 == 0  # type: ignore[union-attr]
        trainer.should_stop = stretch == 2 * self.rounds
        trainer.strategy.barrier()
        self._start = now()


def measure(quick: bool = False) -> Iterator[Figure]:
    """Yield speed and share of communication by the number of processes."""
    rounds, steps = (3, 5) if quick else (7, 20)
    devices, cores = torch.cuda.device_count(), os.cpu_count() or 1
    counts = [count for count in COUNTS if not devices or count <= devices]
    threads = max(1, cores // max(counts))
    times = {count: run_processes(count, threads, rounds, steps) for count in counts}
    one = statistics.median(times[1]["synced"])
    for count in counts[1:]:
        speeds = [count * one / seconds for seconds in times[count]["synced"]]
        lost = [100 * (1 - b / a) for a, b in zip(times[count]["synced"], times[count]["alone"], strict=True)]
        shared = "" if devices or count * threads <= cores else f"; {count} processes share {cores} cores"
        note = f"step {1e3 * statistics.median(times[count]['synced']):.1f} ms, of one {1e3 * one:.1f} ms{shared}"
        yield Figure(f"{count} processes: images/s / those of one", speeds, note=note)
        yield Figure(f"{count} processes: communication / step", lost, "%", better="low")


def run_processes(count: int, threads: int, rounds: int, steps: int) -> Times:
    """Return the times of the first of so many processes, all of which run this module."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        processes = [_start(rank, count, threads, port, [str(rounds), str(steps), folder]) for rank in range(count)]
        outputs = [process.communicate()[0] for process in processes]
    if failed := next((o for p, o in zip(processes, outputs, strict=True) if p.returncode), None):
        raise RuntimeError(f"a process of {count} has failed: {failed[-2000:]}")
    times: Times = json.loads(outputs[0].splitlines()[-1])
    return times


def _start(rank: int, count: int, threads: int, port: int, arguments: list[str]) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "NIBKIT_RUN_ID": "scaling"}
    if count > 1:
        environment |= {"WORLD_SIZE": str(count), "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", __name__, str(count), *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def main() -> None:
    """Train as one of the processes, and print the times."""
    count, rounds, steps, folder = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    options = ["trainer.strategy=ddp", f"trainer.devices={count}"] if count > 1 else []
    config = training_config(CASE, options, folder)
    task = make("task", config.task)
    stretches, trainer = Stretches(rounds, steps), make_trainer(config, task)
    trainer.callbacks.append(stretches)  # type: ignore[attr-defined]
    trainer.fit(task, datamodule=make("data", config.data))
    print(json.dumps(stretches.times), flush=True)


if __name__ == "__main__":
    main()
