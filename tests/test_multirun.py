"""Many runs at once: the grid, its launchers, and what is refused before the first run starts."""

import itertools
import json
import os
import pickle
import signal
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from hydra.core.config_store import ConfigStore

from nibkit import multirun
from nibkit.cli import train
from nibkit.errors import Stopped, UserError
from nibkit.multirun import grid, launch

QUICK = ["callbacks.report.baselines=false", "callbacks.progress=null", "task=halftoning"]


@pytest.fixture
def quick(tiny):
    return [*tiny, *QUICK]


@pytest.fixture
def nothing_starts(monkeypatch):
    """Fail if a launcher is made: what is wrong shall be told before."""

    def started(*arguments):
        raise AssertionError("a launcher was made")

    monkeypatch.setattr(multirun, "_make_launcher", started)


def figures(run):
    return json.loads(Path(run, "metrics.json").read_text())


def weights(run):
    return torch.load(Path(run, "checkpoints", "last.ckpt"), weights_only=True)["state_dict"]


def test_grid_is_the_product_of_all_lists():
    points = grid(
        ["task=halftoning", "seed=0,1,2", "data.augment=[1,2]", "backbone=resnet,unet", "nib.scale=range(1,3)"]
    )
    expected = [
        ("task=halftoning", f"seed={seed}", "data.augment=[1,2]", f"backbone={backbone}", f"nib.scale={scale}")
        for seed, backbone, scale in itertools.product([0, 1, 2], ["resnet", "unet"], [1, 2])
    ]
    assert [point.overrides for point in points] == expected
    assert points[1].title == "seed=0 backbone=resnet nib.scale=2"
    assert [point.overrides for point in grid(["seed=3"])] == [("seed=3",)]


def test_grid_keeps_quotes_and_added_keys():
    points = grid(["data.root='a,b','c d'", "+trainer.x=1,2", "~logger.csv"])
    assert [point.overrides[:2] for point in points] == list(
        itertools.product(["data.root='a,b'", "data.root='c d'"], ["+trainer.x=1", "+trainer.x=2"])
    )
    assert all(point.overrides[2] == "~logger.csv" for point in points)


def test_each_point_is_the_run_that_it_would_be_alone(quick, capsys):
    train(["-m", *quick, "seed=3,4", "run_id=both"])
    folder = Path("outputs/halftoning/both")
    assert sorted(path.name for path in folder.iterdir()) == ["0", "1"]
    assert f"point 1 (seed=4): {folder / '1'}\n" in capsys.readouterr().out
    train([*quick, "seed=4", "run_dir=alone"])
    alone = weights("alone")
    assert figures(folder / "1") == figures("alone")
    assert all(torch.equal(value, alone[key]) for key, value in weights(folder / "1").items())
    assert not all(torch.equal(value, alone[key]) for key, value in weights(folder / "0").items())
    assert not Path("multirun").exists()  # Hydra's own folder


def test_a_point_that_fails_leaves_the_others(quick, capsys):
    with pytest.raises(SystemExit) as stop:
        train(["--multirun", *quick, "data.batch_size=500,2", "run_dir='runs/${data.batch_size}'"])
    failed = str(stop.value.code)  # a text: Python prints it on standard error and exits with 1
    assert failed.startswith("train.py: 1 run(s) failed:\npoint 0 (data.batch_size=500): data.batch_size=500 is larger")
    assert failed.count("\n") == 1
    assert figures("runs/2")
    assert not Path("runs/500").exists()


def test_an_error_of_the_program_fails_its_point_alone(quick, monkeypatch, capsys):
    def broken(config):
        if config.seed == 0:
            raise ZeroDivisionError("no\ngood")

    monkeypatch.setattr("nibkit.run.run", broken)
    assert launch([[*quick, f"seed={seed}", f"run_dir=r{seed}"] for seed in (0, 1)], "basic") == [
        "ZeroDivisionError: no good",
        None,
    ]
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.slow
def test_submitit_runs_jobs_and_survives_one_that_is_killed(quick):
    """The second job fails by itself; the third is killed by a module that it imports."""
    Path("deadly.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    jobs = [
        [*quick, "seed=1", "run_dir=a"],
        [*quick, "data.batch_size=500", "run_dir=b"],
        [*quick, "imports=[deadly]", "run_dir=c"],
    ]
    first, second, third = launch(jobs, "submitit_local", ["hydra.launcher.timeout_min=5"])
    assert first is None
    assert second.startswith("data.batch_size=500 is larger than an epoch")
    assert third.startswith("UncompletedJobError: ")
    assert third.count("\n") == 0
    train([*quick, "seed=1", "run_dir=alone"])
    assert figures("a") == figures("alone")


def test_no_jobs_need_no_launcher():
    assert launch([], "none") == []


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["seed=0,1", "backbone=resnet,unett"], "point 1 (seed=0 backbone=unett): unknown backbone 'unett' (did you"),
        (["backbone=unett,resnet"], "point 0 (backbone=unett): unknown backbone 'unett'"),
        (["backbone.width=2,wide"], "point 1 (backbone.width=wide): backbone.width=wide has the wrong type"),
        (["seed=0,1", "run_dir=runs"], "point 1 (seed=1): run_dir='runs' is the folder of point 0 (seed=0) too"),
        (["mode=predict", "seed=0,1", "output=out"], "point 1 (seed=1): output='out' is the folder of point 0"),
        (["run_id=a,b"], "'run_id=a,b' cannot be swept"),
        (["seed=interval(0,1)"], "'seed=interval(0,1)' lists no values; write KEY=A,B or KEY=range(FIRST,END)"),
        (["seed=range(3,3)"], "'seed=range(3,3)' lists no values"),
        (["seed=0,"], "cannot read 'seed=0,'; write KEY=VALUE, or KEY=A,B"),
        (["trainer.devices=1,2"], "point 1 (trainer.devices=2): trainer.devices=2 with hydra/launcher=basic: every"),
        (["trainer=ddp"], "point 0 (the only one): trainer.devices=auto with hydra/launcher=basic: every process"),
        (["trainer.num_nodes=2"], "point 0 (the only one): trainer.devices=1 with hydra/launcher=basic: every"),
        (["trainer.devices=2", "hydra/launcher=submitit_local"], "with hydra/launcher=submitit_local: every"),
        (["--cfg"], "--cfg prints one configuration; leave out --multirun"),
    ],
)  # fmt: skip
def test_a_wrong_point_is_named_before_any_starts(refused, settings, sentence):
    assert sentence in refused("-m", *settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["hydra/launcher=slurm"], "unknown hydra/launcher 'slurm'"),
        (["hydra.launcher.partition=gpu"], "unknown option 'hydra.launcher.partition'; hydra/launcher=basic has no"),
        (["hydra/sweeper=optuna"], "unknown option 'hydra/sweeper'; "),
        (["hydra/launcher=submitit_local", "hydra.launcher.nods=2"],
         "unknown option 'hydra.launcher.nods' (did you mean 'hydra.launcher.nodes'?); choose from: hydra.launcher."),
        (["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=soon"], "hydra/launcher=submitit_local: "),
    ],
)  # fmt: skip
def test_a_wrong_launcher_is_refused_before_any_run_starts(refused, settings, sentence):
    if "submitit" in settings[0]:
        pytest.importorskip("submitit")
    assert sentence in refused("-m", "seed=0,1", *settings)


def test_a_launcher_that_is_not_installed(refused, monkeypatch):
    store = ConfigStore.instance().repo["hydra"]["launcher"]
    monkeypatch.delitem(store, "submitit_slurm.yaml", raising=False)
    sentence = refused("-m", "seed=0,1", "hydra/launcher=submitit_slurm")
    assert sentence == (
        "hydra/launcher=submitit_slurm needs a plug-in that is not installed; run: pip install 'nibkit[cluster]'"
    )


def test_slurm_is_missed_before_the_first_job(refused, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "")
    assert "there is no command 'srun'" in refused("-m", "seed=0,1", "hydra/launcher=submitit_slurm")


def test_jobs_of_one_folder_are_refused(nothing_starts):
    with pytest.raises(UserError, match="job 1: run_dir='x' is the folder of job 0 too"):
        launch([["run_dir=x"], ["run_dir=x", "seed=1"]], "basic")


class Strike(pl.Callback):
    """Tells the run to stop, in its first step."""

    def on_before_backward(self, *_):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_run_that_is_told_to_stop_is_all_of_them(quick, monkeypatch, capsys):
    monkeypatch.setattr(multirun, "Strike", Strike, raising=False)
    settings = [*quick, "run_id=grid", "callbacks.last.steps=1", "+callbacks.strike={_target_:nibkit.multirun.Strike}"]
    with pytest.raises(SystemExit) as error:
        train(["-m", *settings, "seed=0,1,2"])
    assert error.value.code == 128 + signal.SIGINT
    printed = capsys.readouterr().err
    assert "stopped by SIGINT at step 1" in printed
    assert "Traceback" not in printed
    assert [path.name for path in Path("outputs/halftoning/grid").iterdir() if path.is_dir()] == ["0"]


def test_how_a_run_ended_travels_between_processes():
    sent = pickle.loads(pickle.dumps(Stopped("told to", 143)))
    assert (str(sent), sent.code) == ("told to", 143)
