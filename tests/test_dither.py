"""``nibkit dither`` as its user sees it: files in, 1-bit files out, and one sentence for what is wrong."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw
from PIL import Image

import nibkit.commands.dither
from nibkit import dither, tiles
from nibkit.classical import METHODS
from nibkit.cli import main
from nibkit.data.gray import read_gray, to_linear, to_tone
from nibkit.data.images import read_image, to_tensor
from nibkit.registry import build_backbone
from nibkit.weights import load_weights, read_weights, save_weights

BACKBONE = {"name": "resnet", "width": 4, "blocks": 1}


def save_network(path, task="dithering", backbone=BACKBONE, noise="stationary"):
    """Write a small network that makes dots: its answer is about the image plus noise."""
    nib = {"form": "symmetric", "noise": noise, "scale": 0.6}
    torch.manual_seed(0)
    net = build_backbone(backbone, nib)
    with torch.no_grad():
        for module in net.blocks:
            module.conv2.weight *= 0.1
        net.tail.bias.zero_()
        net.stem.conv.bias.zero_()
        net.stem.conv.weight[:, 0], net.stem.conv.weight[:, 1] = 1.0, 0.1
        net.tail.weight.fill_(0.25)
    save_weights(path, backbone, nib, net.state_dict(), task=task)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(tiles, "SIDE", 32)


@pytest.fixture
def net(tmp_path):
    save_network(tmp_path / "net.safetensors")
    return "net.safetensors"


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(draw(3, 70, 50)).save(tmp_path / "photo.png")
    return "photo.png"


def run(*arguments):
    main(["dither", *map(str, arguments)])


def bits(path):
    """Return the pixels of a 1-bit PNG as booleans."""
    assert Path(path).read_bytes()[24:26] == b"\x01\x00"  # bit depth 1, gray
    with Image.open(path) as image:
        assert (image.mode, image.format) == ("1", "PNG")
        return np.asarray(image)


def test_neural_is_the_networks_answer_above_0(net, photo, capsys):
    run(photo, "out.png", "--weights", net)
    image = to_tensor(read_image(photo))[None]
    with torch.inference_mode():
        answer = load_weights(net)(image)[0, 0].numpy()
    clear = np.abs(answer) > 1e-5
    np.testing.assert_array_equal(bits("out.png")[clear], (answer > 0)[clear])
    assert clear.mean() > 0.99
    assert 0.1 < bits("out.png").mean() < 0.9
    shown = capsys.readouterr()
    assert shown.out.startswith("wrote out.png: 0.00 megapixels in ")
    assert (shown.out.count("\n"), shown.err) == (1, "")


def test_the_file_is_the_same_whatever_the_tile(net, photo):
    for tile in ("1", "32", "33", "50", "1000"):
        run(photo, f"{tile}.png", "--weights", net, "--tile", tile)
    run(photo, "out.png", "--weights", net)
    assert {path.read_bytes() for path in Path().glob("[0-9]*.png")} == {Path("out.png").read_bytes()}


@pytest.mark.parametrize("noise", ["stationary", "dynamic"])
def test_a_seed_moves_the_noise(photo, noise):
    save_network("n.safetensors", noise=noise)
    for name, seed in (("a", 0), ("b", 5), ("c", 5), ("d", 6)):
        run(photo, f"{name}.png", "--weights", "n.safetensors", "--seed", seed)
    a, b, c, d = (bits(f"{name}.png") for name in "abcd")
    assert (b == c).all()
    for first, second in ((a, b), (b, d)):
        assert (first != second).mean() > 0.05
        assert first.mean() == pytest.approx(second.mean(), abs=0.05)


def test_the_shift_keeps_the_phase_of_a_network_with_strides():
    assert dither.noise_shift(0, 8) == (0, 0)
    shifts = {dither.noise_shift(seed, 8) for seed in range(1, 100)}
    assert len(shifts) == 99
    assert all(down % 8 == 0 == right % 8 for down, right in shifts)


def test_the_listed_methods_are_those_that_exist():
    assert set(nibkit.commands.dither.METHODS) == {"neural", *METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_classical_methods(photo, method):
    run(photo, "out.png", "--method", method, "--seed", 3)
    assert bits("out.png").shape == (70, 50)
    assert bits("out.png").mean() == pytest.approx(read_image(photo).mean(), abs=0.05)


def test_classical_method_with_its_options(photo):
    gray = to_tensor(read_image(photo))[None]
    run(photo, "out.png", "--method", "dbs", "--set", "sigma=1.0", "--set", "max_sweeps=1")
    np.testing.assert_array_equal(bits("out.png"), METHODS["dbs"](gray, sigma=1.0, max_sweeps=1)[0, 0].numpy() > 0)
    run(photo, "seeded.png", "--method", "white_noise", "--seed", "7")
    run(photo, "set.png", "--method", "white_noise", "--seed", "1", "--set", "seed=7")
    np.testing.assert_array_equal(bits("seeded.png"), METHODS["white_noise"](gray, seed=7)[0, 0].numpy() > 0)
    np.testing.assert_array_equal(bits("set.png"), bits("seeded.png"))


@pytest.mark.parametrize("size", [2, 3, 7, 100])
def test_dots_of_many_pixels(net, photo, size):
    run(photo, "out.png", "--weights", net, "--dot-size", size)
    height, width = -(-70 // size), -(-50 // size)
    large = bits("out.png")
    assert large.shape == (height * size, width * size)
    squares = large.reshape(height, size, width, size)
    assert (squares == squares[:, :1, :, :1]).all()


def test_a_dot_is_the_mean_of_its_pixels(tmp_path):
    gray = draw(1, 40, 30).astype(np.float64)
    Image.fromarray(draw(1, 40, 30)).save("x.png")
    plane = read_gray("x.png", dot_size=7)
    expected = [[gray[y : y + 7, x : x + 7].mean() for x in range(0, 30, 7)] for y in range(0, 40, 7)]
    np.testing.assert_allclose(plane / 65535 * 255, expected, atol=0.005)


def test_linear_light():
    ramp = np.arange(256, dtype=np.uint8)[None]
    Image.fromarray(ramp).save("gray.png")
    Image.fromarray(np.dstack([ramp, ramp[:, ::-1], ramp])).save("color.png")

    def light(values):  # the sRGB standard, IEC 61966-2-1
        return np.array([v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values])

    up, down = light(ramp[0] / 255), light(ramp[0, ::-1] / 255)
    np.testing.assert_allclose(to_linear(ramp / np.float32(255))[0], up, atol=1e-6)
    np.testing.assert_allclose(read_gray("gray.png", linear_light=True)[0] / 65535, up, atol=2e-5)
    color = read_gray("color.png", linear_light=True)[0] / 65535
    np.testing.assert_allclose(color, (0.2126 + 0.0722) * up + 0.7152 * down, atol=2e-5)
    run("gray.png", "out.png", "--method", "white_noise", "--linear-light")
    assert bits("out.png").shape == (1, 256)


def exotic():
    """Return images of every kind by file name."""
    gray, color = Image.fromarray(draw(0, 40, 30)), Image.fromarray(draw(0, 40, 30, 3))
    alpha = color.copy()
    alpha.putalpha(gray)
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = Image.fromarray((draw(2, 40, 30).astype(np.uint16) << 8) + 13)
    real = Image.fromarray(draw(2, 40, 30).astype(np.float32))
    return {
        "gray.png": (gray, {}), "color.jpg": (color, {}), "alpha.png": (alpha, {}), "la.png": (alpha.convert("LA"), {}),
        "palette.png": (color.convert("P"), {"transparency": 3}), "one.png": (gray.convert("1"), {}),
        "cmyk.jpg": (color.convert("CMYK"), {}), "turned.jpg": (color, {"exif": turned}), "deep.png": (deep, {}),
        "real.tif": (real, {}), "unit.tif": (Image.fromarray(np.asarray(real) / 255), {}), "web.webp": (color, {}),
        "lab.tif": (Image.new("LAB", (30, 40), (128, 20, 30)), {}),
        "clear.png": (color, {"transparency": color.getpixel((4, 4))}),
    }  # fmt: skip


@pytest.mark.parametrize("name", exotic())
def test_every_kind_of_image_is_read_as_read_image_does(name, monkeypatch):
    monkeypatch.setattr("nibkit.data.gray.STRIP", 64)  # a few rows at a time
    image, options = exotic()[name]
    image.save(name, **options)
    np.testing.assert_allclose((to_tone(read_gray(name)) + 1) / 2, read_image(name)[..., 0], atol=8e-6)


def test_files_of_8_and_16_bits_gray_are_exact():
    for name in ("gray.png", "deep.png"):
        exotic()[name][0].save(name)
        np.testing.assert_array_equal(to_tone(read_gray(name)), to_tensor(read_image(name))[0].numpy())


def test_a_folder_keeps_its_sub_folders(images, net, capsys):
    run(images, "out", "--weights", net)
    made = sorted(str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file())
    assert made == ["a.png", "b.png", "c.png", "d.png", "sub/deep/g.png", "sub/e.png", "sub/f.png"]
    for path in made:
        bits(Path("out") / path)
    shown = capsys.readouterr()
    assert shown.out.startswith("wrote 7 of 7 images to out: 0.0")
    assert shown.err == ""


def test_an_output_folder_inside_the_input_is_not_read(net, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(draw(0, 20, 20)).save("in/x.png")
    for _ in range(2):
        run("in", "in/out", "--weights", net)
    assert sorted(path.name for path in Path("in").rglob("*.png")) == ["x.png", "x.png"]


def test_a_file_goes_into_an_existing_folder_by_its_stem(net, photo, tmp_path):
    (tmp_path / "out").mkdir()
    run(photo, "out", "--weights", net)
    assert bits("out/photo.png").shape == (70, 50)


@pytest.fixture
def refused(capsys, tmp_path):
    """Call ``nibkit dither`` with bad input; return its one sentence."""

    def call(*arguments, keeps=()):
        before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
        with pytest.raises(SystemExit) as stop:
            run(*arguments)
        error = capsys.readouterr().err
        assert stop.value.code == 2
        assert error.startswith("nibkit dither: error: ")
        assert error.count("\n") == 1, error
        left = {path for path in tmp_path.rglob("*") if "cache" not in path.parts} - before
        assert {str(path.relative_to(tmp_path)) for path in left} == set(keeps)
        return error.removeprefix("nibkit dither: error: ").strip()

    return call


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["photo.png"], "the following arguments are required: OUT; see nibkit dither --help"),
        (["photo.png", "o.png", "--tilt", "3"], "unrecognized arguments: --tilt 3; see nibkit dither --help"),
        (["photo.png", "o.png", "--til", "3"], "unrecognized arguments: --til 3"),
        (["photo.png", "o.png", "--tile", "0"], "argument --tile: '0' is no whole number from 1 to 1048576"),
        (["photo.png", "o.png", "--tile", "big"], "argument --tile: 'big' is no whole number"),
        (["photo.png", "o.png", "--dot-size", "0"], "argument --dot-size: '0' is no whole number from 1 to 256"),
        (["photo.png", "o.png", "--dot-size", "2.5"], "argument --dot-size: '2.5' is no whole number"),
        (["photo.png", "o.png", "--dot-size", "257"], "argument --dot-size: '257' is no whole number"),
        (["photo.png", "o.png", "--seed", "-1"], "argument --seed: '-1' is no whole number from 0 to 4294967295"),
        (["photo.png", "o.png", "--method", "dsb"], "unknown --method 'dsb' (did you mean 'dbs'?); choose from: block"),
        (["none.png", "o.png"], "IN 'none.png' does not exist; give an image file or a folder of images"),
        (["photo.png", "o.jpg"], "OUT 'o.jpg' must end in .png: halftones are written as 1-bit PNG"),
        (["photo.png", "o"], "OUT 'o' must end in .png"),
        (["photo.png", "none/o.png"], "the folder 'none' of OUT does not exist; make it first"),
        (["photo.png", "photo.png"], "OUT 'photo.png' would overwrite IN; choose another name"),
        (["photo.png", "./in/../photo.png"], "OUT 'in/../photo.png' would overwrite IN"),
        (["in", "photo.png"], "OUT 'photo.png' is a file but IN 'in' is a folder; give a folder as OUT"),
        (["in", "net.safetensors"], "OUT 'net.safetensors' is a file but IN 'in' is a folder"),
        (["in", "in"], "OUT 'in' is IN; choose another folder"),
        (["in", "net.safetensors/x"], "OUT='net.safetensors/x' cannot be written"),
        (["empty", "out"], "image folder 'empty' holds no images"),
        (["twice", "out"], "'twice/x.png' and 'twice/x.jpg' would both become 'out/x.png'; rename one"),
        (["photo.png", "o.png", "--weights", "none"], "unknown weights 'none'"),
        (["photo.png", "o.png", "--weights", "none.safetensors"], "weights 'none.safetensors' do not exist"),
        (["photo.png", "o.png", "--weights", "photo.png"], "unknown weights 'photo.png'"),
        (["photo.png", "o.png", "--weights", "tone.safetensors"], "weights 'tone.safetensors' are of task 'auto"),
        (["photo.png", "o.png", "--weights", "rgb.safetensors"], "weights 'rgb.safetensors' take 3 channel(s)"),
        (["photo.png", "o.png", "--set", "sigma=1"], "--set sigma=1 is for the classical methods; add --method"),
        (["photo.png", "o.png", "--method", "dbs", "--tile", "9"], "--tile is for --method neural, not for dbs"),
        (["photo.png", "o.png", "--method", "dbs", "--weights", "x"], "--weights is for --method neural, not for dbs"),
        (["photo.png", "o.png", "--method", "dbs", "--set", "sigma"], "'sigma' is no setting of dbs; write KEY=VALUE"),
        (["photo.png", "o.png", "--method", "dbs", "--set", "sgma=1"], "unknown option of dbs 'sgma' (did you mean"),
        (["photo.png", "o.png", "--method", "dbs", "--set", "sigma=a"], "sigma=a of dbs must be a number"),
        (["in", "out", "--method", "dbs", "--set", "sigma=-1"], "sigma=-1.0 of dbs must be above 0"),
        (["text.png", "o.png", "--method", "white_noise"], "cannot read image 'text.png': not an image"),
        (["cut.png", "o.png", "--method", "white_noise"], "cannot read image 'cut.png': truncated"),
        (["nan.tif", "o.png", "--method", "white_noise"], "cannot read image 'nan.tif': it holds values that are no"),
    ],
)  # fmt: skip
def test_bad_input(refused, net, photo, tmp_path, arguments, sentence):
    for folder in ("in", "empty", "twice"):
        (tmp_path / folder).mkdir()
    for name in ("in/x.png", "twice/x.png", "twice/x.jpg"):
        Image.fromarray(draw(0, 20, 20)).save(name)
    Path("text.png").write_text("this is no image")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save("cut.png")
    Path("cut.png").write_bytes(Path("cut.png").read_bytes()[:2000])
    Image.fromarray(np.full((4, 4), np.nan, dtype=np.float32)).save("nan.tif")
    save_network("tone.safetensors", task="autoencoding")
    save_network("rgb.safetensors", backbone={**BACKBONE, "in_channels": 3})
    message = refused(*arguments)
    assert message.startswith(sentence)
    assert "Errno" not in message


def test_what_fails_in_a_folder_does_not_stop_the_others(refused, tmp_path, images, capsys):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    Path("in/a.png").write_text("this is no image")
    Path("in/sub/c.jpg").write_bytes(b"")
    Image.fromarray(draw(0, 20, 20)).save("in/b.png")
    message = refused("in", "out", "--method", "white_noise", keeps={"out", "out/b.png"})
    assert message == (
        "2 of 3 images failed: cannot read image 'in/a.png': not an image; "
        "cannot read image 'in/sub/c.jpg': not an image"
    )
    bits("out/b.png")


def test_many_failures_are_counted(refused, tmp_path):
    (tmp_path / "in").mkdir()
    for index in range(25):
        Path(f"in/{index}.png").write_text("")
    message = refused("in", "out", "--method", "white_noise")
    assert message.startswith("25 of 25 images failed: ")
    assert message.endswith("; and 5 more")
    assert message.count("not an image") == 20


def test_a_folder_that_cannot_be_written(nobody, public, images, net, capsys):
    (public / "fixed").mkdir()
    (public / "fixed").chmod(0o555)
    Image.fromarray(draw(0, 20, 20)).save(public / "x.png")
    (public / "x.png").chmod(0o644)
    with nobody(), pytest.raises(SystemExit) as stop:
        run(public / "x.png", public / "fixed" / "x.png", "--method", "white_noise")
    assert stop.value.code == 2
    assert capsys.readouterr().err.endswith("x.png': Permission denied\n")


def test_ctrl_c_leaves_what_stood_there(net, photo, monkeypatch):
    Path("out.png").write_text("before")
    answer = tiles._answer_block
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return answer(*arguments)

    monkeypatch.setattr(tiles, "_answer_block", interrupted)
    with pytest.raises(SystemExit) as stop:
        run(photo, "out.png", "--weights", net)
    assert stop.value.code == 130
    assert Path("out.png").read_text() == "before"
    assert sorted(path.name for path in Path().iterdir()) == ["net.safetensors", "out.png", "photo.png"]


def test_a_bar_on_a_terminal(net, photo, monkeypatch, capsys):
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    run(photo, "out.png", "--weights", net)
    assert "photo.png" in capsys.readouterr().err


def test_help_is_quick_and_lists_the_commands():
    for arguments, words in {
        ("--help",): ["dither", "into black and white dots", "train", "export"],
        ("dither", "--help"): ["--dot-size N", "void_and_cluster", "memory:"],
    }.items():
        code = f"import sys; sys.argv[1:] = {list(arguments)}; from nibkit.cli import main\ntry: main()\n"
        code += "finally: assert not {'torch', 'numpy'} & set(sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for word in words:
            assert word in done.stdout


def dithered(*arguments):
    main(["dither", "photo.png", "o.png", "--weights", "net.safetensors", *arguments])
    return np.asarray(Image.open("o.png"))


def test_refinement_is_the_weights_or_the_commands(net, photo):
    alone = dithered()
    stored = read_weights("net.safetensors")
    groups = stored.backbone, stored.nib, stored.state
    save_weights("net.safetensors", *groups, task="halftoning", refinement={"sweeps": 2, "structure": 0.05})
    refined = dithered()
    assert (refined != alone).mean() > 0.02
    assert (dithered("--refine", "2") == refined).all()
    assert (dithered("--refine", "0") == alone).all()
    assert (dithered("--refine", "4") != refined).any()
    assert (dithered("--tile", "300") == refined).all()


def test_export_says_what_refinement_is_meant(net):
    main(["export", "net.safetensors", "fine.safetensors", "--refine", "3", "--structure", "0.2", "--half"])
    assert read_weights("fine.safetensors").refinement == {"sweeps": 3, "structure": 0.2}
    assert read_weights("net.safetensors").refinement == {}
    with pytest.raises(SystemExit) as stop:
        main(["export", "net.safetensors", "bad.safetensors", "--refine", "1", "--structure", "-1"])
    assert stop.value.code == 2
    assert not Path("bad.safetensors").exists()
