"""A run that is stopped anywhere and resumed ends as one that was not: weights, averages and logs, bit for bit."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from conftest import BARE, TINY
from same_end import assert_same_end, ending, rows
from torch.nn import functional

from callbacks.last_checkpoint import LastCheckpoint
from nibkit.backbones.resnet import ResNet
from nibkit.cli import train
from nibkit.data.sets import EpochSampler
from nibkit.loggers import CSVLog

ROOT = Path(__file__).resolve().parent.parent
# 6 batches in an epoch, validated every 4: checkpoints within epochs, at their ends, with validations and without
HALFTONES = [
    *TINY, *BARE, "logger=csv", "nib=dynamic", "data.samples_per_epoch=12", "trainer.max_steps=14",
    "trainer.val_check_interval=4", "trainer.log_every_n_steps=1", "callbacks.report=null",
    "trainer.limit_test_batches=0",
]  # fmt: skip
# two batches to a step, an average of the weights, dropout, batch norms, two optimizers with schedules
PHOTOGRAPHS = [
    "task=semantic_synthesis", "backbone=pix2pix", "data=labels/builtin", "backbone.width=1", "backbone.downs=6",
    "discriminator.width=2", "data.size=[64,64]", "data.samples_per_epoch=6", "data.batch_size=1", "data.num_workers=0",
    "trainer.accelerator=cpu", "trainer.accumulate_grad_batches=2", "trainer.max_steps=7",
    "trainer.val_check_interval=4", "trainer.log_every_n_steps=1", "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=0", "callbacks.ema={_target_:callbacks.ema.GeneratorEMA,decay:0.9}", *BARE,
    "logger=csv", "callbacks.report=null",
]  # fmt: skip


# ended by epochs, validated amidst an epoch and amidst a step; torch's own dropout, a schedule that follows validations
EPOCHS = [
    "task=halftoning", *TINY, *BARE, "logger=csv", "data.samples_per_epoch=14", "trainer.max_steps=-1",
    "trainer.max_epochs=2", "trainer.accumulate_grad_batches=2", "trainer.val_check_interval=3",
    "trainer.log_every_n_steps=1", "task.schedule.name=plateau", "task.schedule.patience=0", "callbacks.report=null",
    "trainer.limit_test_batches=0",
]  # fmt: skip


def dropping(self, image, origin, body=ResNet.body):
    """Answer as the network does, with draws that belong to no sample."""
    return body(self, functional.dropout(image, 0.2, self.training), origin)


class Copies(pl.callbacks.Checkpoint):
    """Keeps a copy of every checkpoint that a run could be resumed from, and of the log as it is shortly after."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.without_log = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
        if between_steps and not trainer.should_stop:
            self.keep(trainer, "after step")

    def on_validation_end(self, trainer, pl_module):
        ready = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        if trainer.state.fn == "fit" and (ready % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch):
            self.keep(trainer, "after validation")

    def keep(self, trainer, name):
        self.without_log.append(self.folder / f"{trainer.global_step:02d} {name}")
        trainer.save_checkpoint(self.without_log[-1] / "checkpoints" / "last.ckpt")

    def copy_log(self, trainer, *_):
        while self.without_log:
            shutil.copytree(trainer.loggers[0].log_dir, self.without_log.pop() / "logs" / "csv")

    on_train_batch_start = on_validation_start = on_train_end = copy_log


def options(settings, images):
    return [*settings, f"data.root={images}"] if "data=folder" in settings else settings


@pytest.fixture(scope="module", params=["halftones", "photographs", "epochs"])
def whole(request, tmp_path_factory, images):
    """A run from beginning to end, and its folder of copies."""
    folder = tmp_path_factory.mktemp(request.param)
    settings = options({"halftones": HALFTONES, "photographs": PHOTOGRAPHS, "epochs": EPOCHS}[request.param], images)
    os.chdir(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("callbacks.last_checkpoint.Copies", Copies, raising=False)
        patch.setattr(ResNet, "body", dropping if settings[0] == "task=halftoning" else ResNet.body)
        copies = "+callbacks.copies={_target_:callbacks.last_checkpoint.Copies,folder:copies}"
        train([*settings, copies, "run_dir=whole"])
    return folder, settings


def test_it_goes_on_from_anywhere(whole, monkeypatch):
    folder, settings = whole
    monkeypatch.setattr(ResNet, "body", dropping if settings[0] == "task=halftoning" else ResNet.body)
    os.chdir(folder)
    places = sorted((folder / "copies").iterdir())
    assert len(places) > 9
    for number, place in enumerate(places):
        run = Path(shutil.copytree(place, folder / f"resumed{number}"))
        train([*settings, f"run_dir={run}", "ckpt_path=auto"])
        assert_same_end(run, folder / "whole")


@pytest.mark.parametrize(
    "end",
    [
        ["trainer.max_steps=-1", "trainer.max_epochs=1"],
        [
            "+callbacks.early={_target_:lightning.pytorch.callbacks.EarlyStopping,monitor:val/objective,mode:max,patience:1}"
        ],
    ],
    ids=["epochs", "early"],
)
def test_a_training_that_has_ended_stays_as_it_is(images, tmp_path, end):
    settings = [*HALFTONES, f"data.root={images}", *end, "run_dir=run", "ckpt_path=auto"]
    train(settings)
    step, weights = ending(tmp_path / "run")
    assert step < 14
    train(settings)
    again, unchanged = ending(tmp_path / "run")
    assert again == step
    assert all(torch.equal(weights[name], unchanged[name]) for name in weights)
    train([*settings, "trainer.max_epochs=3", f"trainer.max_steps={step + 2}"])
    assert ending(tmp_path / "run")[0] == step + 2


def test_it_goes_on_from_a_validation_that_was_made_up_for(whole, monkeypatch):
    """The run is killed twice: before a validation, and when it has made up for it, before its next step."""
    folder, settings = whole
    monkeypatch.setattr(ResNet, "body", dropping if settings[0] == "task=halftoning" else ResNet.body)
    os.chdir(folder)
    due = 0
    for number, place in enumerate(sorted((folder / "copies").glob("*after step"))):
        checkpoint = torch.load(place / "checkpoints/last.ckpt", weights_only=True)
        if not checkpoint["callbacks"]["LastCheckpoint"]["validation_due"]:
            continue
        due, run = due + 1, folder / f"again{number}"
        shutil.copytree(place, run)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LastCheckpoint, "on_train_batch_start", lambda *_: os._exit(9))
            child = os.fork()
            if not child:
                train([*settings, f"run_dir={run}", "ckpt_path=auto"])
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        train([*settings, f"run_dir={run}", "ckpt_path=auto"])
        assert_same_end(run, folder / "whole")
    assert due


def start(options, folder, **environment):
    command = [sys.executable, "-u", str(ROOT / "train.py"), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    environment.pop("NIBKIT_RUN_ID", None)
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(path, text, seconds=100):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"'{text}' did not appear in {path.name}")


LONG = [*HALFTONES, "trainer.max_steps=60", "callbacks.last.steps=5", "trainer.val_check_interval=25"]


@pytest.fixture(scope="module")
def long_run(tmp_path_factory, images):
    """A longer run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("long")
    os.chdir(folder)
    train([*LONG, f"data.root={images}", "run_dir=whole"])
    return folder / "whole"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_is_killed_twice_ends_as_one_that_is_not(long_run, images, tmp_path, workers):
    settings = [*LONG, f"data.root={images}", f"data.num_workers={workers}", "run_dir=run", "ckpt_path=auto"]
    for step in (17, 41):
        run = start(settings, tmp_path)
        wait_for(tmp_path / "run/logs/csv/metrics.csv", f",{step},")
        run.send_signal(signal.SIGKILL)
        run.communicate()
    done = start(settings, tmp_path)
    _, errors = done.communicate(timeout=200)
    assert done.returncode == 0, errors
    assert_same_end(tmp_path / "run", long_run)


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGINT, signal.SIGUSR1))],
    ids=lambda number: number.name,
)
def test_a_run_that_is_told_to_stop_saves_and_says_how_to_go_on(long_run, images, tmp_path, number):
    settings = [*LONG, f"data.root={images}", "callbacks.last.steps=null", "run_dir=run", "ckpt_path=auto"]
    run = start(settings, tmp_path)
    wait_for(tmp_path / "run/logs/csv/metrics.csv", ",8,")
    run.send_signal(number)
    _, errors = run.communicate(timeout=100)
    assert run.returncode == 128 + number
    assert "Traceback" not in errors
    step = ending(tmp_path / "run")[0]
    assert 8 < step < 60
    assert f"stopped by {number.name} at step {step}, which is saved; go on with run_dir=run ckpt_path=auto" in errors
    os.chdir(tmp_path)
    train(settings)
    assert_same_end(tmp_path / "run", long_run)


class Impatient(pl.Callback):
    """Presses Ctrl-C twice in the fifth step."""

    def on_before_backward(self, trainer, *_):
        if trainer.global_step == 4:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)


def test_a_second_ctrl_c_ends_it_at_once(images, monkeypatch, capsys):
    monkeypatch.setattr("callbacks.last_checkpoint.Impatient", Impatient, raising=False)
    settings = [*HALFTONES, f"data.root={images}", "trainer.max_steps=8", "callbacks.last.steps=3"]
    with pytest.raises(SystemExit) as error:
        train([*settings, "run_dir=run", "+callbacks.late={_target_:callbacks.last_checkpoint.Impatient}"])
    assert error.value.code == 130
    assert "stopped at once by a second Ctrl-C; go on from the last checkpoint" in capsys.readouterr().err
    assert ending(Path("run"))[0] == 4  # saved around the validation
    train([*settings, "run_dir=run", "ckpt_path=auto"])
    train([*settings, "run_dir=whole"])
    assert_same_end(Path("run"), Path("whole"))


class Strike(pl.Callback):
    """Tells the run to stop, amidst its test."""

    def on_test_batch_start(self, *_):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_that_is_stopped_in_its_test_makes_it_again(images, monkeypatch, capsys):
    monkeypatch.setattr("callbacks.last_checkpoint.Strike", Strike, raising=False)
    settings = [*TINY, f"data.root={images}", "run_dir=run", "ckpt_path=auto"]
    with pytest.raises(SystemExit) as error:
        train([*settings, "+callbacks.strike={_target_:callbacks.last_checkpoint.Strike}"])
    assert error.value.code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM at step 2, which is saved" in capsys.readouterr().err
    assert "stopped by SIGTERM at step 2" in Path("run/run.log").read_text()
    assert not Path("run/metrics.json").exists()
    train(settings)
    assert Path("run/metrics.json").exists()
    train([*settings, "run_dir=whole"])
    assert_same_end(Path("run"), Path("whole"))


def test_auto_passes_over_broken_checkpoints_and_begins_where_there_is_none(images, tmp_path, caplog):
    settings = [*HALFTONES, f"data.root={images}", "run_dir=run", "ckpt_path=auto"]
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "last.ckpt").write_bytes(b"PK broken")
    (tmp_path / "run" / "checkpoints" / "last.ckpt.17.part").touch()  # of a run that was killed as it saved
    train([*settings, "trainer.max_steps=3"])
    assert not list(Path("run").rglob("*.part"))
    assert "passed over" in caplog.text
    shutil.copy(tmp_path / "run/checkpoints/last.ckpt", tmp_path / "run/checkpoints/older.ckpt")
    train([*settings, "trainer.max_steps=5"])
    (tmp_path / "run/checkpoints/best.ckpt").write_bytes(b"")
    train([*settings, "trainer.max_steps=6"])
    assert ending(tmp_path / "run")[0] == 6
    assert [int(row["step"]) for row in rows(tmp_path / "run") if row["train/loss"]] == list(range(6))


def test_a_copy_of_a_run_goes_on_in_its_own_folder(images):
    settings = [*HALFTONES, f"data.root={images}", "ckpt_path=auto"]
    train([*settings, "trainer.max_steps=3", "run_id=old"])
    shutil.copytree("outputs/dithering/old", "outputs/dithering/mine")
    train([*settings, "trainer.max_steps=5", "run_id=mine"])
    assert [ending(Path("outputs/dithering", name))[0] for name in ("old", "mine")] == [3, 5]


def test_a_log_goes_on_whatever_its_writer_was_killed_at(tmp_path):
    path = tmp_path / "csv" / "metrics.csv"
    path.parent.mkdir()
    path.write_text("a,step\n1,0\n2,1\n3,2\n,3\n4,1")  # of step 17, say
    log = CSVLog(first_step=3, save_dir=tmp_path, name="", version="csv")
    log.log_metrics({"a": 5.0}, step=3)
    log.save()
    log.log_metrics({"b": 6.0}, step=4)
    log.save()
    assert path.read_text().split() == ["a,b,step", "1,,0", "2,,1", "3,,2", "5.0,,3", ",6.0,4"]


def test_a_validation_that_is_made_again_is_logged_once(images):
    """The run was killed after it had logged the validation, and before it had saved that it had."""
    settings = [*HALFTONES, f"data.root={images}", "trainer.max_steps=6", "ckpt_path=auto"]
    train([*settings, "run_dir=whole"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LastCheckpoint, "on_validation_end", lambda *_: os._exit(9))
        child = os.fork()
        if not child:
            train([*settings, "run_dir=run"])
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert any(row["val/objective"] for row in rows(Path("run")))
    assert ending(Path("run"))[0] == 4
    train([*settings, "run_dir=run"])
    assert_same_end(Path("run"), Path("whole"))


def test_auto_is_for_training(images, capsys):
    with pytest.raises(SystemExit) as error:
        train([*TINY, f"data.root={images}", "mode=test", "ckpt_path=auto"])
    assert error.value.code == 2
    assert "ckpt_path=auto is for mode=train" in capsys.readouterr().err


def test_it_is_saved_by_time(images, monkeypatch, tmp_path):
    saved, now = [], iter(range(10_000))
    clock = SimpleNamespace(monotonic=lambda: 60.0 * next(now))  # a minute between two looks at it
    monkeypatch.setattr("callbacks.last_checkpoint.time", clock)
    save = LastCheckpoint.save

    def note(self, trainer):
        saved.append(trainer.global_step)
        save(self, trainer)

    monkeypatch.setattr(LastCheckpoint, "save", note)
    train([*HALFTONES, f"data.root={images}", "callbacks.last.minutes=2", "trainer.limit_val_batches=0", "run_dir=run"])
    assert saved == [2, 4, 6, 8, 10, 12, 13, 14]  # a save looks, too; 13: before the last


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_samples_of_a_resumed_epoch_are_those_that_are_left(ranks):
    def epochs(rank, start):
        sampler = EpochSampler(14, 7, rank, ranks, start)
        found = []
        for epoch in range(start[0], 3):
            sampler.set_epoch(epoch)
            found += list(sampler)
        return found

    for rank in range(ranks):
        each, every = 14 // ranks, epochs(rank, (0, 0))
        for done in range(each):
            assert epochs(rank, (1, done * ranks)) == every[each + done :]
