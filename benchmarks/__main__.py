"""``python -m benchmarks [NAME ...] [--quick] [--json FILE]``: run the benchmarks and print their ratios."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
from pathlib import Path

import torch

NAMES = ("classical", "losses", "nib_place", "overhead", "spade_step", "start")


def main() -> None:
    """Run the named benchmarks, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of: {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="fewer repeats: to see that it runs, not to quote")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"unknown benchmark '{unknown.pop()}'; choose from: {', '.join(NAMES)}")
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"machine: {machine}")
    results: dict[str, object] = {"machine": machine}
    for name in options.names or NAMES:
        print(f"\n{name}")
        results[name] = importlib.import_module(f"benchmarks.{name}").measure(quick=options.quick)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
