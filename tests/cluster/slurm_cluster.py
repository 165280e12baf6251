"""A Slurm cluster for tests, what it is told and what its jobs do, kept as a short log."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "docs/cluster/nibkit.sbatch"
CANNOT = 77  # of cluster.sh
HEADER = """\
tests/cluster/test_slurm.py: what the user does ($) and what the jobs of docs/cluster/nibkit.sbatch do, by Slurm's
own account. Two nodes, real daemons, one machine; SETTINGS are a network of a few weights on a handful of images.

"""
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


def manage(*arguments):
    """Call cluster.sh; skip the tests where this machine cannot have a cluster."""
    command = ["bash", str(Path(__file__).with_name("cluster.sh")), *map(str, arguments)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=300)
    if done.returncode == CANNOT:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr


class Cluster:
    """The cluster whose files are in ``home``; its jobs are submitted in ``folder``."""

    def __init__(self, home, folder, log):
        self.home, self.folder, self.log = home, folder, log
        self.began = time.monotonic()
        self.environment = {
            **{key: value for key, value in os.environ.items() if key != "NIBKIT_RUN_ID"},
            "SLURM_CONF": str(home / "slurm.conf"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NIBKIT_CACHE": str(folder / "cache"),
        }  # fmt: skip
        log.write_text(HEADER)

    def note(self, line):
        """Write a line of the log, without the paths of this machine."""
        with self.log.open("a") as file:
            file.write(f"{time.monotonic() - self.began:5.0f} s  {line.replace(f'{ROOT}/', '')}\n")

    def tell(self, *command, timeout=60, settings=()):
        """Run a command as a user does, with settings that the log only names; return what it prints."""
        self.note("$ " + " ".join([*command, "SETTINGS"] if settings else command))
        command = [*command, *settings]
        done = self._run(*command, timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def _run(self, *command, timeout=60):
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=timeout
        )

    def submit(self, *settings):
        """Submit the script of the docs: on each of its two nodes one task instead of four."""
        sizes = ["--ntasks-per-node=1", "--gpus-per-node=1", "--cpus-per-task=1", "--time=0:10:00"]
        answer = self.tell("sbatch", *sizes, str(SCRIPT), settings=settings)
        self.note(answer)
        return Job(self, answer.split()[-1])

    def jobs(self):
        """The fields of every job, as ``scontrol show job`` names them."""
        lines = self._run("scontrol", "--oneliner", "show", "job").stdout.splitlines()
        return [dict(field.partition("=")[::2] for field in line.split() if "=" in field) for line in lines]


class Job:
    """A job of the cluster."""

    def __init__(self, cluster, number):
        self.cluster, self.number, self._noted = cluster, number, None
        self.run = cluster.folder / "outputs/dithering" / f"job-{number}"

    @property
    def fields(self):
        (found,) = [job for job in self.cluster.jobs() if job["JobId"] == self.number]
        line = "job {JobId}: {JobState} on {NodeList}, restarts {Restarts}, exit code {ExitCode}".format(**found)
        if line != self._noted:
            self.cluster.note(line)
            self._noted = line
        return found

    @property
    def output(self):
        """What its tasks have printed."""
        path = self.cluster.folder / f"nibkit-{self.number}.log"
        return path.read_text() if path.exists() else ""

    def wait(self, reached, seconds=300):
        """Wait until ``reached(job)``; a job that has failed cannot reach anything."""
        end = time.monotonic() + seconds
        while not reached(self):
            assert time.monotonic() < end, f"{self.fields['JobState']}\n{self.output[-3000:]}"
            assert self.fields["JobState"] not in ENDED or reached(self), self.output[-3000:]
            time.sleep(0.3)

    def trains(self):
        """Say whether it has made some steps."""
        rows = self.run / "logs/csv/metrics.csv"
        return rows.exists() and len(rows.read_text().splitlines()) > 8

    def is_completed(self):
        """Say whether it has ended well."""
        return self.fields["JobState"] == "COMPLETED"

    def is_requeued(self):
        """Say whether it is in the queue for the second time."""
        fields = self.fields
        return fields["JobState"] == "PENDING" and fields["Restarts"] == "1"

    def quote(self, *texts):
        """Put the lines of its output that hold these texts into the log."""
        for line in self.output.splitlines():
            if any(text in line for text in texts):
                self.cluster.note(f"job {self.number} says: {line.partition('srun:')[0]}")
