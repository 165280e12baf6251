"""The example of docs/extending.md, beside an installed wheel of nibkit: in a folder of its own, and installed."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "own_generator"
TINY = [
    "trainer.max_steps=2", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "data.num_workers=0",
    "data.val_crop=64", "data.test_crop=64", "callbacks.spectrum=null", "run_dir=run",
]  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(source)], check=False)
    for name in ("nibkit", "tasks", "callbacks", "pyproject.toml", "README.md", "LICENSE"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(source)], check=True)  # what is not committed yet, too
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)]
    subprocess.run(build, check=True)
    return next(folder.glob("nibkit-*.whl"))


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def user(tmp_path):
    """Lay the example's package into the user's folder, without installing it."""
    shutil.copytree(EXAMPLE / "petals", tmp_path / "petals", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.fixture(scope="module")
def installed(site, tmp_path_factory):
    """Install the example beside nibkit."""
    folder = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(EXAMPLE, folder / "source")  # pip builds in the folder itself
    shutil.copytree(site, folder / "site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(folder / "site"), str(source)], check=True)
    return folder / "site"


def run(arguments, folder, site, program=("-m", "nibkit", "train")):
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    environment.pop("NIBKIT_RUN_ID", None)
    command = [sys.executable, *program, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_page_shows_the_files_of_the_example():
    page = (ROOT / "docs" / "extending.md").read_text()
    shown = dict(re.findall(r"`([\w/.]+)`\n\n```\w+\n(.*?)```", page, re.DOTALL))
    for name, text in shown.items():
        assert text == (EXAMPLE / name).read_text(), f"docs/extending.md shows another {name}"
    files = [f.relative_to(EXAMPLE).as_posix() for kind in ("py", "yaml", "toml") for f in EXAMPLE.rglob(f"*.{kind}")]
    assert set(shown) == {name for name in files if not name.startswith(("tests/", "build/"))}


def test_wheel_holds_packages_and_configs(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "nibkit/configs/train.yaml",
        "nibkit/configs/nib/symmetric.yaml",
        "nibkit/weights/dithering.safetensors",
        "nibkit/weights/blue_noise_512.png",
        "tasks/base.py",
        "callbacks/report.py",
    ):
        assert wanted in names
    assert not any(name.startswith(("tests", "benchmarks", "examples")) for name in names)


def test_user_package_trains(user, site):
    done = run(["--config-dir", "petals/configs", "task=petals", *TINY], user, site)
    assert done.returncode == 0, done.stderr
    assert (user / "run/checkpoints/best.ckpt").exists()
    config = (user / "run/config.yaml").read_text()
    assert "petals.PetalsTask" in config
    assert "flat_clumps" in (user / "run/logs/csv/metrics.csv").read_text()


def test_user_backbone_by_imports(user, site):
    choices = ["--config-dir", "petals/configs", "imports=[petals]", "backbone=petals", "nib=none"]
    done = run([*choices, *TINY], user, site)
    assert done.returncode == 0, done.stderr


def test_own_choices_are_listed(user, site):
    done = run(["--config-dir", "petals/configs", "task=petls"], user, site)
    assert done.returncode == 2
    assert "did you mean 'petals'" in done.stderr


@pytest.mark.slow
def test_the_installed_example_trains_tests_and_predicts_by_options_only(installed, tmp_path):
    shutil.copy(ROOT / "train.py", tmp_path)
    done = run(["task=petals", "backbone.width=4", *TINY], tmp_path, installed, ["train.py"])
    assert done.returncode == 0, done.stderr
    assert "flat_clumps" in (tmp_path / "run/logs/csv/metrics.csv").read_text()
    trained = ["task=petals", "ckpt_path=run/checkpoints/best.ckpt"]
    done = run(["mode=test", *trained, *TINY, "run_dir=tested"], tmp_path, installed, ["train.py"])
    assert done.returncode == 0, done.stderr
    done = run(["mode=predict", *trained, f"input={ROOT}/docs/contrast.png", "output=out"], tmp_path, installed)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out").iterdir())
    weights = ["run/checkpoints/best.ckpt", "small.safetensors"]  # the network by name, without its task
    done = run(weights, tmp_path, installed, ["-m", "nibkit", "export"])
    assert done.returncode == 0, done.stderr
    assert "petals" in run(["--help"], tmp_path, installed).stdout


@pytest.mark.slow
def test_the_tests_of_the_example_pass(installed):
    done = run(["-q", str(installed.parent / "source")], installed, installed, ["-m", "pytest"])
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["tasks", "callbacks"])
def test_clash_is_one_sentence(name, user, site):
    (user / f"{name}.py").write_text("")
    done = run(TINY, user, site)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"'{name}' of nibkit is hidden by" in done.stderr
    assert not (user / "run").exists()
