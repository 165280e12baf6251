"""``python -m benchmarks [NAME ...] [--quick] [--json FILE]``: run the benchmarks and print their figures."""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from nibkit import __version__
from nibkit.memory import keep_freed_memory

NAMES = {
    "step": "training step of every task against a plain loop with stock layers",
    "shares": "what a training step spends its time on",
    "overhead": "Lightning, callbacks and logging against a bare loop",
    "nib": "a network with NIB against the same without",
    "data": "the data pipeline against what the network eats, with and without cache",
    "inference": "megapixels per second against the network's convolutions alone",
    "scaling": "one, two and four processes",
    "work": "cost against size, channels, batch and number of images",
    "start": "seconds until the first answer",
    "losses": "the losses' share of a step, and against stock layers",
    "classical": "classical halftoning",
    "nib_place": "where SPADE's NIB should go",
    "spade_step": "memory of a step of SPADE at its published width",
}
PACKAGES = ("torch", "lightning", "torchmetrics", "kornia", "albumentations", "numba", "onnxruntime")


def main() -> None:
    """Run the named benchmarks, all by default."""
    options = _options()
    keep_freed_memory()  # as all commands do, for both sides of a comparison
    results: dict[str, object] = {"machine": machine(), "quick": options.quick}
    print("\n".join(f"{key}: {value}" for key, value in machine().items()))
    for name in options.names or NAMES:
        print(f"\n{name}: {NAMES[name]}", flush=True)
        records = []
        for figure in importlib.import_module(f"benchmarks.{name}").measure(quick=options.quick):
            print(figure.row(), flush=True)
            records.append(figure.record())
        results[name] = records
        if options.json:  # after each, so that a long run that is stopped leaves what it has measured
            options.json.write_text(json.dumps(results, indent=2) + "\n")


def machine() -> dict[str, str]:
    """Return what the figures depend on: date, processor, threads, versions."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {device}",
        "versions": f"nibkit {__version__}, Python {platform.python_version()}, {packages}",
    }


def _processor() -> str:
    """Return the processor's name, and the instructions that it has for matrices and short floats."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    name = next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), "?")
    known = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in text]
    return f"{name} ({' '.join(known)})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of: {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="fewer repeats: to see that it runs, not to quote")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"unknown benchmark '{unknown[0]}'; choose from: {', '.join(NAMES)}")
    if options.json and not options.json.resolve().parent.is_dir():
        parser.error(f"--json {options.json}: the folder does not exist")
    return options


if __name__ == "__main__":
    main()
