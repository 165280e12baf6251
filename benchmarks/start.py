"""Start: how long until the first answer.

To reach: --help under 4 s, a wrong key under 6 s, the first training step within 20 s.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAIN = str(Path(__file__).resolve().parent.parent / "train.py")


def measure(quick: bool = False) -> dict[str, object]:
    """Print and return the median seconds."""
    repeats = 1 if quick else 5
    results: dict[str, object] = {}
    for name, limit, call in (("help", 4, show_help), ("wrong_key", 6, wrong_key), ("first_step", 20, first_step)):
        times = [call() for _ in range(repeats)]
        results[name] = times
        print(f"  {name:11} median {statistics.median(times):.2f} s  max {max(times):.2f} s   (<= {limit} s)")
    return results


def show_help() -> float:
    """Return the seconds of ``--help``."""
    return _timed(["--help"], 0)


def wrong_key() -> float:
    """Return the seconds until a misspelt key is told."""
    return _timed(["data.batchsize=3"], 2)


def first_step() -> float:
    """Return the seconds from the start of the command to the end of the first training step."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, TRAIN, "trainer.max_steps=1", f"run_dir={folder}/run", "trainer.limit_val_batches=1"]
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if re.match(r"step 1/", line):
                    seconds = time.perf_counter() - start
                    process.kill()
                    return seconds
    raise RuntimeError("the first step was never reported")


def _timed(arguments: list[str], code: int) -> float:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, TRAIN, *arguments], capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    return time.perf_counter() - start
