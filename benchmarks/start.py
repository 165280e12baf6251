"""Start: how long until the first answer, until a small picture is done, and what imports take of it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmarks.figures import Figure

TRAIN = str(Path(__file__).resolve().parent.parent / "train.py")


def measure(quick: bool = False) -> Iterator[Figure]:
    """Yield the seconds of --help, of a refusal, to the first step, of a small picture, and of imports."""
    repeats = 1 if quick else 5
    for name, limit, call in (("--help", 4, show_help), ("wrong key", 6, wrong_key), ("first step", 20, first_step)):
        yield Figure(name, [call() for _ in range(repeats)], "s", limit, "low")
    yield Figure("nibkit dither, 64x64 pixels", [small_picture() for _ in range(repeats)], "s", None, "low")
    for module in ("nibkit", "torch", "nibkit.dither", "tasks.dithering"):
        yield Figure(f"import {module}", [imported(module) for _ in range(repeats)], "s", None, "low")


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


def small_picture() -> float:
    """Return the seconds of a command that dithers a picture which itself takes no time."""
    with tempfile.TemporaryDirectory() as folder:
        image, halftone = Path(folder, "image.png"), Path(folder, "halftone.png")
        Image.linear_gradient("L").resize((64, 64)).save(image)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "nibkit", "dither", image, halftone], check=True, capture_output=True)
        return time.perf_counter() - start


def imported(module: str) -> float:
    """Return the seconds of a process that imports a module and ends."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], cwd=Path(TRAIN).parent, check=True)
    return time.perf_counter() - start


def _timed(arguments: list[str], code: int) -> float:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, TRAIN, *arguments], capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    return time.perf_counter() - start
