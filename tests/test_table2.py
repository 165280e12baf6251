"""``nibkit reproduce table2``: what is trained and kept, figures measured anew, options and bad input."""

import base64
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from conftest import clean_process
from omegaconf import OmegaConf
from PIL import Image
from scipy.linalg import sqrtm
from test_study_pages import Page, row_of, tables_of

from nibkit.cli import main
from nibkit.config import load_config
from nibkit.labels import IGNORE
from nibkit.metrics.frechet import DistributionMetrics
from nibkit.metrics.synthesis import SynthesisMetrics
from nibkit.reproduce import Options, cells, collect, table2, table2_cells, table2_collect, table2_judge
from nibkit.reproduce.table2_cells import VARIANTS, make_data, make_jobs, segmenter_job

# networks so narrow and images so small that two steps take a second
TINY = {
    "Pix2Pix": ("backbone.width=2", "backbone.downs=5", "discriminator.width=2"),
    "SPADE": ("backbone.width=2", "backbone.hidden=2", "backbone.ups=5", "discriminator.width=2"),
    "segmenter": ("backbone.width=4", "task.optimizer.lr=0.02", "task.schedule.warmup=0"),
}
BATCH = {"Pix2Pix": 1, "SPADE": 2, "segmenter": 2}
STEPS = {"Pix2Pix": 2, "SPADE": 2, "segmenter": 30}  # after which the segmenter knows its classes
CLASSES, COLOURS = 3, np.array([(200, 40, 40), (40, 200, 40), (40, 40, 200)])
PAIRS = ("pix2pix", "pix2pix_nib", "spade", "spade_nib")
SETTINGS = ("num_classes=3", "class_names=[sky,road,car]", "size=[32,64]")
DATA = ("--labels", "streets", "--label-settings", *SETTINGS)


def draw_pairs(folder, count, first=0):
    """Write photos in images/ and label maps in labels/ of three classes, a noisy colour each."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for index in range(first, first + count):
        rng = np.random.default_rng(index)
        label = np.zeros((32, 64), dtype=np.uint8)
        label[12:, :40] = 1
        label[4 + index % 8 :, 44:] = 2
        photo = (COLOURS[label] + rng.normal(0, 8, (32, 64, 3))).clip(0, 255).astype(np.uint8)
        Image.fromarray(photo).save(folder / "images" / f"{index:02}.png")
        Image.fromarray(label).save(folder / "labels" / f"{index:02}.png")


def shrink(patch):
    """Make the small scale tiny, and compose each configuration once."""
    patch.setitem(table2_cells.NETWORKS, "small", TINY)
    patch.setitem(table2_cells.BATCHES, "small", BATCH)
    patch.setattr(table2_cells, "STEPS", STEPS)
    for module in (cells, collect, table2_cells, table2_collect, table2_judge):
        patch.setattr(module, "load_config", cache(load_config))


@pytest.fixture(scope="module", autouse=True)
def _small():
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        patch.setattr(cells, "QUIET", (*cells.QUIET, "trainer.accelerator=cpu"))
        yield


def make_streets(home):
    for split, (count, first) in {"train": (6, 0), "val": (2, 10), "test": (4, 20)}.items():
        draw_pairs(home / "streets" / split, count, first)


def run(*options):
    main(["reproduce", "table2", *DATA, "--runs", "runs", *options])


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a finished call: ``streets``, ``runs``, ``out``; ``early``: of a call before it.

    The first trains one cell and the segmenter, the second what is missing.
    """
    home = tmp_path_factory.mktemp("table2")
    make_streets(home)
    with clean_process(home):
        run("--out", "early", "--seeds", "0", "--cells", "spade_nib", "--launcher", "basic")
        before = {path: stamp for path, stamp in stamps(home / "runs").items() if path.suffix != ".lock"}
        run("--out", "out", "--seeds", "0,1", "--launcher", "basic")
        after = stamps(home / "runs")
    assert all(after[path] == stamp for path, stamp in before.items())
    return home


def read(folder):
    return json.loads((folder / "table2.json").read_text())


def rows(folder):
    return {row["name"]: row for row in read(folder)["rows"]}


def jobs_of(home, **changes):
    given = {"labels": str(home / "streets"), "label_settings": SETTINGS, "seeds": (0, 1)}
    options = Options(**({"images": None, "out": home / "out", "runs": home / "runs"} | given | changes))
    return options, make_jobs(options)


def segmentation(predictions, targets):
    """mIoU and accuracy, counted pixel by pixel."""
    counts = np.zeros((CLASSES, CLASSES), dtype=int)
    for truth, found in zip(np.ravel(targets), np.ravel(predictions), strict=True):
        if truth != IGNORE:
            counts[truth, found] += 1
    union = counts.sum(axis=0) + counts.sum(axis=1) - counts.diagonal()
    return np.mean((counts.diagonal() / union.clip(1))[union > 0]), counts.trace() / counts.sum()


# --- a whole call


def test_all_cells_and_one_segmenter_are_trained(done):
    folders = sorted(
        path.parent.parent.name + "/" + path.parent.name[:5] for path in done.glob("runs/*/*/metrics.json")
    )
    assert folders == sorted(["segmenter/seed0", *(f"{name}/seed{seed}" for name in PAIRS for seed in (0, 1))])
    assert {name: len(row["seeds"]) for name, row in rows(done / "out").items()} == dict.fromkeys(PAIRS, 2)
    assert {name: len(row["seeds"]) for name, row in rows(done / "early").items()} == dict.fromkeys(PAIRS, 0) | {
        "spade_nib": 1
    }


def test_the_same_call_again_neither_trains_nor_judges(done, monkeypatch):
    monkeypatch.chdir(done)
    monkeypatch.setattr(cells, "_run", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(table2_judge.Judge, "_measure", lambda *_: pytest.fail("judged again"))
    before, page = stamps(done / "runs"), (done / "out" / "table2.md").read_text()
    run("--out", "again", "--seeds", "0,1")
    assert {path: stamp for path, stamp in stamps(done / "runs").items() if path.suffix == ".json"} == {
        path: stamp for path, stamp in before.items() if path.suffix == ".json"
    }
    assert (done / "again" / "table2.md").read_text() == page


def test_figures_are_those_of_the_rendered_test_set(done):
    """Through the trained networks by hand: the error, mIoU and accuracy of what they make."""
    options, jobs = jobs_of(done)
    network = table2_judge.load_task(segmenter_job(options).cell).eval()
    batches = list(make_data(table2_cells.data_settings(options)).test_dataloader()[0])
    assert len(batches) == 4
    found = {name: row["seeds"][0]["figures"] for name, row in rows(done / "out").items()}
    makers = {job.variant.name: table2_judge.load_task(job.cell).eval().render_batch for job in jobs[:4]}
    found["photos"], makers["photos"] = read(done / "out")["photos"], lambda batch: batch["image"]
    for name, make in makers.items():
        with torch.no_grad():
            images = [make(batch) for batch in batches]
            answers = [network(image).argmax(dim=1).numpy() for image in images]
        miou, accuracy = segmentation(answers, [batch["target"].numpy() for batch in batches])
        assert found[name]["miou"] == pytest.approx(miou, rel=1e-4)
        assert found[name]["pixel_accuracy"] == pytest.approx(accuracy, rel=1e-4)
        errors = [float((image - batch["image"]).abs().mean()) for image, batch in zip(images, batches, strict=True)]
        assert found[name].get("l1", 0) == pytest.approx(np.mean(errors), rel=1e-4)
    assert found["photos"]["miou"] > 0.5 > found["spade"]["miou"]


def test_networks_differ_and_so_do_seeds(done):
    errors = [seed["figures"]["l1"] for row in rows(done / "out").values() for seed in row["seeds"]]
    assert len(set(errors)) == 8


def test_the_photos_are_as_textured_as_themselves(done):
    photos = read(done / "out")["photos"]
    assert photos["texture_ratio"] == pytest.approx(1)
    assert photos["texture_spectrum_db"] == pytest.approx(0, abs=1e-9)
    assert photos["texture_std"] == photos["texture_std_real"] > 1
    assert photos["miou"] is not None
    assert not {"fid", "l1"} & photos.keys()


def test_files_agree(done):
    out = done / "out"
    assert {path.name for path in out.iterdir()} == set(table2.FILES)
    page, text = Page((out / "table2.html").read_text()), (out / "table2.md").read_text()
    assert page.tables == tables_of(text)
    drawn, pictures = (base64.b64decode(image["src"].partition(",")[2]) for image in page.images)
    assert drawn == (out / "table2.png").read_bytes()
    assert pictures.startswith(b"\x89PNG")
    assert "nibkit reproduce table2 --labels streets --label-settings num_classes=3" in text
    row = row_of(tables_of(text)["Distance and segmentation"], "SPADE, NIB")
    mean = np.mean([seed["figures"]["l1"] for seed in rows(out)["spade_nib"]["seeds"]])
    assert row["mean absolute error"].startswith(f"{mean:.3f} ± ")


def test_a_limit_judges_fewer_without_training_anew(done, monkeypatch):
    monkeypatch.chdir(done)
    monkeypatch.setattr(cells, "_run", lambda *_: pytest.fail("trained again"))
    run("--out", "few", "--seeds", "0", "--limit", "2")
    assert read(done / "few")["protocol"]["photos"] == 2
    assert rows(done / "few")["spade"]["seeds"][0] != rows(done / "out")["spade"]["seeds"][0]


def test_another_segmenter_gives_other_figures_but_the_same_photographs(done, monkeypatch):
    monkeypatch.chdir(done)
    trained = segmenter_job(jobs_of(done)[0]).cell.checkpoint
    checkpoint = torch.load(trained, weights_only=True)
    (bias,) = [tensor for name, tensor in checkpoint["state_dict"].items() if tensor.shape == (3,)]
    bias += torch.tensor([0.0, 1e4, 0.0])  # everything is road
    torch.save(checkpoint, "other.ckpt")
    run("--out", "other", "--seeds", "0", "--segmenter", "other.ckpt", "--no-train")
    mine, other = (rows(done / name)["pix2pix"]["seeds"][0]["figures"] for name in ("out", "other"))
    assert mine["l1"] == other["l1"]
    assert mine["texture_std"] == other["texture_std"]
    assert other["iou_road"] == pytest.approx(other["pixel_accuracy"])
    assert (other["iou_sky"], other["iou_car"]) == (0, 0)
    assert mine["miou"] != other["miou"]


# --- distances


class Means(torch.nn.Module):
    """Features that anyone can reckon: the mean of each channel."""

    def forward(self, images):
        return images.float().mean(dim=(2, 3))


def frechet(one, other):
    """By the formula, of features ``[N, D]``."""
    root = sqrtm(np.cov(one.T) @ np.cov(other.T)).real
    return ((one.mean(axis=0) - other.mean(axis=0)) ** 2).sum() + np.trace(np.cov(one.T) + np.cov(other.T) - 2 * root)


def means(done, split, names):
    files = [done / "streets" / split / "images" / f"{name:02}.png" for name in names]
    return np.array([np.asarray(Image.open(file), dtype=float).mean(axis=(0, 1)) for file in files])


def test_distances_are_to_the_test_photos_and_those_of_training_photos_are_the_floor(done, monkeypatch):
    def make_metrics(spec, data):
        return SynthesisMetrics([DistributionMetrics(Means(), "fid", "kid")], None, None, None, None), ["means"]

    monkeypatch.chdir(done)
    monkeypatch.setattr(table2_judge, "make_metrics", make_metrics)
    run("--out", "distances", "--seeds", "0", "--no-train")
    photos = means(done, "test", range(20, 24))
    floor = means(done, "train", Random(0).sample(range(6), 4))
    content = read(done / "distances")
    assert content["training_photos"]["fid"] == pytest.approx(frechet(floor, photos), rel=1e-4)
    assert content["evaluator"] == ["means"]
    options, jobs = jobs_of(done)
    render = table2_judge.load_task(jobs[3].cell).eval().render_batch
    batches = make_data(table2_cells.data_settings(options)).test_dataloader()[0]
    made = np.concatenate([(render(batch).detach().numpy().clip(-1, 1) + 1) * 127.5 for batch in batches])
    assert rows(done / "distances")["spade_nib"]["seeds"][0]["figures"]["fid"] == pytest.approx(
        frechet(made.round().mean(axis=(2, 3)), photos), rel=1e-3
    )
    table = tables_of((done / "distances" / "table2.md").read_text())["Distance and segmentation"]
    assert row_of(table, "as many training photos")["FID"] == f"{frechet(floor, photos):.1f}"


def test_with_fewer_training_photos_there_is_no_floor(done, monkeypatch):
    monkeypatch.chdir(done)
    judge = table2_judge.make_judge(jobs_of(done)[0], None)
    assert replace(judge, basis={**judge.basis, "names": ["x"] * 6}).training_photos() == {}
    assert replace(judge, basis={**judge.basis, "names": ["x"] * 7}).training_photos() is None


# --- what is trained


def settings_of(job):
    return cells.load_config(job.cell.settings)


@pytest.mark.parametrize("scale", ["small", "medium"])
def test_pairs_differ_in_nib_alone(scale):
    options = Options(None, Path("out"), Path("runs"), scale=scale, seeds=(3,))
    configs = {job.variant.name: settings_of(job) for job in make_jobs(options)}
    for name in ("pix2pix", "spade"):
        standard, nib = configs[name], configs[f"{name}_nib"]
        assert (standard.backbone.name, standard.nib.form, nib.nib.form) == (name, "none", "feature")
        assert (nib.nib.noise, nib.nib.distribution, nib.nib.scale) == ("dynamic", "normal", 0.3)
        for section in ("backbone", "discriminator", "data", "trainer"):
            assert standard[section] == nib[section]
        plain = [{k: v for k, v in OmegaConf.to_container(c.task).items() if k != "nib"} for c in (standard, nib)]
        assert plain[0] == plain[1]
        assert standard.callbacks.scores is None
        assert standard.seed == 3


def test_medium_has_four_times_the_steps():
    small, medium = (Options(None, Path("out"), Path("runs"), scale=scale, seeds=(3,)) for scale in ("small", "medium"))
    steps = [[settings_of(job).trainer.max_steps for job in make_jobs(options)] for options in (small, medium)]
    assert [4 * each for each in steps[0]] == steps[1]


def test_the_papers_scale_has_its_networks_and_epochs(monkeypatch):
    monkeypatch.setattr(table2_cells, "_training_photos", lambda settings: 2975)
    jobs = make_jobs(Options(None, Path("out"), Path("runs"), scale="paper", seeds=(0,)))
    pix2pix, _, spade, _ = (settings_of(job) for job in jobs)
    assert (spade.backbone.width, spade.backbone.hidden, spade.backbone.ups) == (64, 128, 6)
    assert (spade.data.batch_size, spade.task.perceptual_weight, spade.discriminator.width) == (16, 10, 64)
    assert spade.trainer.max_steps == 200 * 2975 // 16
    assert (pix2pix.backbone.width, pix2pix.backbone.downs, pix2pix.data.batch_size) == (64, 8, 1)
    assert pix2pix.trainer.max_steps == 200 * 2975
    assert list(pix2pix.data.size) == list(spade.data.size) == [256, 512]
    assert pix2pix.data._target_ == spade.data._target_
    facades = make_jobs(Options(None, Path("out"), Path("runs"), scale="paper", seeds=(0,), labels="facades"))
    assert list(settings_of(facades[0]).data.load_size) == [286, 286]
    assert list(settings_of(facades[0]).data.size) == [256, 256]


def test_the_paper_says():
    published = {variant.name: tuple(variant.published.values()) for variant in VARIANTS}
    assert published == {"pix2pix": (12.05, 53.6, 92.9), "pix2pix_nib": (12.27, 53.6, 88.1),
                         "spade": (62.3, 81.9, 71.8), "spade_nib": (61.9, 81.8, 54.6)}  # fmt: skip


def test_another_seed_or_other_data_are_another_cell(done):
    _, jobs = jobs_of(done)
    _, others = jobs_of(done, label_settings=(*SETTINGS[:2], "size=[64,64]"), seeds=(0,))
    _, limited = jobs_of(done, limit=1)
    folders = {job.cell.folder for job in (*jobs, *others)}
    assert len(folders) == 12
    assert [job.cell.folder for job in limited] == [job.cell.folder for job in jobs]


# --- bad input


def refused(capsys, *options, name="table2"):
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", name, *options])
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1].removeprefix("nibkit reproduce: error: ")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--labels", "camvd"), "unknown --labels 'camvd' (did you mean 'camvid'?); choose from: builtin, camvid, "
         "cityscapes, facades, or a folder of photos with label maps"),
        (("--label-settings", "sise=[32,64]"), "unknown key 'data.sise' (did you mean 'data.size'?)"),
        (("--images", "."), "--images is not for table2; leave it out"),
        (("--train-images", "."), "--train-images is not for table2; leave it out"),
        (("--flat", "."), "--flat is not for table2; leave it out"),
        (("--cells", "spade,spad_nib"), "unknown cell of table2 'spad_nib' (did you mean 'spade_nib'?)"),
        (("--segmenter", "no.ckpt"), "--segmenter='no.ckpt' does not exist or is no file; name a file of weights"),
        (("--inception", "no.pth"), "--inception='no.pth' does not exist or is no file; name a file of weights"),
    ],
)  # fmt: skip
def test_bad_input(capsys, options, sentence):
    assert refused(capsys, *options).startswith(sentence)
    assert not Path("outputs").exists()


@pytest.mark.parametrize("option", ["--labels", "--label-settings", "--segmenter", "--inception", "--vgg"])
@pytest.mark.parametrize("name", ["table1", "table4", "figure3", "figure7"])
def test_options_of_label_maps_are_of_table2_alone(capsys, name, option):
    assert refused(capsys, option, "x", name=name) == f"{option} is not for {name}; leave it out"


def test_a_file_that_is_no_segmenter_is_told_before_training(capsys, done, monkeypatch):
    monkeypatch.chdir(done)
    Path("broken.ckpt").write_text("this is no checkpoint")
    monkeypatch.setattr(cells, "_run", lambda *_: pytest.fail("trained"))
    sentence = refused(capsys, *DATA, "--runs", "fresh", "--segmenter", "broken.ckpt")
    assert "broken.ckpt' is truncated or no checkpoint" in sentence
    assert not Path("fresh").exists()


def test_without_any_trained_cell_there_is_no_table(capsys, done, monkeypatch):
    monkeypatch.chdir(done)
    assert refused(capsys, *DATA, "--runs", "fresh", "--no-train") == "table2: no cell is trained; leave out --no-train"
