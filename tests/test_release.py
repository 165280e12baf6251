"""The shape of a release: its version is told at once, and what .ci/minimum and .ci/extras read is there."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

import nibkit

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_is_told_without_anything_heavy():
    heavy = "print(sorted({'torch', 'lightning', 'hydra', 'numpy'} & set(sys.modules)))"
    code = f"import atexit, runpy, sys; atexit.register(lambda: {heavy}); runpy.run_module('nibkit')"
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"nibkit {nibkit.__version__}", "[]"]


@pytest.mark.parametrize(
    "arguments", [("dither", "in.png", "out.png"), ("hide", "in.png", "out.png")], ids=["dither", "hide"]
)
def test_a_picture_is_made_without_what_only_training_needs(arguments, tmp_path):
    # each of them takes as long to import as torch itself
    Image.linear_gradient("L").convert("RGB").resize((16, 16)).save(tmp_path / "in.png")
    heavy = "print(sorted({'lightning', 'torchmetrics', 'torchvision', 'torch._dynamo'} & set(sys.modules)))"
    code = f"import atexit, runpy, sys; atexit.register(lambda: {heavy}); runpy.run_module('nibkit')"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert (tmp_path / "out.png").exists()
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("need", PROJECT["dependencies"])
def test_every_dependency_has_a_lowest_version(need):
    assert re.match(r"[\w-]+>=[\w.]+", need)


def test_the_former_name_of_an_extra_still_works():
    assert PROJECT["optional-dependencies"]["onnx"] == ["nibkit[export]"]
