"""Figure 3: features of two untrained networks, their deviations against independent ones; and the probe."""

import base64
import json
import shutil
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import clean_process, draw
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter
from test_study_pages import Page, tables_of
from torch import nn
from torch.nn import functional as F

from nibkit import __version__
from nibkit.cli import main
from nibkit.config import load_config
from nibkit.probe import convolutions, enlarge, first_channels, inner, spread_over
from nibkit.registry import build_backbone
from nibkit.reproduce import Options, cells, figure3, study_pictures
from nibkit.reproduce.studies import STUDIES
from nibkit.reproduce.study import make_jobs

CELLS = ("resnet-none", "resnet-symmetric")
LAYERS = {
    "layer 4": "blocks.1.conv1",
    "layer 10": "blocks.4.conv1",
    "layer 16": "blocks.7.conv1",
}  # the first is the stem


def save_cell(cell, seed=0):
    """Put an untrained network where a finished training would have its own."""
    config = load_config(cell.settings)
    parts = {key: dict(config[key]) for key in ("backbone", "nib")}
    torch.manual_seed(seed)
    network = build_backbone(parts["backbone"], parts["nib"])
    (cell.folder / "checkpoints").mkdir(parents=True)
    state = {f"backbone.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"hyper_parameters": parts, "state_dict": state}, cell.checkpoint)
    (cell.folder / "config.yaml").write_text("first_step: 0\n")
    (cell.folder / "environment.json").write_text(json.dumps({"versions": {"nibkit": __version__}}))
    for name in ("metrics.json", "images.json"):
        (cell.folder / name).write_text('{"photo": {}}')
    return network.eval()


@pytest.fixture(scope="module", autouse=True)
def _small():
    """Leave the variants out that are not drawn; compose each configuration once."""
    with pytest.MonkeyPatch.context() as patch:
        table1 = STUDIES["table1"]
        assert tuple(variant.name for variant in table1.variants[:2]) == figure3.VARIANTS
        patch.setitem(STUDIES, "table1", replace(table1, variants=table1.variants[:3]))
        for module in (cells, study_pictures):
            patch.setattr(module, "load_config", cache(load_config))
        yield


def run(home, *options):
    main(["reproduce", "figure3", "--images", f"{home}/photos", "--seeds", "0,1", *options])


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a finished call, and its two networks."""
    home = tmp_path_factory.mktemp("figure3")
    (home / "photos").mkdir()
    for index in range(4):
        Image.fromarray(draw(index, 90, 70)).save(home / "photos" / f"{index}.png")
    with clean_process(home):
        jobs = make_jobs(STUDIES["table1"], Options(home / "photos", Path("out"), Path("runs"), seeds=(0,)))
        networks = [save_cell(job.cell) for job in jobs if job.variant.name in figure3.VARIANTS]
        run(home, "--runs", "runs", "--out", "out", "--no-train")
    return home, networks


def disc():
    """The input, drawn anew, and where it is more than 29 pixels outside the disc."""
    y, x = np.mgrid[:160, :160] - 79.5
    distance = np.sqrt(y**2 + x**2)
    return np.where(distance < 32, 0.4, -0.3).astype(np.float32), distance > 32 + 29


def test_the_disc_is_out_of_sight():
    """The network, which sees 41x41 pixels, sees one gray at each place that is judged."""
    image, far = disc()
    np.testing.assert_array_equal(figure3.disc()[0].numpy(), image)
    np.testing.assert_array_equal(figure3.far_from_edge().numpy(), far)
    assert far.sum() > 160**2 / 2
    seen = maximum_filter(image, 41, mode="nearest") - minimum_filter(image, 41, mode="nearest")
    assert seen[far].max() == 0
    assert seen.max() > 0


def test_the_standard_network_is_flat_and_that_with_nib_is_not(done):
    home, _ = done
    content = json.loads((home / "out" / "figure3.json").read_text())
    assert content["cells"] == list(CELLS)
    flat = {row["network"]: row["deviations"] for row in content["rows"] if row["input"] != "photo"}
    assert list(flat["ResNet, standard"]) == [*LAYERS, "halftone"]
    assert all(0 <= value < 1e-5 for value in flat["ResNet, standard"].values())
    assert all(flat["ResNet, NIB"][layer] > 1e-2 for layer in LAYERS)
    textured = [row["deviations"] for row in content["rows"] if row["input"] == "photo"]
    assert len(textured) == 2
    assert all(values[layer] > 1e-2 for values in textured for layer in LAYERS)


def test_deviations_are_those_of_the_named_convolutions(done):
    """The same network, its convolutions by name; a plane is cut in its middle to the image's size."""
    home, (_, network) = done
    image, far = disc()
    planes = {}
    for layer, name in LAYERS.items():
        keep = partial(planes.__setitem__, layer)
        network.get_submodule(name).register_forward_hook(lambda m, i, output, keep=keep: keep(output[0, 0].clone()))
    with torch.no_grad():
        answer = network(torch.from_numpy(image)[None, None])[0, 0].numpy()
    content = json.loads((home / "out" / "figure3.json").read_text())
    (found,) = [r["deviations"] for r in content["rows"] if r["network"] == "ResNet, NIB" and r["input"] != "photo"]
    for layer, plane in planes.items():
        margin = (plane.shape[0] - 160) // 2
        middle = plane.numpy()[margin : margin + 160, margin : margin + 160]
        assert found[layer] == pytest.approx(middle[far].std(ddof=1), rel=1e-4)
    assert found["halftone"] == pytest.approx(np.where(answer > 0, 1.0, -1.0)[far].std(ddof=1), abs=1e-6)


def test_a_photo_that_is_smaller_is_repeated(done):
    home, _ = done
    (job, *_) = make_jobs(STUDIES["table1"], Options(home / "photos", Path("out"), Path("runs"), seeds=(0,)))
    photo = figure3._photo(job)
    assert photo.shape == (1, 160, 160)
    assert torch.equal(photo[:, :70, :70], photo[:, 90:, 70:140])  # of 90x70 pixels
    assert photo.std() > 0.1


def test_files_agree(done):
    out = done[0] / "out"
    assert sorted(path.name for path in out.iterdir()) == sorted(figure3.FILES)
    page, content = Page((out / "figure3.html").read_text()), json.loads((out / "figure3.json").read_text())
    assert page.tables == tables_of((out / "figure3.md").read_text())
    (table,) = page.tables.values()
    assert table[0] == ["input", "network", *LAYERS, "halftone"]
    assert table[1:] == [
        [row["input"], row["network"], *(f"{value:.1e}" for value in row["deviations"].values())]
        for row in content["rows"]
    ]
    (picture,) = page.images
    assert base64.b64decode(picture["src"].partition(",")[2]) == (out / "figure3.png").read_bytes()
    with Image.open(out / "figure3.png") as opened:
        assert min(opened.size) > 4 * 160  # four rows of pictures


# --- what it trains, and bad input


def refused(capsys, *options):
    with pytest.raises(SystemExit) as stop:
        run(*options)
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1].removeprefix("nibkit reproduce: error: ")


def test_it_needs_both_networks_of_one_seed(done, monkeypatch, capsys):
    assert refused(capsys, done[0], "--runs", "runs", "--out", "out", "--no-train") == (
        "figure3 needs of table1 also the cells resnet, resnet_nib: leave out --no-train"
    )
    commands = []
    monkeypatch.setattr(cells, "_run", lambda command, lock: commands.append(command) or 1)
    sentence = refused(capsys, done[0], "--runs", "runs", "--out", "out")
    assert [command[command.index("seed=0") + 1] for command in commands] == [f"run_id={cell}-0" for cell in CELLS]
    assert sentence.startswith(
        "figure3 needs of table1 also the cells resnet, resnet_nib: resnet-none, seed 0: training ended with code 1"
    )
    assert not Path("out").exists()


def test_results_of_another_version_are_refused(done, capsys):
    home, _ = done
    shutil.copytree(home / "out", "out")
    (Path("out") / "table1.json").write_text('{"versions": {"nibkit": "0.0.1"}}')  # is not written here
    run(home, "--runs", str(home / "runs"), "--out", "out", "--no-train")
    content = json.loads(Path("out/figure3.json").read_text())
    content["versions"]["nibkit"] = "0.0.1"
    Path("out/figure3.json").write_text(json.dumps(content))
    sentence = refused(capsys, home, "--runs", str(home / "runs"), "--out", "out", "--no-train")
    assert sentence.startswith("'out/figure3.json' is of nibkit 0.0.1, this is ")


# --- the probe


class Pair(nn.Module):
    """Two convolutions with something else between them, the later one defined first."""

    def __init__(self):
        super().__init__()
        self.second = nn.Conv2d(3, 2, 3)
        self.first = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.ReLU())

    def forward(self, image):
        if image.shape[1] != 1:
            raise ZeroDivisionError
        return self.second(self.first(image))


def test_convolutions_are_in_the_order_they_are_defined():
    network = Pair()
    assert convolutions(network) == [("second", network.second), ("first.0", network.first[0])]


def test_first_channels_and_no_hook_stays():
    torch.manual_seed(0)
    network, image = Pair(), torch.rand(1, 1, 20, 20)
    wanted = F.conv2d(image, network.first[0].weight, network.first[0].bias, stride=2)
    features = dict(first_channels(network, image, [1, 0]))
    assert features.keys() == {"first.0", "second"}
    torch.testing.assert_close(features["first.0"], wanted[0, 0].detach())  # before the ReLU, which is no convolution
    torch.testing.assert_close(features["second"], network(image)[0, 0].detach())
    assert not features["second"].requires_grad
    assert list(dict(first_channels(network, image, [1]))) == ["first.0"]
    with pytest.raises(ZeroDivisionError):
        first_channels(network, torch.rand(1, 3, 20, 20), [0, 1])
    assert not any(module._forward_hooks for module in network.modules())


def test_spread_over():
    assert spread_over(5, 22) == [0, 5, 10, 16, 21]
    assert spread_over(3, 3) == [0, 1, 2]
    assert spread_over(1, 9) == [0]


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("cut", [0, 3])
def test_inner_is_where_the_image_is(stride, cut):
    """A plane of positions in the image: of an image of 64 pixels, extended by 24, less a convolution's border."""
    positions = torch.arange(-24, 64 + 24, stride)[cut : None if cut == 0 else -cut]
    plane = positions[:, None] * 1000 + positions[None, :]
    part = inner(plane, 64, 64 + 2 * 24)
    wanted = torch.arange(0, 64, stride)
    assert torch.equal(part, wanted[:, None] * 1000 + wanted[None, :])


def test_enlarge_repeats_pixels():
    plane = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert enlarge(plane, 5).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert torch.equal(enlarge(plane, 1), plane)
