import subprocess
import sys
from pathlib import Path

import pytest

from nibkit.cli import train
from nibkit.config import load_config
from nibkit.errors import UserError

CONFIGS = Path(__file__).resolve().parent.parent / "nibkit" / "configs"
CHOICES = sorted((f.parent.name, f.stem) for f in CONFIGS.glob("*/*.yaml"))
SETTABLE = {
    "data.batch_size": 3,
    "data.crop_size": 48,
    "data.num_workers": 2,
    "backbone.width": 5,
    "trainer.max_steps": 7,
    "trainer.max_epochs": 2,
    "trainer.max_time": "00:01:00:00",
    "trainer.limit_train_batches": 0.5,
    "trainer.limit_val_batches": 3,
    "trainer.limit_test_batches": 0.25,
    "trainer.precision": "bf16-mixed",
    "trainer.accelerator": "cpu",
    "trainer.devices": 2,
    "trainer.strategy": "ddp",
    "seed": 4,
    "run_dir": "runs/a",
    "ckpt_path": "a/last.ckpt",
}


def select(config, key):
    for part in key.split("."):
        config = config[part]
    return config


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_shipped_choice_composes(group, choice):
    config = load_config([f"{group}={choice}"])
    task = choice if group == "task" else "dithering"
    if group == "experiment" and choice != "none":  # an experiment of the paper chooses its own
        tasks = {"figure5": "autoencoder", "table2": "semantic_synthesis", "table3": "invertible_grayscale"}
        task = tasks.get(choice.partition("_")[0], "halftoning")
    assert config.run_dir == f"outputs/{task}/{config.run_id}"
    assert config.task._target_.startswith(f"tasks.{task}.")


def test_all_groups_are_shipped():
    assert {group for group, _ in CHOICES} == {
        "task", "data", "backbone", "nib", "trainer", "callbacks", "logger", "experiment", "adversary", "metrics",
    }  # fmt: skip
    assert {choice for group, choice in CHOICES if group == "nib"} == {
        "none", "symmetric", "weak", "uniform", "dynamic", "impulse", "feature", "grid", "blue", "additive",
        "quiet",
    }  # fmt: skip


@pytest.mark.parametrize("extra", [[], ["data=folder", "task=halftoning", "backbone=unet", "trainer=ddp"]])
def test_documented_options_are_settable_without_plus(extra):
    config = load_config([*extra, *(f"{key}={value}" for key, value in SETTABLE.items())])
    assert {key: select(config, key) for key in SETTABLE} == SETTABLE


@pytest.mark.parametrize("devices", ["auto", "-1", "3", "[0,1]", "'0,1'"])
def test_devices_in_all_of_lightnings_ways(devices):
    assert load_config([f"trainer.devices={devices}"]).trainer.devices is not None


def test_network_and_data_share_their_channels():
    assert load_config(["backbone.in_channels=3"]).data.channels == 3
    assert load_config(["seed=9"]).data.seed == 9
    assert load_config(["backbone.width=9", "nib=none"]).task.backbone.width == 9


BAD = [
    (
        "task=dithring",
        "unknown task 'dithring' (did you mean 'dithering'?); choose from: autoencoder, dithering, halftoning",
    ),
    ("backbone=resnett", "unknown backbone 'resnett' (did you mean 'resnet'?); choose from: autoencoder, invertible_"),
    (
        "nib=symetric",
        "unknown nib 'symetric' (did you mean 'symmetric'?); choose from: additive, blue, dynamic, feature, grid",
    ),
    ("data=foldr", "unknown data 'foldr' (did you mean 'folder'?); choose from: builtin, cityscapes, div2k, folder"),
    ("task=zzz", "unknown task 'zzz'; choose from: autoencoder, dithering, halftoning"),
    ("data=null", "unknown data 'None'; choose from: builtin, cityscapes, div2k, folder"),
    ("~nib", "the group 'nib' is needed"),
    ("data.batchsize=4", "unknown key 'data.batchsize' (did you mean 'data.batch_size'?); choose from: data.channels"),
    ("tainer.max_steps=4", "unknown key 'tainer.max_steps' (did you mean 'trainer.max_steps'?)"),
    ("sed=4", "unknown key 'sed' (did you mean 'seed'?)"),
    ("trainer.max_step=4", "unknown key 'trainer.max_step' (did you mean 'trainer.max_steps'?)"),
    ("backbone.width=wide", "backbone.width=wide has the wrong type; give a whole number of at least 1"),
    ("backbone.width=2.5", "backbone.width=2.5 has the wrong type"),
    ("backbone.width=true", "backbone.width=True has the wrong type"),
    ("backbone.width=0", "backbone.width=0 is out of range; give a whole number of at least 1"),
    ("data.crop_size=10", "data.crop_size=10 is out of range; give a whole number of at least 11"),
    ("data.batch_size=0", "data.batch_size=0 is out of range"),
    ("data.num_workers=-1", "data.num_workers=-1 is out of range"),
    ("data.augment=abc", "data.augment=abc has the wrong type; give a list"),
    ("seed=-1", "seed=-1 is out of range"),
    ("seed=99999999999", "seed=99999999999 is out of range; give a whole number of at least 0 and at most 4294967295"),
    ("seed=null", "seed=None has the wrong type"),
    ("nib.scale=0", "nib.scale=0 is out of range; give a number above 0"),
    ("nib.scale=inf", "nib.scale=inf is out of range"),
    ("nib.scale=nan", "nib.scale=nan is out of range"),
    ("nib.form=foo", "nib.form=foo is unknown; choose from: symmetric, impulse, feature, additive, none"),
    ("task.estimator=foo", "task.estimator=foo is unknown; choose from: relaxed, straight_through, per_pixel"),
    ("task.sigma=big", "task.sigma=big has the wrong type; give a number above 0"),
    ("task.optimizer.lr=-1", "task.optimizer.lr=-1 is out of range"),
    ("task.channels_last=3", "task.channels_last=3 has the wrong type; give true or false"),
    ("trainer.max_steps=1.5", "trainer.max_steps=1.5 has the wrong type"),
    ("trainer.max_steps=0", "trainer.max_steps=0 is out of range"),
    ("trainer.max_steps=-2", "trainer.max_steps=-2 is out of range"),
    ("trainer.max_time=5", "trainer.max_time=5 is no time; write DD:HH:MM:SS"),
    ("trainer.max_time=abc", "trainer.max_time=abc is no time"),
    ("trainer.limit_train_batches=0", "trainer.limit_train_batches=0 is out of range"),
    ("trainer.limit_val_batches=1.5", "trainer.limit_val_batches=1.5 is out of range; give a whole number of batches"),
    ("trainer.limit_test_batches=few", "trainer.limit_test_batches=few has the wrong type"),
    ("trainer.devices=0", "trainer.devices=0 is out of range"),
    ("trainer.devices=two", "trainer.devices=two is unknown"),
    ("mode=trian", "unknown mode 'trian' (did you mean 'train'?); choose from: predict, test, train"),
    ("data.batch_size", "cannot read 'data.batch_size'; write KEY=VALUE"),
    ("data.batch_size=${nothing}", "configuration: Interpolation key 'nothing' not found"),
]


@pytest.mark.parametrize(("override", "sentence"), BAD)
def test_bad_overrides_are_one_sentence(override, sentence):
    with pytest.raises(UserError) as error:
        load_config([override])
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("task.rounding=nois", "task.rounding=nois is unknown; choose from: straight_through, noise, none"),
        ("task.second_stage.start=2", "task.second_stage.start=2 is out of range; give a number of at least 0 and at"),
        (
            "task.second_stage.strat=0.5",
            "unknown key 'task.second_stage.strat' (did you mean 'task.second_stage.start'",
        ),
        ("task.lightness_tolerance=3", "task.lightness_tolerance=3 is out of range"),
        ("task.likeness_weight=-1", "task.likeness_weight=-1 is out of range"),
        ("task.quantization_weight=much", "task.quantization_weight=much has the wrong type"),
        ("task.flats=-1", "task.flats=-1 is out of range; give a whole number of at least 0"),
        ("task.vgg_weights=7", "task.vgg_weights=7 has the wrong type; give a text"),
        ("task.schedule.power=0", "task.schedule.power=0 is out of range; give a number above 0"),
        ("task.robustness=7", "task.robustness=7 has the wrong type; give true or false"),
        ("backbone.encoder.width=wide", "backbone.encoder.width=wide has the wrong type; give a whole number"),
        ("backbone.width=4", "unknown key 'backbone.width' (did you mean 'backbone."),
    ],
)
def test_bad_overrides_of_invertible_grayscale(override, sentence):
    with pytest.raises(UserError) as error:
        load_config(["task=invertible_grayscale", override])
    assert str(error.value).startswith(sentence)


def test_ranges_bind_values_from_files_too(tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "mine.yaml").write_text("defaults: [halftoning, _self_]\nsigma: -3\n")
    with pytest.raises(UserError, match=r"task\.sigma=-3 is out of range"):
        load_config(["task=mine"], str(tmp_path))


def test_a_task_of_the_users_own(tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "mine.yaml").write_text("defaults: [halftoning, _self_]\nsigma: 3.0\nspice: 1\n")
    config = load_config(["task=mine", "task.spice=2"], str(tmp_path))
    assert (config.task.sigma, config.task.spice, config.task.estimator) == (3.0, 2, "per_pixel")
    assert config.run_dir.startswith("outputs/mine/")
    with pytest.raises(
        UserError,
        match=r"unknown task 'mien' \(did you mean 'mine'\?\).* halftoning, invertible_grayscale, mine",
    ):
        load_config(["task=mien"], str(tmp_path))


def test_missing_config_dir(tmp_path):
    with pytest.raises(UserError, match=r"--config-dir '.*none' is no folder"):
        load_config([], str(tmp_path / "none"))


def test_run_id_is_one_for_all_processes_of_a_run(monkeypatch):
    first = load_config([]).run_id
    monkeypatch.setattr("time.strftime", lambda pattern: "later")
    assert load_config([]).run_id == first  # as a process that a strategy launches, which inherits NIBKIT_RUN_ID
    monkeypatch.delenv("NIBKIT_RUN_ID")
    assert load_config([]).run_id.startswith("later")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.delenv("NIBKIT_RUN_ID")
    assert load_config([]).run_id == "job-77"
    assert load_config(["run_id=mine"]).run_dir == "outputs/dithering/mine"


def test_cfg_prints_the_resolved_config_and_stops(capsys, tmp_path):
    train(["--cfg", "backbone.width=6", "run_id=x"])
    printed = capsys.readouterr().out
    assert "${" not in printed
    assert "run_dir: outputs/dithering/x" in printed
    assert printed.count("width: 6") == 2  # of the group, and of the task that takes it
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), (["data.batchsize=3"], 2), (["task=foo"], 2), (["backbone.width=x"], 2)]
)
def test_nothing_heavy_is_imported_to_answer(arguments, code):
    script = (
        f"import sys\nfrom nibkit.cli import train\ntry:\n    train({arguments!r})\n"
        f"except SystemExit as stop:\n    assert stop.code == {code}, stop.code\n"
        "print('HEAVY', sorted({'torch', 'lightning', 'kornia', 'albumentations', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_help_names_groups_choices_and_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        train(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for words in (
        "task=        autoencoder, dithering, halftoning, invertible_grayscale",
        "backbone=    autoencoder, invertible_grayscale, ",
        "mode=predict",
        "run_dir",
    ):
        assert words in text


def test_an_id_of_wandb_has_no_slashes():
    config = load_config(["logger=wandb", "run_id=grid/0", "task=dithering"])
    assert config.logger.wandb.id == "outputs-dithering-grid-0"
