"""docs/extending.md, word for word, from an installed wheel and a user's own folder."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
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
    """Write the files that the docs page shows."""
    page = (ROOT / "docs" / "extending.md").read_text()
    for name, code in re.findall(r"`([\w/.]+)`\n\n```\w+\n(.*?)```", page, re.DOTALL):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    assert (tmp_path / "mypackage/__init__.py").exists()
    return tmp_path


def run(arguments, folder, site):
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    environment.pop("NIBKIT_RUN_ID", None)
    command = [sys.executable, "-m", "nibkit", "train", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_wheel_holds_packages_and_configs(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "nibkit/configs/train.yaml",
        "nibkit/configs/nib/symmetric.yaml",
        "tasks/base.py",
        "callbacks/report.py",
    ):
        assert wanted in names
    assert not any(name.startswith(("tests", "benchmarks")) for name in names)


def test_user_package_trains(user, site):
    done = run(["--config-dir", "conf", "task=mine", "backbone=mine", *TINY], user, site)
    assert done.returncode == 0, done.stderr
    assert (user / "run/checkpoints/best.ckpt").exists()
    config = (user / "run/config.yaml").read_text()
    assert "mypackage.MyTask" in config
    assert "far_tone" in (user / "run/logs/csv/metrics.csv").read_text()


def test_user_backbone_by_imports(user, site):
    done = run(["--config-dir", "conf", "imports=[mypackage]", "backbone=mine", "nib=none", *TINY], user, site)
    assert done.returncode == 0, done.stderr


def test_own_choices_are_listed(user, site):
    done = run(["--config-dir", "conf", "task=mien"], user, site)
    assert done.returncode == 2
    assert "did you mean 'mine'" in done.stderr


@pytest.mark.parametrize("name", ["tasks", "callbacks"])
def test_clash_is_one_sentence(name, user, site):
    (user / f"{name}.py").write_text("")
    done = run(TINY, user, site)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"'{name}' of nibkit is hidden by" in done.stderr
    assert not (user / "run").exists()
