"""The shape of a release: its version is told at once, and what .ci/minimum and .ci/extras read is there."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import nibkit

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_is_told_without_anything_heavy():
    heavy = "print(sorted({'torch', 'lightning', 'hydra', 'numpy'} & set(sys.modules)))"
    code = f"import atexit, runpy, sys; atexit.register(lambda: {heavy}); runpy.run_module('nibkit')"
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"nibkit {nibkit.__version__}", "[]"]


@pytest.mark.parametrize("need", PROJECT["dependencies"])
def test_every_dependency_has_a_lowest_version(need):
    assert re.match(r"[\w-]+>=[\w.]+", need)


def test_the_former_name_of_an_extra_still_works():
    assert PROJECT["optional-dependencies"]["onnx"] == ["nibkit[export]"]
