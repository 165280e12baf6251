"""The script of the docs on a real Slurm cluster of two nodes: one run, told to stop and requeued, ends the same."""

import contextlib
import csv
import json
import os
import re
import signal
from pathlib import Path

import pytest
import torch
from conftest import BARE, TINY
from slurm_cluster import Cluster, Job, manage

pytestmark = pytest.mark.slow
STEPS = 150
SMALL = [*TINY, *BARE, "task=dithering", "logger=csv", "data.root=photos", "callbacks.report.baselines=false"]
# 3 steps of 2 x 2 images in an epoch; with one process it would be 6
LONG = [*SMALL, f"trainer.max_steps={STEPS}", "trainer.val_check_interval=50", "trainer.log_every_n_steps=1",
        "data.samples_per_epoch=12"]  # fmt: skip


@pytest.fixture(scope="module")
def cluster(images, tmp_path_factory):
    """The cluster; its log is kept in the file that NIBKIT_CLUSTER_LOG names."""
    manage("install")
    home, folder = tmp_path_factory.mktemp("slurm"), tmp_path_factory.mktemp("work")
    (folder / "photos").symlink_to(images)
    log = Path(os.environ.get("NIBKIT_CLUSTER_LOG", folder / "slurm_test.log")).absolute()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what stands below is still done
    try:
        manage("start", home)
        yield Cluster(home, folder, log)
    finally:
        manage("stop", home)


@pytest.fixture(scope="module")
def undisturbed(cluster):
    """A job that runs from its beginning to its end."""
    job = cluster.submit(*LONG)
    job.wait(Job.is_completed)
    job.quote("run folder:")
    return job


def end(job):
    checkpoint = torch.load(job.run / "checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == STEPS
    return checkpoint["state_dict"]


def rows(job):
    with (job.run / "logs/csv/metrics.csv").open() as file:
        # a validation that is made up for after the end of an epoch counts as of the next
        return [row | {"epoch": None} for row in csv.DictReader(file)]


def assert_same_end(job, other):
    weights, wanted = end(job), end(other)
    assert weights.keys() == wanted.keys()
    assert [name for name, value in wanted.items() if not torch.equal(weights[name], value)] == []
    assert rows(job) == rows(other)
    assert (job.run / "metrics.json").read_text() == (other.run / "metrics.json").read_text()
    job.cluster.note(f"the {len(wanted)} weights of job {job.number} at step {STEPS} are those of job {other.number}")


def test_all_tasks_train_one_run(undisturbed):
    runs = undisturbed.cluster.folder / "outputs/dithering"
    assert [run.name for run in runs.iterdir()] == [f"job-{undisturbed.number}"]
    assert json.loads((undisturbed.run / "metrics.json").read_text())
    last = list(csv.DictReader((undisturbed.run / "logs/csv/metrics.csv").open()))[-1]
    assert int(last["epoch"]) in (STEPS // 3 - 1, STEPS // 3)  # two processes
    assert undisturbed.fields["NodeList"] == "node[1-2]"


def goes_on(job):
    """Wait for the queue, cut short the two minutes for which Slurm holds a requeued job, and wait for the end.

    Not to nothing: a script that begins while its nodes still clean up fails at once, now and then.
    """
    job.wait(Job.is_requeued)
    job.quote("saved")
    job.cluster.tell("scontrol", "update", f"JobId={job.number}", "StartTime=now+5")
    job.wait(Job.is_completed)
    job.quote("goes on from")
    (step,) = set(re.findall(r"at step (\d+)", job.output))  # of all tasks
    assert 0 < int(step) < STEPS
    assert f"goes on from outputs/dithering/job-{job.number}/checkpoints/last.ckpt" in job.output


def test_a_job_that_is_told_of_its_time_limit_requeues_itself(cluster, undisturbed):
    job = cluster.submit(*LONG)
    job.wait(Job.trains)
    cluster.tell("scancel", "--signal=USR1", job.number)
    goes_on(job)
    assert "SIGUSR1" in job.output
    assert "goes back into Slurm's queue" in job.output
    assert_same_end(job, undisturbed)


def test_a_job_that_has_to_make_room_is_saved_first(cluster, undisturbed):
    job = cluster.submit(*LONG)
    job.wait(Job.trains)
    cluster.tell("scontrol", "requeue", job.number)
    goes_on(job)
    assert "stopped by SIGTERM" in job.output
    assert_same_end(job, undisturbed)


def pid(job, rank):
    """The process of a task, found by what Slurm has told it."""
    wanted = {f"SLURM_JOB_ID={job.number}", f"SLURM_PROCID={rank}"}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            known = (process / "environ").read_text(errors="replace").split("\0")
            if wanted <= set(known) and "nibkit" in (process / "cmdline").read_text():
                return int(process.name)
    raise AssertionError(f"no process of rank {rank}")


def test_a_task_that_dies_ends_the_others(cluster):
    job = cluster.submit(*LONG, "trainer.max_steps=100000")
    job.wait(Job.trains)
    other = pid(job, 0)
    os.kill(pid(job, 1), signal.SIGKILL)
    cluster.note(f"$ kill -KILL (task 1 of job {job.number})")
    job.wait(lambda job: job.fields["JobState"] == "FAILED", seconds=60)
    assert not Path(f"/proc/{other}/exe").exists()


def test_a_grid_is_a_job_for_each_point(cluster):
    launcher = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=main", "hydra.launcher.timeout_min=10"]
    settings = [*SMALL, "run_id=grid"]
    cluster.tell("python", "-m", "nibkit", "train", "-m", "seed=0,1", *launcher, settings=settings, timeout=300)
    for index in ("0", "1"):
        assert (cluster.folder / "outputs/dithering/grid" / index / "metrics.json").is_file()
    jobs = sorted(path.name for path in (cluster.folder / "outputs/dithering/grid/.submitit").glob("[0-9]*"))
    assert len(jobs) == 2
    for number in jobs:
        Job(cluster, number).wait(Job.is_completed)
