"""Whole runs, in this process: what they leave behind, and that they can be repeated, resumed and used."""

import csv
import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from nibkit.cli import train
from nibkit.data.images import read_image, to_tensor
from tasks.dithering import DitheringTask

CONFIGS = Path(__file__).resolve().parent.parent / "nibkit" / "configs"
SAMPLES = "callbacks.samples={_target_: callbacks.samples.SampleSheets, folder: run/samples}"
FIGURES = [
    "test/psnr_sigma1.5", "test/psnr_sigma2.0", "test/ssim", "test/flat_std", "test/tone_error",
    "test/low_frequency_ratio", "test/anisotropy_db",
]  # fmt: skip


def choices(group):
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def metrics(folder):
    return json.loads((Path(folder) / "metrics.json").read_text(), parse_constant=pytest.fail)


def checkpoint(folder, name="last"):
    return torch.load(Path(folder) / "checkpoints" / f"{name}.ckpt", weights_only=True)


def weights(folder):
    return checkpoint(folder)["state_dict"]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("task", ["dithering", "halftoning"])
def test_every_halftoning_task_leaves_its_run_folder(tiny, task):
    train([*tiny, SAMPLES, f"task={task}", "seed=3", "run_dir=run"])
    run = Path("run")
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["seed"], config["backbone"]["width"], config["task"]["backbone"]["width"]) == (3, 2, 2)
    assert checkpoint(run, "best")["global_step"] == checkpoint(run)["global_step"] == 2
    figures = metrics(run)
    assert set(FIGURES) <= set(figures)
    for name, value in figures.items():
        assert value is None or (isinstance(value, float) and math.isfinite(value)), name
    for method in ("white_noise", "floyd_steinberg"):
        assert figures[f"{method}/psnr_sigma2.0"] > 15
    assert 0 < figures["floyd_steinberg/tone_error"] < 0.02
    assert [p.name for p in (run / "samples").iterdir()] == ["step_000002.png"]
    log = (run / "run.log").read_text()
    assert "run folder: run" in log
    environment = json.loads((run / "environment.json").read_text())
    assert environment["seed"] == 3
    assert {"nibkit", "python", "torch", "lightning", "torchmetrics", "numpy"} <= set(environment["versions"])
    assert not list(run.rglob("*.part"))
    assert "step 2  validated, val/objective" in log
    for words in ("psnr_sigma2.0", "white-noise threshold", "Floyd-Steinberg", "pictures: run/samples"):
        assert words in log  # the closing table


def test_pictures(tiny_run):
    names = {p.name for p in (tiny_run / "samples").iterdir()}
    assert names == {"step_000015.png", "step_000030.png", "spectrum.png", "flatness.png"}
    sheet = Image.open(tiny_run / "samples" / "step_000030.png")
    # three columns: input, halftone, filtered; the comic page, the ramp and the grays are 256 wide
    assert sheet.width == 3 * (256 + 12) + 12
    assert sheet.height > 256 + 64 + 128
    colors = sheet.convert("L").crop((12 + 268, sheet.height // 2, 12 + 268 + 256, sheet.height)).getcolors()
    assert {0, 255} <= {level for _, level in colors}
    spectrum, flatness = (Image.open(tiny_run / "samples" / f"{name}.png") for name in ("spectrum", "flatness"))
    assert spectrum.width > 2 * spectrum.height > 600
    assert flatness.width > 5 * 40


def test_loggers_hold_the_training(tiny_run):
    with (tiny_run / "logs" / "csv" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["step"]) for row in rows if row["val/objective"]]
    assert len(steps) == 2
    assert all(row["test/psnr_sigma2.0"] for row in rows[-1:])
    assert list((tiny_run / "logs" / "tensorboard").glob("events.out.tfevents.*"))


def test_best_is_by_the_objective(tiny_run):
    best = checkpoint(tiny_run, "best")
    state = next(s for name, s in best["callbacks"].items() if "'val/objective'" in name)
    with (tiny_run / "logs" / "csv" / "metrics.csv").open() as file:
        objectives = [float(row["val/objective"]) for row in csv.DictReader(file) if row["val/objective"]]
    assert float(state["best_model_score"]) == pytest.approx(min(objectives), rel=1e-5)


@pytest.mark.parametrize(
    ("ends", "steps"),
    [
        (["trainer.max_steps=3"], {3}),
        (["trainer.max_steps=-1", "trainer.max_epochs=2"], {4}),
        (["trainer.max_steps=-1", "trainer.max_epochs=2", "trainer.limit_train_batches=1"], {2}),
        (["trainer.max_steps=-1", "trainer.max_epochs=1", "trainer.limit_train_batches=0.5"], {1}),
        (["trainer.max_steps=3", "trainer.limit_train_batches=1"], {3}),
        (["trainer.max_steps=2", "trainer.accumulate_grad_batches=2"], {2}),
        (["trainer.max_steps=-1", "trainer.max_time=00:00:00:01"], range(1, 100000)),
        (["trainer.max_steps=4", "trainer.val_check_interval=2"], {4}),
    ],
)
def test_a_run_ended_by_any_limit_validates(tiny, ends, steps):
    train([*tiny, "task=halftoning", *ends, "run_dir=run"])
    assert checkpoint("run")["global_step"] in steps
    assert checkpoint("run", "best")["global_step"] in steps or "trainer.val_check_interval=2" in ends
    assert metrics("run")["test/psnr_sigma2.0"] > 0


def test_a_run_without_validation_keeps_its_last_checkpoint(tiny):
    train([*tiny, "task=halftoning", "trainer.limit_val_batches=0", "run_dir=run"])
    assert checkpoint("run")["global_step"] == 2
    assert metrics("run")["test/psnr_sigma2.0"] > 0


def test_seed_repeats_a_run_bit_for_bit(tiny):
    train([*tiny, "seed=1", "run_dir=a"])
    train([*tiny, "seed=1", "run_dir=b"])
    train([*tiny, "seed=1", "data.num_workers=1", "run_dir=workers"])
    train([*tiny, "seed=2", "run_dir=other"])
    assert same(weights("a"), weights("b"))
    assert same(weights("a"), weights("workers"))
    assert not same(weights("a"), weights("other"))
    assert metrics("a") == metrics("b") != metrics("other")


def test_resume_continues_where_the_run_was(tiny):
    options = [*tiny, "run_dir=run", "task.schedule.name=constant"]
    train([*options, "trainer.max_steps=2"])
    before = weights("run")
    train([*options, "trainer.max_steps=5", "ckpt_path=run/checkpoints/last.ckpt"])
    after = checkpoint("run")
    assert after["global_step"] == 5
    assert not same(before, after["state_dict"])
    assert after["optimizer_states"][0]["state"][0]["step"] == 5


def test_mode_test_gives_the_figures_of_the_run(tiny, tiny_run, images):
    own = metrics(tiny_run)
    train([*tiny, f"data.root={images}", "mode=test", f"ckpt_path={tiny_run}/checkpoints/best.ckpt", "run_dir=again"])
    again = metrics("again")
    assert own["test/flat_std"] > 0  # there is something to compare
    assert None not in own.values()
    assert again == pytest.approx(own, rel=1e-6)
    assert not Path("again/checkpoints").exists()


def test_mode_test_takes_the_network_from_the_checkpoint(tiny, tiny_run):
    best = f"ckpt_path={tiny_run}/checkpoints/best.ckpt"
    train([*tiny, "mode=test", best, "backbone.width=7", "nib=none", "run_dir=again"])
    assert metrics("again") == pytest.approx(metrics(tiny_run), rel=1e-6)


def test_predict_a_folder(tiny_run, images):
    train(["mode=predict", f"input={images}", "output=out", f"ckpt_path={tiny_run}/checkpoints/best.ckpt"])
    written = sorted(p.relative_to("out").as_posix() for p in Path("out").rglob("*") if p.is_file())
    assert written == ["a.png", "b.png", "c.png", "d.png", "sub/deep/g.png", "sub/e.png", "sub/f.png"]
    for source in (p for p in images.rglob("*") if p.is_file()):
        output = Image.open((Path("out") / source.relative_to(images)).with_suffix(".png"))
        assert output.mode == "1"
        assert output.size == Image.open(source).size
    assert not Path("outputs").exists()  # predicting is no run


def test_predict_is_the_networks_own_answer(tiny_run, images):
    best = tiny_run / "checkpoints" / "best.ckpt"
    train(["mode=predict", f"input={images / 'b.jpg'}", "output=out", f"ckpt_path={best}"])
    task = DitheringTask.load_from_checkpoint(best, map_location="cpu", weights_only=True).eval()
    image = to_tensor(read_image(images / "b.jpg"))[None]
    with torch.no_grad():
        answer = task.render(image)
    assert torch.equal(to_tensor(read_image("out/b.png"))[None], answer)
    assert set(answer.unique().tolist()) <= {-1.0, 1.0}


def test_predict_one_pixel(tiny_run, tmp_path):
    Image.new("L", (1, 1), 200).save("dot.png")
    train(["mode=predict", "input=dot.png", "output=out", f"ckpt_path={tiny_run}/checkpoints/best.ckpt"])
    assert Image.open("out/dot.png").size == (1, 1)


def test_training_lowers_the_objective(tiny):
    train([*tiny, "logger=csv", "task=halftoning", "backbone.width=4", "trainer.max_steps=60", "data.batch_size=4",
           "data.samples_per_epoch=240", "trainer.val_check_interval=1", "trainer.limit_val_batches=1.0",
           "task.optimizer.lr=0.01", "task.schedule.warmup=0", "run_dir=run"])  # fmt: skip
    with Path("run/logs/csv/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    objective = [float(row["val/objective"]) for row in rows if row["val/objective"]]
    loss = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert len(objective) == 60
    assert objective[-1] < 0.5 * objective[0]
    assert loss[-1] < loss[0]
    assert checkpoint("run", "best")["global_step"] == 1 + objective.index(min(objective))


@pytest.mark.parametrize("nib", choices("nib"))
def test_every_nib_trains(tiny, nib):
    train([*tiny, f"nib={nib}", "run_dir=run"])
    figures = metrics("run")
    assert figures["test/psnr_sigma2.0"] > 0
    if nib == "none":  # flat answers: no dots, hence no spectrum
        assert figures["test/flat_std"] == 0
        assert figures["test/low_frequency_ratio"] is None
        assert figures["test/anisotropy_db"] is None


@pytest.mark.parametrize("estimator", ["relaxed", "straight_through", "per_pixel"])
def test_every_estimator_trains(tiny, estimator):
    options = [*tiny, f"task.estimator={estimator}", "task.binarization_weight=0.1", "task.schedule.warmup=0"]
    train([*options, "trainer.max_steps=1", "run_dir=a"])
    train([*options, "trainer.max_steps=3", "run_dir=b"])
    first, later = weights("a"), weights("b")
    assert all(value.isfinite().all() for value in later.values())
    assert not any(torch.equal(first[key], later[key]) for key in first)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_schedules_run(tiny, schedule):
    train([*tiny, f"task.schedule.name={schedule}", "task.schedule.warmup=0", "trainer.max_steps=4",
           "task.optimizer.lr=1e-3", "run_dir=run"])  # fmt: skip
    rate = checkpoint("run")["optimizer_states"][0]["param_groups"][0]["lr"]
    assert rate == pytest.approx(1e-3 if schedule == "constant" else 1e-5)


def test_plateau_counts_validations(tiny):
    train([*tiny, "task.schedule.name=plateau", "task.schedule.patience=0", "task.optimizer.lr=1e-6",
           "trainer.val_check_interval=2", "trainer.max_steps=7", "run_dir=run"])  # fmt: skip
    # validations at steps 2, 4, 6 and 7; the rate is too low for progress, so that the last three halve it
    assert checkpoint("run")["lr_schedulers"][0]["last_epoch"] == 4
    assert checkpoint("run")["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(1e-6 / 8)


def test_unet_trains(tiny):
    arguments = [o for o in tiny if not o.startswith("backbone.blocks")]
    train([*arguments, "backbone=unet", "run_dir=run"])
    assert metrics("run")["test/psnr_sigma2.0"] > 0


def test_colour_images_train(tiny):
    train([*tiny, "backbone.in_channels=3", SAMPLES, "run_dir=run"])
    assert metrics("run")["test/psnr_sigma2.0"] > 0
    assert list(Path("run/samples").iterdir())


def test_builtin_data_train(tiny):
    options = [o for o in tiny if not o.startswith("data")]
    train([*options, "data.num_workers=0", "data.val_crop=64", "data.test_crop=64", "data.batch_size=2", "run_dir=run"])
    figures = metrics("run")
    assert set(FIGURES) <= set(figures)
    assert figures["test/comic/psnr_sigma2.0"] > 0


def test_missing_test_folder_is_a_line_in_the_log(tiny, images, caplog):
    for part in ("train", "val"):
        (Path("split") / part).mkdir(parents=True)
        for name in ("a.png", "c.tif"):
            (Path("split") / part / name).symlink_to(images / name)
    train([*tiny, "data.root=split", "trainer.max_steps=1", "run_dir=run"])
    assert "testing on val/" in caplog.text
    assert metrics("run")["test/psnr_sigma2.0"] > 0
