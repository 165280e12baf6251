"""``nibkit reproduce table4``: its figures against independent ones, what it keeps, and bad input."""

import json
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from conftest import TINY, as_nobody, clean_process, draw
from matplotlib.figure import Figure
from PIL import Image
from scipy.ndimage import gaussian_filter
from test_dither import save_network

from nibkit.cli import main
from nibkit.errors import UserError
from nibkit.reproduce import cells, evaluate, judge, table4
from nibkit.reproduce.cells import make_cell, train
from nibkit.reproduce.judge import constant_gray, image_input
from nibkit.reproduce.methods import classical_method, network_method

LEVELS = (58 / 255, 193 / 255)
FILES = ["table4.json", "table4.md", "table4.png", "table4_blowups.png"]


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    shrink(monkeypatch)


def shrink(patch):
    """Make the experiment small: two grays of one crop, a small mask, two of Pang's weights."""
    patch.setattr(judge, "GRAY_SIDE", 128)
    patch.setattr(judge, "SPECTRUM_LEVELS", LEVELS)
    patch.setattr(table4, "MASK", 32)
    patch.setattr(table4, "TONE_WEIGHTS", (0.98, 0.99))


def make_images(folder, count=3):
    folder.mkdir()
    for index in range(count):
        Image.fromarray(draw(index, 40 + index, 52 - index)).save(folder / f"{index}.png")


def run(*options, images="photos"):
    main(["reproduce", "table4", "--images", str(images), *map(str, options)])


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a finished call, without training: ``photos``, ``net.safetensors``, ``out``, ``runs``."""
    home = tmp_path_factory.mktemp("done")
    make_images(home / "photos")
    save_network(home / "net.safetensors")
    with clean_process(home), pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        run("--out", "out", "--runs", "runs", "--no-train", "--weights", "net.safetensors", "--seeds", "0")
    return home


def rows(folder):
    content = json.loads((folder / "table4.json").read_text())
    return {row["name"]: row for row in content["rows"]}


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave the drawing out, where it is not what is tested."""
    monkeypatch.setattr(table4, "draw_frontier", lambda content: Figure())
    monkeypatch.setattr(table4, "draw_blowups", lambda methods, images, runs: Image.new("1", (1, 1)))


def halftone(done, index, *options):
    """Return image and halftone ``[H, W]`` in [0, 1], as ``nibkit dither`` writes it."""
    main(["dither", str(done / "photos" / f"{index}.png"), "halftone.png", *options])
    gray = np.asarray(Image.open(done / "photos" / f"{index}.png")) / 255
    return gray, np.asarray(Image.open("halftone.png")).astype(np.float64)


def independent(gray, dots):
    """Return PSNR at both widths and SSIM by scipy."""
    errors = [gaussian(dots - gray, sigma) for sigma in (1.5, 2.0)]
    u, v = gaussian(dots), gaussian(gray)
    squares, product = gaussian(dots**2 + gray**2) - u**2 - v**2, gaussian(dots * gray) - u * v
    ssim = (2 * u * v + 1e-4) * (2 * product + 9e-4) / ((u**2 + v**2 + 1e-4) * (squares + 9e-4))
    return [*(-10 * np.log10((error**2).mean()) for error in errors), ssim.mean()]


def gaussian(plane, sigma=1.5):
    return gaussian_filter(plane, sigma, mode="mirror", radius=5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ostromoukhov", ["--method", "ostromoukhov"]),
        ("dbs_1.0_white_noise", ["--method", "dbs", "--set", "sigma=1.0", "--set", "start=white_noise"]),
        ("given_net", ["--weights", "NET"]),
    ],
)
def test_figures_of_images(done, name, options):
    options = [str(done / "net.safetensors") if option == "NET" else option for option in options]
    figures = np.array([independent(*halftone(done, index, *options)) for index in range(3)])
    found = rows(done / "out")[name]
    for column, figure in zip(figures.T, ("psnr_sigma1.5", "psnr_sigma2.0", "ssim"), strict=True):
        assert found["images"][figure]["mean"] == pytest.approx(column.mean(), abs=2e-4)
        assert found["images"][figure]["sd"] == pytest.approx(column.std(ddof=1), abs=2e-4)
        assert found["images"][figure]["n"] == 3
        assert found["figures"][figure] == {"mean": found["images"][figure]["mean"], "sd": None, "n": 1}


def test_paired_differences(done):
    method, reference = (
        np.array([independent(*halftone(done, index, "--method", name)) for index in range(3)])
        for name in ("floyd_steinberg", "ostromoukhov")
    )
    found = rows(done / "out")["floyd_steinberg"]["minus_ostromoukhov"]
    for column, figure in zip((method - reference).T, ("psnr_sigma1.5", "psnr_sigma2.0", "ssim"), strict=True):
        assert found[figure]["mean"] == pytest.approx(column.mean(), abs=2e-4)
        assert found[figure]["standard_error"] == pytest.approx(column.std(ddof=1) / 3**0.5, abs=2e-4)


def test_figures_of_constant_grays(done):
    """Tone and spectrum of the two grays, reckoned anew: one crop of 128x128 each."""
    ratios, rings, tones = [], [], []
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    ring = np.rint(frequency * 128)
    for level in LEVELS:
        Image.fromarray(np.full((128, 128), round(level * 255), dtype=np.uint8)).save("gray.png")
        main(["dither", "gray.png", "dots.png", "--method", "ostromoukhov"])
        dots = np.asarray(Image.open("dots.png")).astype(np.float64)
        power = abs(np.fft.fft2(dots - dots.mean())) ** 2 / 128**2
        low = (frequency > 0) & (frequency < min(np.sqrt(min(level, 1 - level)), 0.5) / 2)
        ratios.append(power[low].mean() / (level * (1 - level)))
        spread = [power[ring == r].var(ddof=1) / power[ring == r].mean() ** 2 for r in range(2, 64)]
        rings.append(10 * np.log10(np.mean(spread)))
        tones.append(abs(dots.mean() - level))
    figures = rows(done / "out")["ostromoukhov"]["figures"]
    wanted = {
        "low_frequency_ratio": np.mean(ratios), "low_frequency_ratio_worst": max(ratios),
        "anisotropy_db": np.mean(rings), "anisotropy_db_worst": max(rings), "tone_error": np.mean(tones),
        "dotted_levels": 1.0,
    }  # fmt: skip
    for name, value in wanted.items():
        assert figures[name]["mean"] == pytest.approx(value, rel=1e-6), name
    assert 0 < figures["seconds_per_megapixel"]["mean"] < 100


def test_files_and_the_papers_figures(done):
    assert sorted(path.name for path in (done / "out").iterdir()) == FILES
    for name in FILES[2:]:
        with Image.open(done / "out" / name) as picture:
            assert min(picture.size) > 500
    lines = (done / "out" / "table4.md").read_text().splitlines()
    for start, figures in {
        "Ostromoukhov": "39.935 | 0.2425", "Pang, tone weight 0.98": "34.987 | 0.3032",
        "trained: NIB, no L_B (not trained)": "37.392 | 0.2728", "trained: NIB, L_B (not trained)": "36.434 | 0.3078",
    }.items():  # fmt: skip
        line = next(line for line in lines if line.startswith(f"| {start} "))
        assert " | ".join(cell.strip() for cell in line.split("|")[-3:-1]) == figures
    assert any("different image sets cannot be compared" in line for line in [" ".join(lines)])
    assert rows(done / "out")["without_nib"]["note"] == "0 of 1 seeds trained"


def copy(done, *names):
    for name in names:
        source = done / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, name)


def test_a_second_call_measures_nothing(done, monkeypatch, capsys):
    copy(done, "photos", "net.safetensors", "runs")
    monkeypatch.setattr(evaluate, "measure", mock.Mock(side_effect=AssertionError))
    monkeypatch.setattr(evaluate, "write_bits", mock.Mock(side_effect=AssertionError))
    run("--out", "again", "--runs", "runs", "--no-train", "--weights", "net.safetensors", "--seeds", "0")
    for name in FILES:
        assert Path("again", name).read_bytes() == (done / "out" / name).read_bytes()
    assert capsys.readouterr().out.strip() == (done / "out" / "table4.md").read_text().strip()


@pytest.mark.usefixtures("no_pictures")
def test_fewer_images_are_a_part_of_the_same(done, monkeypatch):
    copy(done, "photos", "runs")
    monkeypatch.setattr(evaluate, "measure", mock.Mock(side_effect=AssertionError))
    run("--out", "again", "--runs", "runs", "--no-train", "--limit", "1", "--seeds", "0")
    found = rows(Path("again"))["pang_0.99"]
    assert found["images"]["ssim"]["n"] == 1
    assert found["images"]["ssim"]["sd"] is None
    assert found["minus_ostromoukhov"]["ssim"]["standard_error"] is None


@pytest.mark.usefixtures("no_pictures")
def test_a_killed_call_goes_on(done, monkeypatch):
    copy(done, "photos")
    for name in ("_search_rows", "_pang_rows", "_shipped_rows"):
        monkeypatch.setattr(table4, name, list)
    measure, calls = judge.measure, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 13:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(evaluate, "measure", interrupted)
    with pytest.raises(SystemExit) as stop:
        run("--out", "out", "--runs", "runs", "--no-train", "--seeds", "0")
    assert stop.value.code == 130
    assert not Path("out").exists()
    run("--out", "out", "--runs", "runs", "--no-train", "--seeds", "0")
    assert len(calls) == 5 * (3 + len(LEVELS)) + 1  # the one that was killed is done again
    before, after = (rows(folder)["ostromoukhov"] for folder in (done / "out", Path("out")))
    assert before["images"] == after["images"]


def test_what_decides_a_methods_figures(done):
    copy(done, "net.safetensors")
    keys = [classical_method("pang", tone_weight=weight).key for weight in (0.98, 0.99)]
    assert classical_method("pang").key == keys[0]  # the default, written or not
    save_network("feature.safetensors", noise="dynamic")
    networks = [network_method(name).key for name in ("net.safetensors", "feature.safetensors")]
    assert len({*keys, *networks}) == 4
    Path("same.safetensors").write_bytes(Path("net.safetensors").read_bytes())
    assert network_method("same.safetensors").key == networks[0]


def test_a_constant_image_is_no_constant_gray():
    Image.fromarray(np.full((128, 128), 58, dtype=np.uint8)).save("gray.png")
    image, gray = image_input(Path("gray.png")), constant_gray(LEVELS[0])
    assert (image.read() == gray.read()).all()
    assert image.key != gray.key


@pytest.mark.usefixtures("no_pictures")
def test_a_network_of_task_halftoning_is_judged(done):
    copy(done, "photos", "runs")
    save_network("tone.safetensors", task="halftoning")
    run("--out", "out", "--runs", "runs", "--no-train", "--weights", "tone.safetensors", "--seeds", "0")
    given, net = (rows(folder)[name] for folder, name in ((Path("out"), "given_tone"), (done / "out", "given_net")))
    assert given["images"] == net["images"]


# --- cells


@pytest.fixture
def trained(tiny_run, monkeypatch):
    """Stand in for the training process: a finished run is put in its folder; return the commands."""
    commands = []

    def finish(command, lock):
        commands.append(command)
        shutil.copytree(tiny_run, folder_of(command), dirs_exist_ok=True)
        return 0

    monkeypatch.setattr(cells, "_run", finish)
    return commands


def folder_of(command):
    return Path(next(part for part in command if part.startswith("run_dir=")).removeprefix("run_dir=").strip("'"))


@pytest.mark.usefixtures("no_pictures")
def test_cells_are_trained_once_with_equal_steps_and_seeds(done, trained):
    copy(done, "photos", "runs")
    for _ in range(2):
        run("--out", "out", "--runs", "runs", "--seeds", "0,4")
    assert len(trained) == 8
    for index, name in enumerate(table4.ABLATION):
        for command in (trained[index], trained[index + 4]):
            assert {"task=dithering", "trainer.max_steps=2000", "data=builtin"} <= set(command)
            assert f"seed={0 if index == trained.index(command) else 4}" in command
            assert ("nib=none" in command, "task.blue_noise_weight=0" in command) == {
                "dithering": (False, False), "without_blue_noise": (False, True), "without_nib": (True, False),
                "without_both": (True, True),
            }[name]  # fmt: skip
    found = rows(Path("out"))["dithering"]
    assert (found["note"], found["figures"]["ssim"]["n"], found["figures"]["ssim"]["sd"]) == ("", 2, 0.0)
    assert "## Over seeds" in Path("out/table4.md").read_text()


def cell(steps=2):
    return make_cell("without_nib", 3, ("task=dithering", "nib=none", f"trainer.max_steps={steps}"), Path("runs"))


def test_a_folder_never_holds_another_training():
    assert cell().folder == cell().folder
    assert cell().folder.name.startswith("seed3-")
    assert cell(2).folder != cell(3).folder


def test_a_killed_cell_is_resumed_or_begun_anew(trained):
    (cell().folder / "checkpoints").mkdir(parents=True)
    (cell().folder / "old").touch()
    assert train(cell()) is None
    assert not (cell().folder / "old").exists()
    assert not any(part.startswith("ckpt_path=") for part in trained[0])
    (cell().folder / "metrics.json").unlink()
    (cell().folder / "old").touch()
    assert train(cell()) is None
    assert f"ckpt_path='{cell().folder}/checkpoints/last.ckpt'" in trained[1]
    assert (cell().folder / "old").exists()
    assert train(cell()) is None
    assert len(trained) == 2


def test_a_cell_that_is_being_trained_is_left_alone(trained, monkeypatch):
    finish = cells._run

    def meanwhile(command, lock):
        with pytest.raises(UserError, match="is being trained by another process; wait for it or stop it"):
            train(cell())
        return finish(command, lock)

    monkeypatch.setattr(cells, "_run", meanwhile)
    assert train(cell()) is None


@pytest.mark.usefixtures("no_pictures")
def test_a_cell_that_fails_leaves_the_others(done, trained, monkeypatch, capsys):
    copy(done, "photos", "runs")
    finish = cells._run
    monkeypatch.setattr(cells, "_run", lambda command, lock: 1 if "nib=none" in command else finish(command, lock))
    with pytest.raises(SystemExit) as stop:
        run("--out", "out", "--runs", "runs", "--seeds", "0")
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "without_nib, seed 0: training ended with code 1, see 'runs/without_nib/seed0-" in error
    assert rows(Path("out"))["dithering"]["figures"]["ssim"]["n"] == 1
    assert rows(Path("out"))["without_nib"]["note"] == "0 of 1 seeds trained, 1 failed"


@pytest.mark.slow
def test_real_training(done, images, monkeypatch):
    copy(done, "photos", "runs")
    tiny = ("task=dithering", *(option for option in TINY if not option.startswith("data=")))
    monkeypatch.setitem(table4.SCALE_SETTINGS, "small", (*tiny, "trainer.val_check_interval=1"))
    odd = Path("it's odd, a=b")
    shutil.copytree(images, odd)
    run("--out", "out", "--runs", odd / "runs", "--seeds", "0", "--train-images", odd)
    found = rows(Path("out"))
    for name in table4.ABLATION:
        assert found[name]["note"] == ""
        assert found[name]["images"]["ssim"]["n"] == 3
    made = next((odd / "runs" / "without_nib").glob("seed0-*/"))
    assert "form: none" in (made / "config.yaml").read_text()
    (made / "metrics.json").unlink()  # killed while it was tested
    run("--out", "out", "--runs", odd / "runs", "--seeds", "0", "--train-images", odd)
    assert (made / "metrics.json").is_file()


# --- bad input


@pytest.fixture
def refused(capsys, tmp_path):
    """Call the command with bad input; return its one sentence."""

    def call(*arguments):
        before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
        with pytest.raises(SystemExit) as stop:
            main(["reproduce", *arguments])
        error = capsys.readouterr().err
        assert stop.value.code == 2
        assert error.startswith("nibkit reproduce: error: ")
        assert error.count("\n") == 1, error
        assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == before
        return error.removeprefix("nibkit reproduce: error: ").strip()

    return call


T = ["table4", "--images", "photos"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the following arguments are required: NAME; see nibkit reproduce --help"),
        (["table4"], "table4 needs images to judge on; give --images DIR"),
        (["tabel4", "--images", "photos"], "unknown experiment 'tabel4' (did you mean 'table4'?); choose from: "
         "figure"),
        (["table4", "--images", "none"], "--images='none' does not exist or is no folder; name a folder of images"),
        (["table4", "--images", "empty"], "image folder 'empty' holds no images"),
        (["table4", "--images", "bad"], "--images: cannot read image 'bad/a.png': not an image; 'bad/b.png' has 30x9 "
         "pixels, the filters need 11x11; remove or replace them"),
        ([*T, "--limit", "0"], "argument --limit: '0' is no whole number from 1 to"),
        ([*T, "--scale", "large"], "unknown --scale 'large'; choose from: medium, paper, small"),
        ([*T, "--seeds", "0,x"], "argument --seeds: 'x' is no whole number from 0 to 4294967295"),
        ([*T, "--seeds", ""], "argument --seeds: '' is no whole number"),
        ([*T, "--weights", "none"], "unknown weights 'none'"),
        ([*T, "--weights", "none.ckpt"], "checkpoint 'none.ckpt' does not exist"),
        ([*T, "--weights", "color.safetensors"], "weights 'color.safetensors' are of task 'color', but weights of"),
        ([*T, "--out", "net.safetensors/x"], "--out='net.safetensors/x' cannot be written"),
        ([*T, "--runs", "net.safetensors"], "--runs='net.safetensors' cannot be written"),
        ([*T, "--out", "taken"], "--out: 'taken/table4.png' is a folder where a file shall be; choose another folder"),
        ([*T, "--train-images", "none"], "--train-images='none' does not exist or is no folder; name a folder of"),
        ([*T, "--train-images", "empty"], "image folder 'empty' holds no images; looked for"),
        ([*T, "--train-images", "photos"], "1 image file(s) cannot be used: photos/0.png (52x40 pixels, smaller than"),
        ([*T, "--train-images", "photos", "--no-train"], "--train-images is for training, but --no-train is given"),
        ([*T, "--cells", "without_nib"], "--cells is not for table4; leave it out"),
        ([*T, "--flat", "photos"], "--flat is not for table4; leave it out"),
    ],
)  # fmt: skip
def test_bad_input(refused, tmp_path, arguments, sentence):
    make_images(tmp_path / "photos")
    for folder in ("empty", "bad", "taken/table4.png"):
        (tmp_path / folder).mkdir(parents=True)
    Path("bad/a.png").write_text("this is no image")
    Image.fromarray(draw(0, 9, 30)).save("bad/b.png")
    save_network("net.safetensors")
    save_network("color.safetensors", task="color")
    assert refused(*arguments).startswith(sentence)


def test_a_folder_that_cannot_be_written(nobody, public, capsys):
    make_images(public / "photos", 1)
    (public / "fixed").mkdir()
    (public / "fixed").chmod(0o555)
    for path in (public / "photos", *(public / "photos").iterdir()):
        path.chmod(0o755)
    with as_nobody(), pytest.raises(SystemExit) as stop:
        run("--out", public / "fixed" / "out", "--no-train", images=public / "photos")
    assert stop.value.code == 2
    assert "--out='" in capsys.readouterr().err


def test_results_that_stood_there_stay_whole(done, monkeypatch):
    copy(done, "photos", "runs", "out")
    monkeypatch.setattr(table4, "draw_frontier", mock.Mock(side_effect=UserError("no plot")))
    with pytest.raises(SystemExit):
        run("--out", "out", "--runs", "runs", "--no-train", "--limit", "1", "--seeds", "0")
    for name in FILES:
        assert Path("out", name).read_bytes() == (done / "out" / name).read_bytes()
