"""Processes that die, and processes that ``torchrun`` starts."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import BARE, TINY

from nibkit import watch
from nibkit.config import load_config
from nibkit.make import make, make_trainer

ROOT = Path(__file__).resolve().parent.parent
LONG = [*TINY, *BARE, "logger=csv", "trainer.log_every_n_steps=1", "trainer.max_steps=100000", "data.batch_size=1",
        "run_dir=run", "ckpt_path=auto"]  # fmt: skip


def start(command, folder, **further):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **further}
    environment.pop("NIBKIT_RUN_ID", None)
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_until_it_trains(folder):
    end = time.monotonic() + 100
    while time.monotonic() < end:
        log = folder / "run/logs/csv/metrics.csv"
        if log.exists() and len(log.read_text().splitlines()) > 3:
            return
        time.sleep(0.1)
    raise AssertionError("it does not train")


def children(pid):
    """The processes that a process has started, first the eldest."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until_gone(*processes):
    end = time.monotonic() + 60
    while any(status_of(each) not in ("", "Z") for each in processes):
        assert time.monotonic() < end
        time.sleep(0.5)


def status_of(process):
    """The letter of what a process does, Z of one that has ended and whose parent has not looked; nothing if gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_a_rank_that_is_killed_ends_the_run_and_is_named(images, tmp_path, processes):
    run = start([sys.executable, str(ROOT / "train.py"), *LONG, f"data.root={images}", "trainer=ddp_sim",
                 f"trainer.devices={processes}"], tmp_path)  # fmt: skip
    wait_until_it_trains(tmp_path)
    others = children(run.pid)
    os.kill(others[-1], signal.SIGKILL)
    began = time.monotonic()
    _, errors = run.communicate(timeout=60)
    assert run.returncode not in (0, None)
    assert errors.count(f"rank {processes - 1} was killed by SIGKILL") == 1
    assert "Traceback" not in errors
    wait_until_gone(*others)
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_an_error_of_one_rank_is_one_sentence_of_it(images, tmp_path):
    """Both find broken images, rank 1 later than the first."""
    photos = tmp_path / "photos"
    shutil.copytree(images, photos)
    run = start([sys.executable, str(ROOT / "train.py"), *LONG, f"data.root={photos}", "trainer=ddp_sim"], tmp_path)
    wait_until_it_trains(tmp_path)
    (other,) = children(run.pid)
    os.kill(other, signal.SIGSTOP)
    for path in filter(Path.is_file, photos.rglob("*")):
        path.write_bytes(b"no image any more")
    os.kill(other, signal.SIGCONT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 2
    assert "cannot read image" in errors
    assert "Traceback" not in errors
    wait_until_gone(other)


@pytest.mark.slow
def test_ranks_do_not_outlive_the_first(images, tmp_path):
    run = start([sys.executable, str(ROOT / "train.py"), *LONG, f"data.root={images}", "trainer=ddp_sim"], tmp_path)
    wait_until_it_trains(tmp_path)
    (other,) = children(run.pid)
    run.kill()
    run.communicate(timeout=60)
    wait_until_gone(other)


@pytest.mark.slow
def test_every_rank_stops_at_the_step_at_which_one_is_told_to(images, tmp_path):
    run = start([sys.executable, str(ROOT / "train.py"), *LONG, f"data.root={images}", "trainer=ddp_sim"], tmp_path)
    wait_until_it_trains(tmp_path)
    os.kill(children(run.pid)[0], signal.SIGTERM)  # not the first rank
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGTERM
    steps = re.findall(r"stopped by SIGTERM at step (\d+)", errors)
    kept = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert steps == [str(kept["global_step"])]  # said once
    assert "Traceback" not in errors


@pytest.mark.slow
def test_processes_of_torchrun_share_a_run_folder(images, tmp_path):
    settings = [*TINY, *BARE, f"data.root={images}", "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]
    done = start([sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29517",
                  str(ROOT / "train.py"), *settings, "data.batch_size=1"], tmp_path)  # fmt: skip
    _, errors = done.communicate(timeout=200)
    assert done.returncode == 0, errors
    (run,) = (tmp_path / "outputs/dithering").iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}-\d{3}", run.name)
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 2


def test_processes_that_cannot_agree_are_told_to(images, tmp_path):
    done = start([sys.executable, str(ROOT / "train.py"), *TINY, f"data.root={images}"], tmp_path, WORLD_SIZE="2")
    _, errors = done.communicate(timeout=60)
    assert done.returncode == 2
    assert "run_id is not set" in errors


@pytest.mark.parametrize(("further", "kind"), [({}, "SLURM"), ({"TORCHELASTIC_RUN_ID": "a"}, "TorchElastic")])
def test_torchrun_counts_for_more_than_the_job_it_is_in(monkeypatch, further, kind):
    job = dict.fromkeys(("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "RANK", "LOCAL_RANK", "GROUP_RANK"), "0")
    job |= {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "job", "SLURM_JOB_ID": "7", "WORLD_SIZE": "1", "SLURM_NODELIST": "a"}
    for name, value in (job | further).items():
        monkeypatch.setenv(name, value)
    config = load_config([*TINY, *BARE, "data.root=none", "trainer=ddp", "trainer.devices=1"])
    trainer = make_trainer(config, make("task", config.task))
    assert type(trainer.strategy.cluster_environment).__name__ == f"{kind}Environment"


class Killed:
    """A process of a rank that was killed, and its launcher."""

    def poll(self):
        return -signal.SIGKILL

    def kill(self):
        pass


def test_a_process_does_not_end_before_it_is_said_which_rank_died(monkeypatch):
    # the thread that watches comes first, and is slow; a process that ends would not wait for it
    told, begun, launcher = [], threading.Event(), SimpleNamespace(procs=[Killed()])

    def slowly(sentence):
        begun.set()
        time.sleep(0.3)
        told.append(sentence)

    monkeypatch.setattr(watch, "_said", threading.Event())
    monkeypatch.setattr(watch, "_tell", slowly)
    monkeypatch.setattr(watch, "GRACE", 0.0)
    monkeypatch.setattr(os, "_exit", lambda code: None)
    monkeypatch.setenv(watch.PARENT, str(os.getpid()))
    thread = threading.Thread(target=watch._watch_children, args=(launcher,))
    thread.start()
    begun.wait()
    stopped = watch.dead_rank(launcher)
    assert str(stopped) == ""
    assert ["rank 1 was killed by SIGKILL" in sentence for sentence in told] == [True]
    thread.join()
