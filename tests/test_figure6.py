"""Figure 6: which images and regions are shown, and what of."""

import base64
import json
from types import SimpleNamespace

import lightning.pytorch as lightning
import numpy as np
import pytest
import torch
from conftest import clean_process
from PIL import Image
from test_study_pages import Page, tables_of
from test_table2 import DATA, jobs_of, make_streets, refused, shrink

from nibkit import __version__
from nibkit.checkpoint import task_name
from nibkit.cli import main
from nibkit.config import load_config
from nibkit.make import make
from nibkit.reproduce import cells, figure6
from nibkit.reproduce.table2_pictures import (
    Region,
    first_trained,
    largest_regions,
    most_uniform,
    region_deviation,
    spread_over,
)


@pytest.fixture(scope="module", autouse=True)
def _small():
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        patch.setattr(cells, "QUIET", (*cells.QUIET, "trainer.accelerator=cpu"))
        yield


def labelled(classes, names=None, class_map=None):
    names = names or [f"name {number}" for number in range(classes)]
    return SimpleNamespace(num_classes=classes, class_names=names, class_map=class_map)


# --- what is chosen


@pytest.mark.parametrize(
    ("length", "wanted"), [(3, [0, 1, 2]), (9, [1, 4, 7]), (2, [0, 1]), (1, [0]), (101, [16, 50, 84])]
)
def test_images_are_spread_over_the_set(length, wanted):
    assert spread_over(length, 3) == wanted


def test_the_largest_classes_are_shown_but_not_void():
    label = torch.zeros(32, 64, dtype=torch.int64)
    label[:, 20:] = 2  # the largest, but for void
    label[:, 50:60] = 1
    label[:16] = 3  # void
    found = largest_regions(label, labelled(3, ["sky", "car", "road"]))
    assert [region.name for region in found] == ["road", "sky"]
    for region, number in zip(found, (2, 0), strict=True):
        assert region.side == 8
        assert (region.cut(label) == number).all()


def test_a_class_that_is_not_scored_has_a_number():
    label = torch.ones(16, 16, dtype=torch.int64)
    assert largest_regions(label, labelled(2, ["sky"], class_map=[0, None]))[0].name == "class 1"
    assert largest_regions(label, labelled(2, ["sky"], class_map=[None, 0]))[0].name == "sky"


def test_the_square_is_where_a_class_fills_most():
    rng = np.random.default_rng(0)
    for _ in range(5):
        inside = torch.from_numpy(rng.random((20, 30)) < 0.7)
        top, left = most_uniform(inside, 5)
        counts = {(y, x): int(inside[y : y + 5, x : x + 5].sum()) for y in range(16) for x in range(26)}
        assert counts[top, left] == max(counts.values())


def test_of_equal_squares_it_is_the_one_amidst_the_region():
    inside = torch.zeros(40, 40, dtype=torch.bool)
    inside[4:28, 10:34] = True
    assert most_uniform(inside, 8) == (12, 18)  # as far from all four borders


def test_the_deviation_of_a_region_is_without_shading_in_levels():
    rng = np.random.default_rng(1)
    gray = rng.integers(60, 190, (16, 16)).astype(float)
    y, x = np.mgrid[0:16, 0:16]
    plane = np.stack([np.ones(256), y.ravel(), x.ravel()], axis=1)
    rest = gray.ravel() - plane @ np.linalg.lstsq(plane, gray.ravel(), rcond=None)[0]
    image = torch.zeros(3, 32, 32)
    image[:, 8:24, 4:20] = torch.from_numpy(gray + 3 * x - 2 * y - 10).float() / 127.5 - 1
    found = region_deviation(Region("sky", 8, 4, 16), image)
    assert found == pytest.approx(rest.std(), rel=1e-4)


def test_the_first_seed_with_both_networks_is_shown():
    def job(name, group, seed, finished):
        cell = SimpleNamespace(seed=seed, finished=finished)
        return SimpleNamespace(variant=SimpleNamespace(name=name, group=group), cell=cell)

    jobs = [job(name, name[0], seed, (name, seed) in {("a", 0), ("a", 1), ("an", 1), ("b", 0)})
            for seed in (0, 1) for name in ("a", "an", "b", "bn")]  # fmt: skip
    shown = first_trained(jobs, (0, 1))
    assert [(job.variant.name, job.cell.seed) for job in shown] == [("a", 1), ("an", 1)]


# --- a whole call


def save_cell(cell):
    """Put an untrained network where a finished training would have its own."""
    config = load_config(cell.settings)
    torch.manual_seed(len(cell.name))
    task = make("task", config.task)
    parts = {"hyper_parameters": dict(task.hparams), "state_dict": task.state_dict()}
    cell.checkpoint.parent.mkdir(parents=True)
    versions = {"nibkit_task": task_name(type(task)), "pytorch-lightning_version": lightning.__version__}
    torch.save(parts | versions, cell.checkpoint)
    (cell.folder / "config.yaml").write_text("first_step: 0\n")
    (cell.folder / "environment.json").write_text(json.dumps({"versions": {"nibkit": __version__}}))
    (cell.folder / "metrics.json").write_text("{}")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a finished call, all networks of seed 1."""
    home = tmp_path_factory.mktemp("figure6")
    make_streets(home)
    with clean_process(home):
        for job in jobs_of(home)[1][4:]:
            save_cell(job.cell)
        main(["reproduce", "figure6", *DATA, "--runs", "runs", "--out", "out", "--seeds", "0,1"])
    return home


def test_it_trains_the_networks_of_the_first_seed_that_are_missing(capsys, done, monkeypatch):
    commands = []
    monkeypatch.chdir(done)
    monkeypatch.setattr(cells, "_run", lambda command, lock: commands.append(command) or 1)
    sentence = refused(capsys, *DATA, "--runs", "fresh", "--seeds", "4,5", name="figure6")
    wanted = [f"run_id={name}-4" for name in ("pix2pix", "pix2pix_nib", "spade", "spade_nib")]
    assert [command[command.index("seed=4") + 1] for command in commands] == wanted
    assert "pix2pix, seed 4: training ended with code 1" in sentence


def test_files_agree(done):
    out = done / "out"
    assert {path.name for path in out.iterdir()} == set(figure6.FILES)
    page, text = Page((out / "figure6.html").read_text()), (out / "figure6.md").read_text()
    content = json.loads((out / "figure6.json").read_text())
    assert page.tables == tables_of(text)
    assert {network["seed"] for network in content["networks"]} == {1}
    (picture,) = page.images
    assert base64.b64decode(picture["src"].partition(",")[2]) == (out / "figure6.png").read_bytes()
    table = tables_of(text)["Deviation in the regions"]
    assert table[0] == ["region", "Pix2Pix, standard", "Pix2Pix, NIB", "SPADE, standard", "SPADE, NIB", "photo"]
    assert len(table) == 1 + len(content["rows"]) == 1 + 3 * 2  # three images, two regions of each
    with Image.open(out / "figure6.png") as opened:
        assert opened.width > 6 * 4 * 64
        assert opened.height > 3 * 4 * (32 + 2 * 4 * 8)


def test_regions_are_of_the_images_that_are_named(done):
    """The photo's deviation, from its file."""
    for row in json.loads((done / "out" / "figure6.json").read_text())["rows"]:
        photo = np.asarray(Image.open(done / "streets" / "test" / "images" / f"{row['image']}.png"), dtype=float)
        label = np.asarray(Image.open(done / "streets" / "test" / "labels" / f"{row['image']}.png"))
        square = (slice(row["top"], row["top"] + row["side"]), slice(row["left"], row["left"] + row["side"]))
        assert len(np.unique(label[square])) == 1
        gray = photo[square] @ [0.299, 0.587, 0.114]
        assert row["deviation"]["photo"] == pytest.approx(gray.std(), rel=0.2)  # there is no shading to remove


def test_the_same_call_again_trains_nothing_and_draws_the_same(done, monkeypatch):
    monkeypatch.chdir(done)
    monkeypatch.setattr(cells, "_run", lambda *_: pytest.fail("trained again"))
    main(["reproduce", "figure6", *DATA, "--runs", "runs", "--out", "again", "--seeds", "0,1"])
    assert (done / "again" / "figure6.png").read_bytes() == (done / "out" / "figure6.png").read_bytes()


def test_nothing_trained_is_told(capsys, done, monkeypatch):
    monkeypatch.chdir(done)
    assert refused(capsys, *DATA, "--runs", "fresh", "--no-train", name="figure6") == (
        "figure6: no generator of table2 is trained with and without NIB on one seed; leave out --no-train"
    )


@pytest.mark.parametrize("option", ["--images", "--flat", "--train-images", "--cells", "--segmenter", "--vgg"])
def test_options_that_it_would_not_heed_are_refused(capsys, option):
    assert refused(capsys, option, "x", name="figure6") == f"{option} is not for figure6; leave it out"
