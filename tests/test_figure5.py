"""``nibkit reproduce figure5``: restored images instead of halftones; one tiny training per variant."""

import base64
import functools
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import clean_process, draw
from PIL import Image
from test_studies import TINY
from test_study_pages import Page, tables_of

from nibkit.cli import main
from nibkit.config import load_config
from nibkit.registry import build_backbone
from nibkit.reproduce import cells, collect, study_pictures
from nibkit.reproduce.studies import STUDIES

CELLS = {"plain": "autoencoder-none", "additive": "autoencoder-additive"}
SIZES = (40, 37)  # of the images: no multiple of the latent's resolution


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a finished call of two variants: ``photos``, ``flat``, ``runs``, ``out``."""
    home, figure5 = tmp_path_factory.mktemp("figure5"), STUDIES["figure5"]
    for index, name in enumerate(["photos/train"] * 4 + ["photos/val"] * 2 + ["flat"] * 2):
        (home / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(index, *SIZES, 3)).save(home / name / f"{index}.png")
    with clean_process(home), pytest.MonkeyPatch.context() as patch:
        tiny = {"small": (*TINY, "backbone.latent=2")}
        patch.setitem(STUDIES, "figure5", replace(figure5, variants=figure5.variants[:2], scales=tiny))
        for module in (cells, collect, study_pictures):
            patch.setattr(module, "load_config", functools.cache(load_config))
        main(["reproduce", "figure5", "--images", "photos", "--flat", "flat", "--runs", "runs", "--out", "out",
              "--seeds", "0", "--launcher", "basic"])  # fmt: skip
    return home


def restored(home, name, image):
    """What a variant's network gives back, ``[H, W, 3]`` in [0, 1]."""
    (folder,) = home.glob(f"runs/{CELLS[name]}/seed0-*/")
    stored = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    network = build_backbone(stored["hyper_parameters"]["backbone"], stored["hyper_parameters"]["nib"]).eval()
    network.load_state_dict({key.removeprefix("backbone."): t for key, t in stored["state_dict"].items()})
    with torch.no_grad():
        answer = network(torch.from_numpy(image * 2 - 1).float().permute(2, 0, 1)[None])[0]
    return (answer.permute(1, 2, 0).numpy().clip(-1, 1) + 1) / 2


def test_psnr_is_that_of_the_checkpoints_image(done):
    content = json.loads((done / "out" / "figure5.json").read_text())
    for row in content["rows"]:
        for label, paths in (("photo", done.glob("photos/val/*.png")), ("comic", done.glob("flat/*.png"))):
            originals = [np.asarray(Image.open(path)) / 255 for path in paths]
            errors = [((restored(done, row["name"], image) - image) ** 2).mean() for image in originals]
            wanted = np.mean(-10 * np.log10(errors))
            assert row["images"][label]["psnr"]["mean"] == pytest.approx(wanted, abs=1e-3)
        assert row["grays"]["flat_psnr"]["n"] == 1
    assert [row["paper"] for row in content["rows"]] == [{"photo": 47.95}, {"photo": 35.54}]
    plain, additive = (row["images"]["photo"]["psnr"]["mean"] for row in content["rows"])
    assert content["rows"][1]["difference"]["photo"]["psnr"]["mean"] == pytest.approx(additive - plain)


def test_the_page_shows_what_is_restored_and_its_error(done):
    page = Page((done / "out" / "figure5.html").read_text())
    assert page.tables == tables_of((done / "out" / "figure5.md").read_text())
    plot, *sheets = [base64.b64decode(image["src"].partition(",")[2]) for image in page.images]
    assert plot == (done / "out" / "figure5.png").read_bytes()
    assert len(sheets) == 2
    for sheet in sheets:
        with Image.open(io.BytesIO(sheet)) as opened:
            height, width = (study_pictures.TIMES * side for side in SIZES)
            assert opened.width > 4 * width  # of two images each what is restored, and its error
            assert opened.height > 3 * height
            assert opened.convert("RGB").getcolors(256) is None


def test_the_runs_say_what_was_trained(done):
    for cell, form in (("autoencoder-none", "none"), ("autoencoder-additive", "additive")):
        (folder,) = Path(done, "runs", cell).glob("seed0-*/")
        assert f"form: {form}" in (folder / "config.yaml").read_text()
