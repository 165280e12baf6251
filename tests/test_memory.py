"""Freed memory that a process keeps: counted in pages that the system had to give it."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, sys
import torch
from nibkit.memory import MMAP_THRESHOLD, TRIM_THRESHOLD, keep_freed_memory

for option in MMAP_THRESHOLD, TRIM_THRESHOLD:  # as a process begins; later the C library learns, or not
    getattr(ctypes.CDLL(None), "mallopt", int)(option, 2**17)
print(keep_freed_memory() if sys.argv[1] == "kept" else None)

def ask():
    features = [torch.ones(2**20) for _ in range(8)]

ask()
ask()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    ask()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
ROUND = 8 * 4 * 2**20 // 4096  # pages


def pages(*arguments, **environment):
    """Return what the program says, and how many pages it was given."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=plain | environment)
    said, faults = done.stdout.split()
    return said, int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="another C library")
def test_pages_that_were_freed_are_not_asked_for_again():
    said, faults = pages("kept")
    if said == "False":
        pytest.skip("the C library is not glibc")
    assert faults < ROUND  # of ten rounds
    assert pages("given back")[1] > 5 * ROUND


def test_what_the_environment_says_is_left_alone():
    assert pages("kept", MALLOC_ARENA_MAX="2")[0] == "False"
