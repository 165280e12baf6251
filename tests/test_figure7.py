"""Figure 7 and the page of Table 3: tiny untrained pairs, their figures against independent ones."""

import base64
import io
import json
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import clean_process, draw
from omegaconf import OmegaConf
from PIL import Image
from test_study_pages import Page, row_of, tables_of

from nibkit import __version__
from nibkit.cli import main
from nibkit.config import load_config
from nibkit.grayscale_pictures import grayscale_pictures
from nibkit.registry import build_backbone
from nibkit.reproduce import Options, cells, collect, figure7, study_pictures
from nibkit.reproduce.studies import STUDIES
from nibkit.reproduce.study import make_jobs

TINY = ("backbone.encoder.width=4", "backbone.decoder.width=2", "data.crop_size=32", "data.batch_size=2",
        "data.test_crop=64", "data.num_workers=0", "trainer.max_steps=2", "trainer.accelerator=cpu")  # fmt: skip
STANDARD = ("published pair, standard", "residual pair, standard")
PATCH = 24 + 2 * 80  # pixels, of which 24 are judged
OPTIONS = ("--images", "photos", "--flat", "flat", "--runs", "runs", "--no-train")


def save_cell(cell):
    """Put an untrained pair and made-up figures where a finished training would have its own; return the pair."""
    config = load_config(cell.settings)
    parts = {key: OmegaConf.to_container(config[key], resolve=True) for key in ("backbone", "nib")}
    torch.manual_seed(0)
    network = build_backbone(parts["backbone"], parts["nib"])
    (cell.folder / "checkpoints").mkdir(parents=True)
    state = {f"backbone.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"hyper_parameters": parts, "state_dict": state}, cell.checkpoint)
    (cell.folder / "config.yaml").write_text("first_step: 0\n")
    (cell.folder / "environment.json").write_text(json.dumps({"versions": {"nibkit": __version__}}))
    study, level = STUDIES["table3"], 20 + cell.name.endswith("-symmetric")
    of_images = {image: dict.fromkeys(study.figures, level + image / 8) for image in range(2)}
    (cell.folder / "images.json").write_text(json.dumps({"photo": of_images, "comic": of_images}))
    pooled = {"test/psnr_pooled": level - 5.0, "test/comic/psnr_pooled": level - 2 * (level - 13.0)}
    flat = {f"test/{name}": 3.0 + index for index, name in enumerate(study.gray_figures)}
    (cell.folder / "metrics.json").write_text(json.dumps(pooled | flat))
    return network.eval()


@pytest.fixture(scope="module", autouse=True)
def _small():
    """Leave the variants out that are not drawn; narrow the others; compose each configuration once."""
    with pytest.MonkeyPatch.context() as patch:
        table3 = STUDIES["table3"]
        assert tuple(variant.name for variant in table3.variants[:5]) == figure7.VARIANTS
        small = replace(table3, variants=table3.variants[:5], scales={"small": TINY}, narrow={})
        patch.setitem(STUDIES, "table3", small)
        for module in (cells, collect, study_pictures):
            patch.setattr(module, "load_config", cache(load_config))
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of finished calls, and the five pairs by title."""
    home = tmp_path_factory.mktemp("figure7")
    for index, name in enumerate(["photos/train"] * 4 + ["photos/val"] * 3 + ["flat"] * 2):
        (home / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(index, 100, 110, 3)).save(home / name / f"{index}.png")
    gray = np.repeat(draw(9, 100, 110)[..., None], 3, axis=2)
    Image.fromarray(gray).save(home / "flat" / "0.png")  # the first by name, without any colour
    with clean_process(home):
        options = Options(Path("photos"), Path("out"), Path("runs"), seeds=(0,), flat=Path("flat"))
        pairs = {job.variant.title: save_cell(job.cell) for job in make_jobs(STUDIES["table3"], options)}
        main(["reproduce", "figure7", *OPTIONS, "--out", "out", "--seeds", "0,1"])
        main(["reproduce", "table3", *OPTIONS, "--out", "out", "--seeds", "0"])
    return home, pairs


def content_of(done, name="figure7"):
    return json.loads((done[0] / "out" / f"{name}.json").read_text())


def rows_of(done, name):
    return {row["network"]: row for row in content_of(done)["rows"] if row["input"] == name}


def chart():
    """The chart, drawn anew: ``[H, W, 3]`` of 8 bit, and the slices of its middles."""
    image, places = np.zeros((2 * PATCH, 4 * PATCH, 3), dtype=np.uint8), []
    for index, (down, across) in enumerate(product(range(2), range(4))):
        top, left = down * PATCH, across * PATCH
        image[top : top + PATCH, left : left + PATCH] = figure7.COLOURS[index]
        places.append((slice(top + 80, top + 104), slice(left + 80, left + 104)))
    return image, places


@torch.no_grad()
def through(pair, image):
    """What a pair makes of ``[H, W, 3]`` of 8 bit, in levels: the gray ``[H, W]`` of 8 bit, and the restored image."""
    gray = pair.encoder(torch.from_numpy(image / 127.5 - 1).float().permute(2, 0, 1)[None])[0, 0].double().numpy()
    gray = np.rint((gray.clip(-1, 1) + 1) * 127.5)
    restored = pair.decoder(torch.from_numpy(gray / 127.5 - 1).float()[None, None])[0].permute(1, 2, 0).numpy()
    return gray, (restored.clip(-1, 1).astype(float) + 1) * 127.5


def decibel(image, other):
    return -10 * np.log10((((image.astype(float) - other) / 255) ** 2).mean())


# --- the chart


def test_the_chart_has_constant_colours_of_8_bit():
    image, places = chart()
    found = ((figure7.chart().permute(1, 2, 0).numpy() + 1) * 127.5).round(3)
    np.testing.assert_array_equal(found, image)
    middles = figure7.middles(figure7.chart())
    for middle, place in zip(middles, places, strict=True):
        np.testing.assert_allclose((middle.permute(1, 2, 0) + 1) * 127.5, image[place], atol=1e-3)


def test_no_pair_sees_from_a_middle_to_the_next_patch(done):
    """Whatever the other patches are, what is judged of one is the same."""
    image, places = chart()
    alone = np.random.default_rng(0).integers(0, 256, image.shape, dtype=np.uint8)
    alone[:PATCH, PATCH : 2 * PATCH] = image[:PATCH, PATCH : 2 * PATCH]
    for pair in done[1].values():
        for whole, part in zip(through(pair, image), through(pair, alone), strict=True):
            np.testing.assert_allclose(whole[places[1]], part[places[1]], atol=1e-3)
            assert np.abs(whole[places[2]] - part[places[2]]).max() > 0.1
        assert pair.encoder.extension() + pair.decoder.extension() <= 80


# --- figures


def test_a_standard_pair_has_no_texture_on_constant_colours_and_one_with_nib_has(done):
    for network, row in rows_of(done, "constant colours").items():
        deviations = [colour["flat_gray_std"] for colour in row["colours"]]
        assert [colour["colour"] for colour in row["colours"]] == [list(colour) for colour in figure7.COLOURS]
        assert max(deviations) == 0 if network in STANDARD else min(deviations) > 0.1


def test_figures_of_constant_colours_are_those_of_the_middles(done):
    image, places = chart()
    light = image @ [0.299, 0.587, 0.114]
    for network, row in rows_of(done, "constant colours").items():
        gray, restored = through(done[1][network], image)
        errors = [np.abs(restored[place] - image[place]).mean() for place in places]
        deviations = [gray[place].std() for place in places]
        for colour, error, deviation in zip(row["colours"], errors, deviations, strict=True):
            assert colour["flat_error"] == pytest.approx(error, abs=1e-2)
            assert colour["flat_gray_std"] == pytest.approx(deviation, abs=1e-2)
        assert row["flat_error"] == pytest.approx(np.mean(errors), abs=1e-2)
        assert row["flat_error_worst"] == pytest.approx(max(errors), abs=1e-2)
        assert row["flat_gray_std"] == pytest.approx(np.mean(deviations), abs=1e-2)
        middles = [np.stack([each[place] for place in places]) for each in (image, restored, light, gray)]
        assert row["psnr"] == pytest.approx(decibel(*middles[:2]), abs=1e-2)
        assert row["gray_psnr"] == pytest.approx(decibel(*middles[2:]), abs=1e-2)


@pytest.mark.parametrize(("name", "folder"), [("photo", "photos/val"), ("flat material", "flat")])
def test_figures_of_images_are_those_of_the_crop_with_most_colour(done, name, folder):
    images = [np.asarray(Image.open(path)) for path in sorted((done[0] / folder).glob("*.png"))]
    if name == "photo":
        top, left = (100 - 96) // 2, (110 - 96) // 2
        crops = [image[top : top + 96, left : left + 96] for image in images]
        crop = max(crops, key=lambda crop: (crop.max(axis=2) - crop.min(axis=2)).mean())
    else:  # its place depends on what is flat, but one of the two images has no colour at all
        places = product(range(0, 100 - 96 + 1, 8), range(0, 110 - 96 + 1, 8))
        crops = [images[1][top : top + 96, left : left + 96] for top, left in places]
        wanted = rows_of(done, name)["published pair, standard"]["psnr"]
        pair = done[1]["published pair, standard"]
        crop = min(crops, key=lambda crop: abs(decibel(crop, through(pair, crop)[1]) - wanted))
    for network, row in rows_of(done, name).items():
        gray, restored = through(done[1][network], crop)
        assert row["psnr"] == pytest.approx(decibel(crop, restored), abs=1e-2)
        assert row["gray_psnr"] == pytest.approx(decibel(crop @ [0.299, 0.587, 0.114], gray), abs=1e-2)


def test_the_text_compares_each_network_with_its_standard_one(done):
    text, rows = (done[0] / "out" / "figure7.md").read_text(), rows_of(done, "constant colours")
    compared = {network: row["reference"] for network, row in rows.items() if row["reference"]}
    assert compared.keys() == rows.keys() - set(STANDARD)
    for network, reference in compared.items():
        assert network.partition(",")[0] == reference.partition(",")[0]
        mine, other = (f"{rows[title]['flat_error']:.1f} levels" for title in (network, reference))
        assert f"{network}: off by {mine}, against {other} of {reference}." in text
    table = tables_of(text)["Constant colours"]
    for network, row in rows.items():
        close = sum(colour["flat_error"] <= 10 for colour in row["colours"])
        assert row_of(table, network)["within 10 levels"] == f"{close} of 8"


def test_files_agree(done):
    out = done[0] / "out"
    assert {path.name for path in out.glob("figure7.*")} == set(figure7.FILES)
    page, content = Page((out / "figure7.html").read_text()), content_of(done)
    assert content["cells"] == [variant.cell for variant in STUDIES["table3"].variants]
    assert content["protocol"] == {"scale": "small", "seed": 0}
    assert page.tables == tables_of((out / "figure7.md").read_text())
    assert len(page.tables["Restored colours and gray"]) == 1 + 3 * 5
    (picture,) = page.images
    assert base64.b64decode(picture["src"].partition(",")[2]) == (out / "figure7.png").read_bytes()
    with Image.open(out / "figure7.png") as opened:
        assert opened.width > 6 * 2 * 96  # the image and five networks
        assert opened.height > 4 * (2 * 2 * 96 + 2 * 48)


# --- pictures


def test_pictures_of_a_gray_that_hides_nothing_and_of_one_that_does():
    image = torch.full((3, 4, 4), 0.2)
    light = torch.full((1, 4, 4), 0.2)
    _, gray, texture, restored, error = (picture for _, picture in grayscale_pictures(image, light, image))
    for picture in (gray, texture, restored):
        torch.testing.assert_close(picture, torch.full_like(picture, 0.2))
    assert error.unique().numel() < 4  # black, a colour
    texture = grayscale_pictures(image, light + 0.05, image)[2][1]
    torch.testing.assert_close(texture, torch.full_like(texture, 0.6))
    texture = grayscale_pictures(image, light - 0.5, image)[2][1]
    torch.testing.assert_close(texture, torch.full_like(texture, -1.0))
    brightest = [grayscale_pictures(image, light, image + off)[4][1] for off in (0.2, 0.5)]  # 10 % of white and more
    torch.testing.assert_close(*brightest)
    assert brightest[0].mean() > 0.5 > error.mean()


def test_the_page_of_table3_shows_what_each_pair_makes_of_one_crop_per_set(done):
    page = Page((done[0] / "out" / "table3.html").read_text())
    assert page.tables == tables_of((done[0] / "out" / "table3.md").read_text())
    _, *sheets = [base64.b64decode(image["src"].partition(",")[2]) for image in page.images]
    assert len(sheets) == 2
    for sheet in sheets:
        with Image.open(io.BytesIO(sheet)) as opened:
            assert 4 * 3 * 96 < opened.width < 5 * 3 * 96  # gray, texture, colours, error
            assert 6 * 3 * 96 < opened.height < 8 * 3 * 96  # the original and five networks
            pixels = np.asarray(opened.convert("RGB")).astype(int)
        assert np.ptp(pixels[:360, :320], axis=2).max() > 60  # the crop that has colours


def test_the_page_of_table3_has_constant_colours_and_pooled_figures_of_whole_sets(done):
    tables = tables_of((done[0] / "out" / "table3.md").read_text())
    assert "Constant grays" not in tables
    colours = tables["Constant colours"]
    assert row_of(colours, "residual pair, NIB") == {
        "variant": "residual pair, NIB", "error, levels": "3.0", "error of the worst colour, levels": "4.0",
        "deviation of the gray, levels": "5.00",
    }  # fmt: skip
    for title, pooled, difference in (("photos: photos", "16.00", "+1.00"), ("flat material: flat", "5.00", "-1.00")):
        others = tables[f"Other figures, {title}"]
        # as each run says of its whole test; the images' own, 21.00 and 21.12, have another mean
        nib = next(row for row in others if row[0] == "residual pair, NIB")
        assert nib[1:3] == [pooled, difference]
        assert row_of(others, "residual pair, NIB")["PSNR of the gray, dB"] == "21.06"


# --- what it trains, and bad input


def refused(capsys, *options):
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "figure7", *options])
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1].removeprefix("nibkit reproduce: error: ")


def test_it_trains_the_pairs_of_one_seed_that_are_missing(done, monkeypatch, capsys):
    images = ("--images", f"{done[0]}/photos", "--flat", f"{done[0]}/flat", "--runs", "runs", "--seeds", "4,5")
    assert refused(capsys, *images, "--no-train") == (
        "figure7 needs of table3 also the cells published, published_nib, resnet, resnet_nib, resnet_nib_both: "
        "leave out --no-train"
    )
    commands = []
    monkeypatch.setattr(cells, "_run", lambda command, lock: commands.append(command) or 1)
    sentence = refused(capsys, *images)
    wanted = [f"run_id={variant.cell}-4" for variant in STUDIES["table3"].variants]
    assert [command[command.index("seed=4") + 1] for command in commands] == wanted
    assert "grayscale-published-none, seed 4: training ended with code 1" in sentence
    assert not Path("results").exists()


@pytest.mark.parametrize("option", ["--cells", "--weights"])
def test_options_that_it_would_not_heed_are_refused(capsys, option):
    assert refused(capsys, option, "resnet") == f"{option} is not for figure7; leave it out"
