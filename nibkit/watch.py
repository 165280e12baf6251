"""Ranks that this machine's first process has started: if one dies, all end, and it is said which."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

from nibkit.errors import Stopped

PARENT = "NIBKIT_PARENT"  # environment variable: the process that starts the other ranks
POLL, PATIENCE, GRACE = 1.0, 3.0, 10.0  # seconds: between two looks; to see another rank dead; for ranks to end
_said = threading.Event()  # which rank it was
_saying = threading.Lock()  # who comes second waits until it is said: a process that ends takes its threads with it


def watch_ranks(launcher: Any) -> None:
    """Watch the processes that Lightning's launcher is about to start, or in one of these the one that started it.

    Processes that torchrun or Slurm has started are watched by these.
    """
    if os.environ.get(PARENT) == str(os.getppid()):
        _in_background(_watch_parent, os.getppid())
    elif hasattr(launcher, "procs") and not launcher.cluster_environment.creates_processes_externally:
        os.environ[PARENT] = str(os.getpid())
        _in_background(_watch_children, launcher)


def _in_background(function: Any, *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, daemon=True, name="rank-watch").start()


def dead_rank(launcher: Any) -> Stopped | None:
    """Return how the run ends if another rank has died, which is why this one failed; None if none has.

    Others fail at once, before any of them can be seen to be dead; so this waits a little, and ranks other than the
    first until that one has ended the run.
    """
    if PARENT not in os.environ:
        return None
    end = time.monotonic() + (PATIENCE if os.environ[PARENT] == str(os.getpid()) else GRACE + POLL)
    while time.monotonic() < end:
        if os.environ[PARENT] not in (str(os.getpid()), str(os.getppid())):
            return Stopped("", 1)  # the first rank is gone, and has said why
        for rank, code in _dead(launcher):
            with _saying:
                sentence = "" if _said.is_set() else _sentence(rank, code)
                _said.set()
            return Stopped(sentence, max(code, 1))
        time.sleep(0.1)
    return None


def _dead(launcher: Any) -> list[tuple[int, int]]:
    """Return (rank, code) of the processes that did not end well."""
    codes = [child.poll() for child in getattr(launcher, "procs", ())]
    return [(rank, code) for rank, code in enumerate(codes, start=1) if code]


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL)
    time.sleep(GRACE)
    _tell(f"rank 0 is gone; rank {os.environ['LOCAL_RANK']} ends too")
    os._exit(1)


def _watch_children(launcher: Any) -> None:
    while not _dead(launcher):
        time.sleep(POLL)
        if launcher.procs and all(child.poll() == 0 for child in launcher.procs):
            return
    rank, code = _dead(launcher)[0]
    with _saying:
        if not _said.is_set():
            _said.set()
            _tell(_sentence(rank, code))
    time.sleep(GRACE)
    for child in launcher.procs:
        child.kill()
    os._exit(max(code, 1))


def _sentence(rank: int, code: int) -> str:
    how = f"ended with code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
    return f"rank {rank} {how}{' (out of memory?)' if code == -signal.SIGKILL else ''}; the whole run ends"


def _tell(sentence: str) -> None:
    print(f"nibkit: {sentence}", file=sys.stderr, flush=True)
