"""``python tests/soak.py halftones|photographs``: kill a run at 20 random moments, and see that it ends the same.

A run that nothing disturbs is made first. Then the same run is started, killed by SIGKILL and started again, always by
the same command line; of several processes all are killed, or one, whom the others must not outlive by more than a
minute. Whatever was killed, the newest checkpoint must be whole; in the end weights, averages, states of the optimizers
and logs must be those of the first run, bit for bit, and the run folder must hold the same files.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from same_end import assert_same_end, ending

ROOT = Path(__file__).resolve().parent.parent
COMMON = ["trainer.accelerator=cpu", "logger=csv", "trainer.log_every_n_steps=1", "ckpt_path=auto",
          "data.num_workers=2", "++callbacks.ema={_target_:callbacks.ema.GeneratorEMA,decay:0.99}",
          "callbacks.last.steps=10", "callbacks.samples=null", "callbacks.spectrum=null", "callbacks.flatness=null",
          "callbacks.report=null", "trainer.limit_val_batches=2", "trainer.limit_test_batches=2"]  # fmt: skip
RUNS = {
    "halftones": ["task=dithering", "backbone.width=4", "backbone.blocks=2", "nib=dynamic", "data.crop_size=64",
                  "data.samples_per_epoch=200", "data.batch_size=4", "trainer.val_check_interval=30",
                  "task.estimator=per_pixel"],
    "photographs": ["task=semantic_synthesis", "backbone=pix2pix", "data=labels/builtin", "data.size=[64,64]",
                    "backbone.width=4", "backbone.downs=6", "discriminator.width=4", "data.samples_per_epoch=120",
                    "data.batch_size=2", "trainer.accumulate_grad_batches=2", "trainer.val_check_interval=40"],
}  # fmt: skip
START = 5.0  # seconds: about what a run needs until its first step
PATIENCE = 60.0  # seconds that ranks may live on without the one that was killed


class Run:
    """A run that is started by one command line, again and again."""

    def __init__(self, folder, settings):
        self.folder, self.settings = folder, settings
        self.log = folder / "logs/csv/metrics.csv"

    def start(self):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with self.folder.with_suffix(".txt").open("a") as output:
            command = [sys.executable, "-m", "nibkit", "train", *self.settings, f"run_dir={self.folder}"]
            self.started = time.time()
            self.process = subprocess.Popen(
                command, env=environment, start_new_session=True, stdout=output, stderr=subprocess.STDOUT
            )

    def end(self):
        """Let it run to its end, and return the seconds."""
        began = time.monotonic()
        self.start()
        code = self.process.wait()
        if code:
            raise SystemExit(f"the run ended with code {code}:\n{self.folder.with_suffix('.txt').read_text()[-3000:]}")
        return time.monotonic() - began

    def step(self):
        """The last step in its log since it was started; -1 where there is none."""
        try:
            if self.log.stat().st_mtime < self.started:
                return -1
            return int(self.log.read_text().splitlines()[-1].split(",")[1])
        except (OSError, IndexError, ValueError):
            return -1

    def alive(self):
        """All its processes, the eldest first."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session, *_ = status.read_text().rpartition(")")[2].split()
            except OSError:  # has just ended
                continue
            if int(session) == self.process.pid and state != "Z":
                found.append(int(status.parent.name))
        return sorted(found)

    def ranks(self):
        """Its processes that train, the first rank first."""
        marks = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in self.alive()}
        return [pid for pid, line in marks.items() if b"nibkit" in line and b"spawn" not in line][: 1 + self.others()]

    def others(self):
        return sum(setting == "trainer=ddp_sim" for setting in self.settings)


def kill(run, moments):
    """Kill all processes of a run, or one of its ranks; return whom."""
    ranks = run.ranks()
    victim = moments.choice(["all", *range(len(ranks))]) if len(ranks) > 1 else "all"
    if victim == "all":
        os.killpg(run.process.pid, signal.SIGKILL)
    else:
        os.kill(ranks[victim], signal.SIGKILL)
    return "all processes" if victim == "all" else f"rank {victim}"


def wait_for_all(run):
    """Wait until no process is left, and return the seconds."""
    began = time.monotonic()
    while run.alive():
        if time.monotonic() - began > PATIENCE:
            raise SystemExit(f"processes {run.alive()} outlive the one that was killed")
        time.sleep(0.1)
    run.process.wait()
    return time.monotonic() - began


def disturb(run, moments, when, seconds):
    """Start a run and kill it ``when``: after a step and some time, or after a part of the time a start takes."""
    run.start()
    began = time.monotonic()
    while run.process.poll() is None:
        if when is None and time.monotonic() - began > seconds:
            break
        if when is not None and run.step() >= when:
            time.sleep(seconds)
            break
        time.sleep(0.01)
    if run.process.poll() is not None:
        raise SystemExit("the run ended before it was killed")
    passed, step = time.monotonic() - began, run.step()
    doing = f"at step {step + 1}" if step >= 0 else "before its first step"
    whom = kill(run, moments)
    left = wait_for_all(run)
    last = run.folder / "checkpoints/last.ckpt"
    kept = f"checkpoint of step {ending(run.folder)[0]}" if last.exists() else "no checkpoint"
    return f"{whom} after {passed:.1f} s, {doing}; all ended {left:.1f} s later; {kept}"


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def draw_moments(kills, steps, moments):
    """Yield when to kill: three times of four (a step, seconds after it), else (None, seconds after the start)."""
    amidst = kills - kills // 4
    due = (int((i + moments.random()) * steps / (amidst + 1)) for i in range(amidst))
    for trains in moments.sample([True] * amidst + [False] * (kills - amidst), kills):
        yield (next(due), moments.uniform(0, 0.3)) if trains else (None, moments.uniform(0, START))


def soak(options, folder):
    """Run undisturbed, run and kill, compare."""
    settings = [*RUNS[options.name], *COMMON, f"trainer.max_steps={options.steps}"]
    settings += ["trainer=ddp_sim"] if options.processes > 1 else []
    whole, killed = Run(folder / "whole", settings), Run(folder / "killed", settings)
    print(f"undisturbed: {whole.end():.0f} s", flush=True)
    moments = random.Random(options.seed)
    for number, (when, seconds) in enumerate(draw_moments(options.kills, options.steps, moments), start=1):
        print(f"kill {number:2d}: {disturb(killed, moments, when, seconds)}", flush=True)
    print(f"the rest: {killed.end():.0f} s")
    assert_same_end(killed.folder, whole.folder)
    assert files(killed.folder) == files(whole.folder)
    step, tensors = ending(killed.folder)
    print(f"step {step}: {len(tensors)} tensors and the log are those of the undisturbed run, bit for bit")


def main():
    """Soak; what is left stays if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("name", choices=RUNS)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--processes", type=int, default=1, choices=(1, 2))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    print(f"{options.name}, {options.processes} process(es), {options.steps} steps, moments of seed {options.seed}")
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    soak(options, folder)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
