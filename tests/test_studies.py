"""``nibkit reproduce table1, figure4, figure5``: figures reckoned anew, what is trained and what is not, bad input."""

import base64
import contextlib
import functools
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import clean_process, draw
from PIL import Image
from test_reproduce import folder_of, gaussian
from test_study_pages import Page, tables_of

from nibkit import multirun
from nibkit.cli import main
from nibkit.config import load_config
from nibkit.registry import build_backbone
from nibkit.reproduce import cells, collect, run_study, study_pictures
from nibkit.reproduce.cells import BusyError, claim, make_cell
from nibkit.reproduce.studies import STUDIES

FILES = ["table1.html", "table1.json", "table1.md", "table1.png"]
FIGURES = ("psnr_sigma2.0", "psnr_sigma1.5", "ssim")
# so little that two steps do: narrow, few grays, and a rate at which the networks differ
TINY = (
    "trainer.max_steps=2", "trainer.val_check_interval=2", "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=2", "trainer.accelerator=cpu", "backbone.width=2", "backbone.blocks=1",
    "data.crop_size=32", "data.test_crop=64", "data.num_workers=0", "task.optimizer.lr=0.05", "task.schedule.warmup=0",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _small():
    """Make the studies small: two variants of two steps; compose each configuration once."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        yield


def shrink(patch):
    for name in ("table1", "figure4"):
        scales = {"small": TINY, "paper": STUDIES[name].scales["paper"]}
        patch.setitem(STUDIES, name, replace(STUDIES[name], variants=STUDIES[name].variants[:2], scales=scales))
    for module in (cells, collect, study_pictures):
        patch.setattr(module, "load_config", functools.cache(load_config))


def make_images(folder, count, seed=0):
    """Write images from ``SEED.png`` on, all smaller than ``data.test_crop``, so that they are judged whole."""
    folder.mkdir(parents=True)
    for index in range(count):
        Image.fromarray(draw(seed + index, 40 + index, 52 - index)).save(folder / f"{seed + index}.png")


def run(home, *options, name="table1"):
    main(["reproduce", name, "--images", f"{home}/photos", "--flat", f"{home}/flat", "--limit", "2", *options])


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a finished call: ``photos``, ``flat``, ``runs``, ``out``; ``early``: of a call before it.

    The first trains one cell by a process, the second what is missing, in this process, by a launcher.
    """
    home = tmp_path_factory.mktemp("study")
    make_images(home / "photos" / "train", 3)
    make_images(home / "photos" / "val", 3, seed=10)
    make_images(home / "flat", 3, seed=20)
    with clean_process(home):
        run(home, "--runs", "runs", "--out", "early", "--seeds", "0", "--cells", "resnet_nib")
        (home / "stamps.json").write_text(json.dumps(stamps(home / "runs")))
        run(home, "--runs", "runs", "--out", "out", "--seeds", "0,1", "--launcher", "basic")
    return home


def stamps(folder):
    """Size and time of every file of a run folder below."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(folder)): [path.stat().st_size, path.stat().st_mtime_ns] for path in files}


def read(folder):
    return json.loads((folder / "table1.json").read_text())


def rows(folder):
    return {row["name"]: row for row in read(folder)["rows"]}


def folder(home, cell, seed):
    (found,) = home.glob(f"runs/{cell}/seed{seed}-*/")
    return found


def measured(home, cell, label, figure):
    """The figures of the images, ``[seed, image]``, from the run folders."""
    every = [json.loads((folder(home, cell, seed) / "images.json").read_text())[label] for seed in (0, 1)]
    assert list(every[0]) == list(every[1])
    return np.array([[values[figure] for values in images.values()] for images in every])


# --- figures


@pytest.mark.parametrize("label", ["photo", "comic"])
def test_figures_are_means_over_images_and_their_spread_over_seeds(done, label):
    found = rows(done / "out")
    for name, cell in (("resnet", "resnet-none"), ("resnet_nib", "resnet-symmetric")):
        for figure in FIGURES:
            values = measured(done, cell, label, figure)
            assert values.shape == (2, 2)
            each = values.mean(axis=1)
            assert [seed["images"][label][figure] for seed in found[name]["seeds"]] == pytest.approx(each)
            over = found[name]["images"][label][figure]
            assert (over["mean"], over["sd"], over["n"]) == (
                pytest.approx(each.mean()),
                pytest.approx(each.std(ddof=1)),
                2,
            )


@pytest.mark.parametrize("label", ["photo", "comic"])
def test_differences_are_of_the_same_image_and_seed(done, label):
    found = rows(done / "out")
    assert found["resnet"]["difference"] is None
    for figure in FIGURES:
        gains = measured(done, "resnet-symmetric", label, figure) - measured(done, "resnet-none", label, figure)
        assert abs(gains).min() > 0
        difference = found["resnet_nib"]["difference"][label][figure]
        assert difference["per_seed"] == pytest.approx(gains.mean(axis=1))
        assert difference["mean"] == pytest.approx(gains.mean())
        assert difference["sd"] == pytest.approx(gains.mean(axis=1).std(ddof=1))
        assert difference["better"] == (gains > 0).mean()


def test_figures_of_grays_and_the_protocol(done):
    content, found = read(done / "out"), rows(done / "out")["resnet_nib"]
    for name in ("tone_error", "flat_std"):
        every = [json.loads((folder(done, "resnet-symmetric", s) / "metrics.json").read_text()) for s in (0, 1)]
        values = np.array([figures[f"test/{name}"] for figures in every])
        assert found["grays"][name]["mean"] == pytest.approx(values.mean())
        assert found["grays"][name]["sd"] == pytest.approx(values.std(ddof=1))
    assert content["protocol"]["steps"] == 2
    assert content["protocol"]["seeds"] == [0, 1]
    assert [(s["label"], s["count"], s["title"]) for s in content["sets"]] == [
        ("photo", 2, "photos: photos"), ("comic", 2, "flat material: flat"),
    ]  # fmt: skip
    assert content["protocol"]["command"] == (
        "nibkit reproduce table1 --images photos --flat flat --seeds 0,1 --limit 2"
    )
    assert all(seed["seconds"] > 0 for seed in found["seeds"])


@pytest.mark.parametrize(("name", "cell"), [("resnet", "resnet-none"), ("resnet_nib", "resnet-symmetric")])
def test_psnr_and_parameters_are_those_of_the_checkpoint(done, name, cell):
    """The network is built from the checkpoint, and its halftone of a judged photo is measured by scipy."""
    stored = torch.load(folder(done, cell, 1) / "checkpoints" / "best.ckpt", weights_only=True)
    tensors = {
        key.removeprefix("backbone."): t for key, t in stored["state_dict"].items() if key.startswith("backbone.")
    }
    network = build_backbone(stored["hyper_parameters"]["backbone"], stored["hyper_parameters"]["nib"]).eval()
    network.load_state_dict(tensors)
    gray = np.asarray(Image.open(done / "photos" / "val" / "11.png")) / 255
    with torch.no_grad():
        answer = network(torch.from_numpy(gray * 2 - 1).float()[None, None])[0, 0].numpy()
    error = gaussian((answer > 0) - gray, 2.0)
    assert measured(done, cell, "photo", "psnr_sigma2.0")[1][1] == pytest.approx(
        -10 * np.log10((error**2).mean()), abs=2e-4
    )
    assert rows(done / "out")[name]["parameters"] == sum(tensor.numel() for tensor in tensors.values())


def test_files_agree(done):
    assert sorted(path.name for path in (done / "out").iterdir()) == FILES
    content, markdown = read(done / "out"), (done / "out" / "table1.md").read_text()
    page = Page((done / "out" / "table1.html").read_text())
    assert page.tables == tables_of(markdown)
    assert json.loads(base64.b64decode(page.links[0]["href"].partition(",")[2])) == content
    for row in content["rows"]:
        line = next(line for line in markdown.splitlines() if line.startswith(f"| {row['title']} "))
        over = row["images"]["photo"]["psnr_sigma2.0"]
        assert f"{over['mean']:.2f} ± {over['sd']:.2f}" in line
    pictures = [base64.b64decode(image["src"].partition(",")[2]) for image in page.images]
    assert len(pictures) == 3  # the plot, and a sheet per set
    assert pictures[0] == (done / "out" / "table1.png").read_bytes()
    for picture in pictures:
        with Image.open(io.BytesIO(picture)) as opened:
            assert min(opened.size) > 200
            opened.load()


# --- what is trained


def test_what_is_added_leaves_finished_cells_alone(done):
    early, now = json.loads((done / "stamps.json").read_text()), stamps(done / "runs")
    assert early.keys() < now.keys()
    assert {name: now[name] for name in early} == early
    before, after = rows(done / "early"), rows(done / "out")
    assert before["resnet"]["note"] == "0 of 1 seeds trained"
    assert before["resnet_nib"]["seeds"] == after["resnet_nib"]["seeds"][:1]
    assert before["resnet_nib"]["images"]["photo"]["ssim"]["sd"] is None


@pytest.fixture
def no_training(monkeypatch):
    def started(*arguments):
        raise AssertionError("a training began")

    monkeypatch.setattr(cells, "_run", started)
    monkeypatch.setattr(multirun, "launch", started)


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave the blow-ups out, where they are not what is tested."""
    monkeypatch.setattr(study_pictures, "draw_pictures", lambda study, jobs: [])


@pytest.mark.usefixtures("no_training")
def test_a_second_call_trains_nothing(done, capsys):
    before = stamps(done / "runs")
    run(done, "--runs", str(done / "runs"), "--out", "again", "--seeds", "0,1")
    assert stamps(done / "runs") == before
    assert Path("again/table1.json").read_bytes() == (done / "out" / "table1.json").read_bytes()
    assert capsys.readouterr().out.strip() == (done / "out" / "table1.md").read_text().strip()


@pytest.mark.usefixtures("no_training", "no_pictures")
def test_figure4_has_its_first_networks_from_table1(done):
    run(done, "--runs", str(done / "runs"), "--out", "out", "--seeds", "0,1", name="figure4")
    content, other = json.loads(Path("out/figure4.json").read_text()), rows(done / "out")
    assert [images["label"] for images in content["sets"]] == ["comic", "photo"]
    for row, twin in zip(content["rows"], (other["resnet"], other["resnet_nib"]), strict=True):
        assert (row["images"], row["difference"], row["grays"]) == (twin["images"], twin["difference"], twin["grays"])


@pytest.mark.usefixtures("no_pictures")
def test_killed_cells_go_on_or_begin_anew(done):
    """One was killed while it was tested, one before its first checkpoint; both end with the figures they had."""
    shutil.copytree(done / "runs", "runs")
    tested, begun = folder(Path(), "resnet-none", 0), folder(Path(), "resnet-symmetric", 1)
    for path in (tested / "metrics.json", tested / "images.json", begun / "metrics.json"):
        path.unlink()
    shutil.rmtree(begun / "checkpoints")
    for place in (tested, begun):
        (place / "old").touch()
    before = stamps(Path("runs"))
    run(done, "--runs", "runs", "--out", "out", "--seeds", "0,1", "--launcher", "basic")
    assert (tested / "old").exists()
    assert not (begun / "old").exists()
    after = stamps(Path("runs"))
    for name, stamp in before.items():
        touched = Path("runs", name).is_relative_to(tested) or Path("runs", name).is_relative_to(begun)
        assert touched or after[name] == stamp
    for name, row in rows(Path("out")).items():
        assert row["images"] == rows(done / "out")[name]["images"]
    assert rows(Path("out"))["resnet"]["seeds"][0]["seconds"] is None  # of a cell that was stopped


@pytest.fixture
def trained(done, monkeypatch):
    """Stand in for the training process: put the finished run in its folder; return the commands."""
    commands = []

    def finish(command, lock):
        commands.append(command)
        target = folder_of(command)
        shutil.copytree(done / "runs" / target.parent.name / target.name, target)
        return 0

    monkeypatch.setattr(cells, "_run", finish)
    return commands


@pytest.mark.usefixtures("no_pictures")
def test_cells_are_trained_first_seed_first_and_only_those_asked_for(done, trained):
    run(done, "--runs", "runs", "--out", "out", "--seeds", "1,0", "--cells", "resnet_nib")
    assert [folder_of(command).parent.name for command in trained] == ["resnet-symmetric"] * 2
    assert ["seed=1" in trained[0], "seed=0" in trained[1]] == [True, True]
    found = rows(Path("out"))
    assert found["resnet"]["note"] == "0 of 2 seeds trained"
    assert found["resnet"]["seeds"] == []
    assert found["resnet_nib"]["difference"]["photo"]["ssim"] == {
        "mean": None, "sd": None, "n": 0, "per_seed": [], "better": None,
    }  # fmt: skip
    assert len(Page(Path("out/table1.html").read_text()).tables) >= 4
    run(done, "--runs", "runs", "--out", "out", "--seeds", "1,0")
    assert [folder_of(c).parent.name for c in trained[2:]] == ["resnet-none"] * 2
    assert rows(Path("out"))["resnet_nib"]["difference"]["photo"]["ssim"]["n"] == 2


def stopped(capsys, *options):
    """Call the command; return the sentence that it ends with."""
    with pytest.raises(SystemExit) as stop:
        run(*options)
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("nibkit reproduce: error: ")
    return last.removeprefix("nibkit reproduce: error: ")


@pytest.mark.usefixtures("no_pictures")
def test_a_cell_that_fails_is_named_and_the_others_are_written(done, trained, monkeypatch, capsys):
    finish = cells._run
    monkeypatch.setattr(cells, "_run", lambda command, lock: 1 if "seed=0" in command else finish(command, lock))
    sentence = stopped(capsys, done, "--runs", "runs", "--out", "out", "--seeds", "0,1")
    for name, cell in (("resnet-none", "resnet-none"), ("resnet-symmetric", "resnet-symmetric")):
        assert f"{name}, seed 0: training ended with code 1, see 'runs/{cell}/seed0-" in sentence
    assert sentence.endswith("; the other cells are in 'out/table1.md'")
    assert rows(Path("out"))["resnet"]["note"] == "1 of 2 seeds trained"
    assert [seed["seed"] for seed in rows(Path("out"))["resnet_nib"]["seeds"]] == [1]


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("launcher", [(), ("--launcher", "basic")])
def test_a_cell_that_another_process_trains_is_skipped_and_named(done, trained, monkeypatch, capsys, launcher):
    def launch(jobs, name, options):
        assert (name, options) == ("basic", ())
        return [cells._run(job, 0) or None for job in jobs]

    monkeypatch.setattr(multirun, "launch", launch)
    held = folder(done, "resnet-none", 0)
    busy = make_cell("resnet-none", 0, (), Path("runs"))
    with claim(replace(busy, folder=Path("runs", "resnet-none", held.name))):
        sentence = stopped(capsys, done, "--runs", "runs", "--out", "out", "--seeds", "0", *launcher)
    assert sentence.startswith(f"'runs/resnet-none/{held.name}' is being trained by another process; wait for it or")
    assert [folder_of(command).parent.name for command in trained] == ["resnet-symmetric"]
    assert [len(row["seeds"]) for row in read(Path("out"))["rows"]] == [0, 1]


@pytest.mark.usefixtures("no_training")
def test_a_launcher_that_is_wrong_is_told_before_a_cell_is_claimed(done, capsys):
    sentence = stopped(capsys, done, "--runs", "runs", "--out", "out", "--seeds", "0", "--launcher", "basik")
    assert sentence.startswith("unknown hydra/launcher 'basik' (did you mean 'basic'?)")
    sentence = stopped(capsys, done, "--runs", "runs", "--out", "out", "--seeds", "0", "--launcher", "basic",
                       "--launch", "partition=gpu")  # fmt: skip
    assert sentence.startswith("unknown option 'hydra.launcher.partition'")
    assert not Path("runs").exists()


@pytest.mark.usefixtures("no_pictures")
def test_what_a_launcher_is_handed(done, trained, monkeypatch, capsys):
    handed = []
    monkeypatch.setattr(multirun, "check_launcher", lambda name, options: None)  # there is no Slurm here

    def launch(jobs, name, options):
        handed.append((jobs, name, options))
        cells._run(jobs[0], 0)
        return [None, "TimeoutError: too long"]

    monkeypatch.setattr(multirun, "launch", launch)
    sentence = stopped(capsys, done, "--runs", "runs", "--out", "out", "--seeds", "0", "--launcher", "submitit_slurm",
                       "--launch", "partition=gpu", "timeout_min=9")  # fmt: skip
    ((jobs, name, options),) = handed
    assert (name, options) == ("submitit_slurm", ("hydra.launcher.partition=gpu", "hydra.launcher.timeout_min=9"))
    assert [folder_of(job).parent.name for job in jobs] == ["resnet-none", "resnet-symmetric"]
    assert all({"seed=0", "trainer.max_steps=2"} <= set(job) for job in jobs)
    assert "resnet-symmetric, seed 0: TimeoutError: too long, see 'runs/resnet-symmetric/seed0-" in sentence
    assert rows(Path("out"))["resnet"]["note"] == ""


@pytest.mark.usefixtures("no_pictures")
def test_a_cell_that_another_process_finishes_meanwhile_is_no_problem(done, monkeypatch):
    def elsewhere(cell):
        shutil.copytree(done / "runs" / cell.folder.relative_to("runs"), cell.folder)
        raise BusyError("is being trained by another process")

    monkeypatch.setattr(run_study, "train", elsewhere)
    run(done, "--runs", "runs", "--out", "out", "--seeds", "0")
    assert [len(row["seeds"]) for row in read(Path("out"))["rows"]] == [1, 1]


@pytest.mark.usefixtures("no_pictures", "no_training")
def test_a_cell_that_another_process_finished_is_not_trained_again(done, monkeypatch):
    @contextlib.contextmanager
    def finished_meanwhile(cell):
        with claim(cell) as lock:
            shutil.copytree(done / "runs" / cell.folder.relative_to("runs"), cell.folder)
            yield lock

    monkeypatch.setattr(run_study, "claim", finished_meanwhile)
    monkeypatch.setattr(multirun, "launch", lambda jobs, *options: [AssertionError] * len(jobs))
    run(done, "--runs", "runs", "--out", "out", "--seeds", "0", "--launcher", "basic")
    assert [len(row["seeds"]) for row in read(Path("out"))["rows"]] == [1, 1]


# --- cells that cannot be used


@pytest.fixture
def refused(done, capsys):
    """Call the command with the cells below ``runs``; return its one sentence. Nothing may begin or be written."""

    def call(*options):
        before = [stamps(Path(name)) for name in ("runs", "out")]
        sentence = stopped(capsys, done, "--runs", "runs", "--out", "out", "--seeds", "0", *options)
        assert [stamps(Path(name)) for name in ("runs", "out")] == before
        return sentence

    return call


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.usefixtures("no_training")
def test_a_cell_of_another_version_is_refused(done, refused):
    shutil.copytree(done / "runs", "runs")
    cell = folder(Path(), "resnet-symmetric", 0)
    edit(cell / "environment.json", lambda content: content["versions"].update(nibkit="0.0.1"))
    assert refused().startswith(f"'{cell}' is of nibkit 0.0.1, this is ")
    assert refused().endswith("; choose another --runs, or move that folder away")
    (cell / "environment.json").unlink()
    assert refused().startswith(f"'{cell}' is of nibkit of an unknown version, this is ")


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("change", [{"versions": {"nibkit": "9.9"}}, ["no", "results"], {}])
def test_results_of_another_version_are_refused(done, refused, change):
    shutil.copytree(done / "out", "out")
    Path("out/table1.json").write_text(json.dumps(change))
    made_by = "9.9" if change and "versions" in change else "of an unknown version"
    assert refused().startswith(f"'out/table1.json' is of nibkit {made_by}, this is ")


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("name", ["images.json", "metrics.json"])
@pytest.mark.parametrize("text", ['{"photo": {', "[]", "\xff"])
def test_figures_that_cannot_be_read_are_refused(done, refused, name, text):
    shutil.copytree(done / "runs", "runs")
    cell = folder(Path(), "resnet-none", 0)
    (cell / name).write_bytes(text.encode("latin-1"))
    assert refused() == f"'{cell / name}' cannot be read; delete the folder '{cell}', and the cell is trained again"


@pytest.mark.usefixtures("no_training")
def test_nothing_trained_and_nothing_to_train(refused):
    assert refused("--no-train") == "table1: no cell is trained; leave out --no-train"


@pytest.mark.usefixtures("trained")
def test_results_that_stood_there_stay_whole(done, monkeypatch):
    """The page cannot be drawn after the table is."""
    shutil.copytree(done / "out", "out")
    monkeypatch.setattr(study_pictures, "draw_pictures", lambda study, jobs: [("none", b"no PNG")])
    with pytest.raises(ValueError, match="'none' is not a PNG"):
        run(done, "--runs", "runs", "--out", "out", "--seeds", "0")
    assert stamps(Path("out")) == stamps(done / "out")
