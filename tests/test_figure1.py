"""Figure 1: three panels by tiny untrained networks, their numbers against independent ones, and what it trains."""

import base64
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import test_figure3
import test_figure6
import test_figure7
import torch
from conftest import clean_process, draw
from PIL import Image
from scipy.ndimage import gaussian_filter
from test_study_pages import Page, tables_of
from test_table2 import DATA, jobs_of, make_streets, refused, shrink

from nibkit.cli import main
from nibkit.color import luminance
from nibkit.config import load_config
from nibkit.errors import UserError
from nibkit.reproduce import Options, cells, drawn_cells, figure1, study_pictures, table2_judge
from nibkit.reproduce.studies import STUDIES
from nibkit.reproduce.study import make_jobs
from nibkit.reproduce.table2_pictures import Pictures, Region, drawn_data, largest_regions

TINY = {
    "table1": ("data.crop_size=32", "data.test_crop=64", "data.num_workers=0", "backbone.width=4"),
    "table3": test_figure7.TINY,
}
INPUTS = ("--images", "photos", "--flat", "flat", *DATA)
CELLS = {"table1": figure1.HALFTONES, "table3": figure1.GRAYSCALE, "table2": figure1.SYNTHESIS}
SIDE = 96  # of the crop, pixels; the right third has texture


@pytest.fixture(scope="module", autouse=True)
def _small():
    """Make all networks tiny, leave variants out that are not drawn, compose each configuration once."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        patch.setattr(cells, "QUIET", (*cells.QUIET, "trainer.accelerator=cpu"))
        patch.setattr(study_pictures, "load_config", cache(load_config))
        for name, settings in TINY.items():
            study = STUDIES[name]
            few = replace(study, variants=study.variants[:3], scales={"small": settings}, narrow={})
            patch.setitem(STUDIES, name, few)
        yield


def flat_image():
    """The coloured image of flat material, ``[H, W, 3]`` of 8 bit."""
    image = draw(1, SIDE, SIDE, 3)
    image[:, : 2 * SIDE // 3] = (200, 60, 30)
    return image


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a finished call, and the networks of tables 1 and 3 by title."""
    home = tmp_path_factory.mktemp("figure1")
    make_streets(home)
    for index, name in enumerate(["photos/train"] * 4 + ["photos/val"] * 3):
        (home / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(index, 100, 110, 3)).save(home / name / f"{index}.png")
    (home / "flat").mkdir()
    Image.fromarray(np.full((SIDE, SIDE, 3), 90, dtype=np.uint8)).save(home / "flat" / "0.png")  # without any colour
    Image.fromarray(flat_image()).save(home / "flat" / "1.png")
    with clean_process(home):
        networks = {job.variant.title: test_figure3.save_cell(job.cell, seed=5) for job in study_jobs("table1")}
        networks |= {job.variant.title: test_figure7.save_cell(job.cell) for job in study_jobs("table3")}
        for job in spades(home):
            test_figure6.save_cell(job.cell)
        main(["reproduce", "figure1", *INPUTS, "--runs", "runs", "--out", "out", "--seeds", "1,0", "--no-train"])
    return home, networks


def study_jobs(name):
    options = Options(Path("photos"), Path("out"), Path("runs"), seeds=(1,), flat=Path("flat"))
    return [job for job in make_jobs(STUDIES[name], options) if job.variant.name in CELLS[name]]


def spades(home):
    return [job for job in jobs_of(home, seeds=(1,))[1] if job.variant.name in CELLS["table2"]]


def content_of(done):
    return json.loads((done[0] / "out" / "figure1.json").read_text())


def numbers(done, letter):
    """The numbers of a panel by picture."""
    return {row["picture"]: row["number"] for row in content_of(done)["rows"] if row["panel"].startswith(letter)}


# --- numbers


def deviation(image, region):
    """Of luminance in a square, in levels, the best plane subtracted; ``[H, W, 3]`` in levels."""
    gray = (image @ [0.299, 0.587, 0.114])[region]
    y, x = np.mgrid[: gray.shape[0], : gray.shape[1]]
    plane = np.stack([np.ones(gray.size), y.ravel(), x.ravel()], axis=1)
    return (gray.ravel() - plane @ np.linalg.lstsq(plane, gray.ravel(), rcond=None)[0]).std()


def test_deviations_are_those_of_the_middle_image_in_its_largest_class(done):
    """Of four test images that is the third."""
    home, _ = done
    data, jobs = drawn_data(jobs_of(home)[0]), spades(home)
    label = torch.from_numpy(np.asarray(Image.open(home / "streets" / "test" / "labels" / "22.png")).astype(int))
    region = largest_regions(label, data)[0]
    place = (slice(region.top, region.top + region.side), slice(region.left, region.left + region.side))
    assert (label[place] == label.flatten().mode().values).all()
    batch = next(batch for batch in table2_judge.test_batches(data, torch.device("cpu")) if "22" in batch["name"])
    images = {job.variant.title: table2_judge.renderer(job.cell)(batch)[batch["name"].index("22")] for job in jobs}
    wanted = {title: (image.permute(1, 2, 0).double().numpy() + 1) * 127.5 for title, image in images.items()}
    wanted["photo"] = np.asarray(Image.open(home / "streets" / "test" / "images" / "22.png")).astype(float)
    found = numbers(done, "a")
    assert list(found) == ["SPADE, standard", "SPADE, NIB", "photo"]
    assert found == pytest.approx({title: deviation(image, place) for title, image in wanted.items()}, rel=1e-3)
    assert min(found.values()) > 0
    assert {row["input"] for row in content_of(done)["rows"] if row["panel"].startswith("a")} == {
        "sky of test image 22"
    }


def test_the_colours_restored_are_those_of_the_flat_image(done):
    wanted = {title: test_figure7.through(done[1][title], flat_image())[1] for title in numbers(done, "b")}
    assert list(wanted) == ["published pair, standard", "published pair, NIB"]
    psnr = {title: test_figure7.decibel(flat_image(), restored) for title, restored in wanted.items()}
    assert numbers(done, "b") == pytest.approx(psnr, abs=1e-2)


@torch.no_grad()
def test_halftones_are_of_the_same_image_and_compared_as_the_eye_sees_them(done):
    gray = flat_image() @ [0.299, 0.587, 0.114]
    wanted = {}
    for title in ("ResNet, standard", "ResNet, NIB"):
        answer = done[1][title](torch.from_numpy(gray / 127.5 - 1).float()[None, None])[0, 0].numpy()
        seen = gaussian_filter(np.where(answer > 0, 255.0, 0.0) - gray, 2, mode="mirror", radius=5)
        wanted[title] = -10 * np.log10(((seen / 255) ** 2).mean())
    assert numbers(done, "c") == pytest.approx(wanted, abs=1e-2)


def test_standard_networks_are_flat_where_they_see_one_colour_alone(done):
    """A gray that hides no colour, a halftone without dots; not so with NIB."""
    with torch.no_grad():
        for title, network in done[1].items():
            channels = 3 if "pair" in title else 1
            image = torch.full((1, channels, 64, 64), 0.2)
            answer = network.encode(image) if channels == 3 else network(image)
            assert (answer.std() < 1e-5) == title.endswith("standard")


# --- pictures


def test_pictures_of_all_panels_are_of_one_size(done):
    home, _ = done
    image = torch.from_numpy(flat_image()).permute(2, 0, 1) / 127.5 - 1
    with clean_process(home):
        panels = [
            figure1.synthesis(spades(home), drawn_data(jobs_of(home)[0])),
            figure1.grayscale(study_jobs("table3"), image),
            figure1.halftoning(study_jobs("table1"), luminance(image[None])[0]),
        ]
    pictures = [cell for panel in panels for row in panel.rows.values() for cell in row]
    assert {picture.shape[-2:] for _, picture in pictures} == {(288, 288)}
    assert [len(row) for panel in panels for row in panel.rows.values()] == [4, 4, 3, 3, 3]
    for panel in panels:
        *_, last = panel.rows.values()  # it has the numbers, of all but the input
        wanted = [f"{title}: {number:.2f} {panel.unit}" for title, number in panel.numbers.items()]
        assert [caption for caption, _ in last[1:]] == wanted
    halftones = [picture for _, picture in next(iter(panels[2].rows.values()))[1:]]
    assert all(set(picture.unique().tolist()) <= {-1.0, 1.0} for picture in halftones)
    grays = [picture for _, picture in next(iter(panels[1].rows.values()))[1:]]
    levels = [(picture.double() + 1) * 127.5 for picture in grays]
    assert all(torch.allclose(level, level.round(), atol=1e-4) for level in levels)


@pytest.mark.parametrize(
    ("region", "size", "corner"),
    [
        ((10, 20, 8), (32, 64), (0, 8)),
        ((10, 2, 8), (32, 64), (0, 0)),
        ((10, 50, 8), (32, 64), (0, 32)),
        ((50, 3, 8), (64, 32), (32, 0)),
        ((4, 4, 8), (32, 32), (0, 0)),
    ],
)
def test_the_square_is_around_the_region(region, size, corner):
    square = figure1.square_around(Region("road", *region), *size)
    assert square == Region("road", *corner, 32)


def test_the_square_shows_the_region_in_its_frame():
    image = torch.rand(3, 16, 40, generator=torch.Generator().manual_seed(0))
    picture = figure1.in_its_square(Region("road", 4, 30, 4), image, 3)
    enlarged = image[:, :, 24:].repeat_interleave(3, dim=1).repeat_interleave(3, dim=2)  # the right end
    assert torch.equal(picture[:, 15:21, 21:27], enlarged[:, 15:21, 21:27])  # 3 pixels inside the frame
    changed = (picture != enlarged).any(dim=0).nonzero()
    assert (changed.amin(dim=0).tolist(), changed.amax(dim=0).tolist()) == ([12, 18], [23, 29])


def test_the_frame_is_inside_the_region_and_leaves_the_image_alone():
    image = torch.zeros(3, 30, 40)
    picture = figure1.framed(image, Region("road", 5, 10, 12))
    assert picture[0, 11, 8:16].tolist() == [0, 0, -1, 1, 1, 0, 0, 0]
    assert picture[0, 11, 16:24].tolist() == [0, 0, 0, 1, 1, -1, 0, 0]
    assert picture[0, 3:10, 16].tolist() == [0, 0, -1, 1, 1, 0, 0]
    assert int((picture[0] != 0).sum()) == 12**2 - 6**2
    assert not image.any()


@pytest.mark.parametrize(("side", "times"), [(96, 3), (128, 2), (256, 1), (300, 1), (32, 9)])
def test_pictures_are_enlarged_to_about_one_size(side, times):
    assert figure1.enlargement(side) == times


def test_files_agree(done):
    out = done[0] / "out"
    assert {path.name for path in out.iterdir()} == set(figure1.FILES)
    page, markdown, content = (
        Page((out / "figure1.html").read_text()),
        (out / "figure1.md").read_text(),
        content_of(done),
    )
    assert page.tables == tables_of(markdown)
    assert content["protocol"] == {"scale": "small", "seed": 1, "labels": "streets"}
    assert content["cells"] == [
        "spade", "spade_nib", "grayscale-published-none", "grayscale-published-symmetric", "resnet-none",
        "resnet-symmetric",
    ]  # fmt: skip
    table = tables_of(markdown)["A number per picture"]
    assert table[1:] == [[r["panel"], r["picture"], f"{r['number']:.2f} {r['unit']}"] for r in content["rows"]]
    (picture,) = page.images
    assert base64.b64decode(picture["src"].partition(",")[2]) == (out / "figure1.png").read_bytes()
    with Image.open(out / "figure1.png") as opened:
        assert opened.width > 4 * 288
        assert opened.height > 5 * 288


# --- what it trains, and bad input


def test_the_same_call_again_trains_nothing_and_draws_the_same(done, monkeypatch):
    monkeypatch.chdir(done[0])
    monkeypatch.setattr(cells, "_run", lambda *_: pytest.fail("trained again"))
    main(["reproduce", "figure1", *INPUTS, "--runs", "runs", "--out", "again", "--seeds", "1", "--home", "x"])
    assert (done[0] / "again" / "figure1.png").read_bytes() == (done[0] / "out" / "figure1.png").read_bytes()


def test_it_trains_the_networks_of_one_seed_that_are_missing(done, monkeypatch, capsys):
    monkeypatch.chdir(done[0])
    needed = ", ".join(f"of {table} also the cells {', '.join(names)}" for table, names in CELLS.items())
    given = (*INPUTS, "--runs", "fresh", "--out", "nowhere", "--seeds", "4,5")
    assert refused(capsys, *given, "--no-train", name="figure1") == f"figure1 needs {needed}: leave out --no-train"
    commands = []
    monkeypatch.setattr(cells, "_run", lambda command, lock: commands.append(command) or 1)
    sentence = refused(capsys, *given, name="figure1")
    assert [command[command.index("seed=4") + 1] for command in commands] == [
        "run_id=resnet-none-4", "run_id=resnet-symmetric-4", "run_id=grayscale-published-none-4",
        "run_id=grayscale-published-symmetric-4", "run_id=spade-4", "run_id=spade_nib-4",
    ]  # fmt: skip
    assert sentence.startswith(f"figure1 needs {needed}: resnet-none, seed 4: training ended with code 1")
    assert "spade_nib, seed 4: training ended with code 1" in sentence
    assert not Path("nowhere").exists()


def test_only_tables_with_missing_cells_are_named(done, monkeypatch):
    monkeypatch.chdir(done[0])
    missing = [job for job in jobs_of(done[0], runs=Path("fresh"))[1] if job.variant.name == "spade"][:1]
    options = Options(None, Path("out"), Path("runs"), train=False)
    drawn_cells.train_drawn("figure1", {"table1": study_jobs("table1")}, options)
    with pytest.raises(UserError, match=r"^figure1 needs of table2 also the cells spade: leave out --no-train$"):
        drawn_cells.train_drawn("figure1", {"table1": study_jobs("table1"), "table2": missing}, options)


def test_an_image_without_any_class_is_told(done, monkeypatch):
    monkeypatch.setattr(figure1, "draw_images", lambda *_: [Pictures("22", [("label map", torch.zeros(3, 8, 8))], [])])
    with pytest.raises(UserError, match=r"the label map of test image '22' is void everywhere.*--labels"):
        figure1.synthesis([], None)


@pytest.mark.parametrize(("option", "value"), [("--labels", "camvd"), ("--flat", "none"), ("--images", "none")])
def test_data_that_are_missing_are_told_before_training(done, monkeypatch, capsys, option, value):
    monkeypatch.chdir(done[0])
    monkeypatch.setattr(cells, "_run", lambda *_: pytest.fail("trained"))
    sentence = refused(capsys, *INPUTS, option, value, "--runs", "fresh", name="figure1")
    assert option in sentence
    assert value in sentence


@pytest.mark.parametrize("option", ["--cells", "--weights", "--segmenter", "--inception", "--vgg"])
def test_options_that_it_would_not_heed_are_refused(capsys, option):
    assert refused(capsys, option, "x", name="figure1") == f"{option} is not for figure1; leave it out"
