"""``nibkit hide`` and ``nibkit restore`` as their user sees them: colours into gray files, and back."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw
from PIL import Image, PngImagePlugin
from torch import nn

from nibkit import tiles
from nibkit.cli import main
from nibkit.data.images import read_image, to_tensor
from nibkit.hide import KEYWORD, fingerprint, read_color
from nibkit.quantize import to_8_bit
from nibkit.registry import build_backbone
from nibkit.weights import load_weights, read_weights, save_weights

SMALL = {"name": "resnet", "width": 3, "blocks": 1}
PUBLISHED = {"encoder": {"name": "grayscale_encoder", "width": 2}, "decoder": {"width": 2, "blocks": 1}}
NET = "net.safetensors"


def save_pair(path=NET, halves=None, noise="stationary", seed=0, task="invertible_grayscale"):
    """Write a small pair whose answers spread over all levels, so that a wrong pixel shows."""
    backbone = {"name": "invertible_grayscale", **(halves or {"encoder": SMALL, "decoder": SMALL})}
    nib = {"form": "symmetric", "noise": noise}
    torch.manual_seed(seed)
    pair = build_backbone(backbone, nib).eval()
    picture = to_tensor(np.float32(draw(0, 64, 64, 3) / 255))[None]
    with torch.no_grad():
        for half, given in ((pair.encoder, picture), (pair.decoder, picture[:, :1])):
            last = [module for module in half.modules() if isinstance(module, nn.Conv2d)][-1]
            if last.bias is not None:
                last.bias.zero_()
            last.weight *= 0.4 / half(given).std()
    save_weights(path, backbone, nib, pair.state_dict(), task=task)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(tiles, "SIDE", 32)


@pytest.fixture
def net():
    save_pair()
    return NET


@pytest.fixture
def photo():
    Image.fromarray(draw(3, 70, 50, 3)).save("photo.png")
    return "photo.png"


def hide(*arguments, weights=NET):
    main(["hide", *map(str, arguments), "--weights", str(weights)])


def restore(*arguments, weights=NET):
    main(["restore", *map(str, arguments), "--weights", str(weights)])


def pixels(path, mode):
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", mode)
        assert Path(path).read_bytes()[24] == 8  # bits a channel
        return np.asarray(image)


def levels(image):
    """Return what is 8 bit already as integers ``[H, W, C]``."""
    return torch.round((image[0] + 1) * 127.5).permute(1, 2, 0).int().numpy()


SIZES = [(None, size) for size in ((70, 51), (33, 97), (1, 1), (3, 130))]
SIZES += [(PUBLISHED, size) for size in ((70, 51), (259, 6))]


@pytest.mark.parametrize(("halves", "size"), SIZES)
def test_both_ways_are_the_networks_on_the_whole_image(halves, size):
    save_pair(halves=halves)
    Image.fromarray(draw(1, *size, 3)).save("photo.png")
    hide("photo.png", "gray.png")
    restore("gray.png", "color.png")
    gray, color = pixels("gray.png", "L")[..., None], pixels("color.png", "RGB")
    pair, image = load_weights(NET), to_tensor(read_image("photo.png", 3))[None]
    with torch.inference_mode():
        raw = pair.encode(image)
        restored = pair.decode(torch.from_numpy(gray / 127.5 - 1).float().permute(2, 0, 1)[None])
    clear = (((raw[0] + 1) * 127.5 % 1 - 0.5).abs() > 0.01).permute(1, 2, 0).numpy()  # off the edge of two levels
    np.testing.assert_array_equal(gray[clear], levels(to_8_bit(raw))[clear])
    assert size == (1, 1) or clear.mean() > 0.9
    assert np.abs(gray - levels(to_8_bit(raw))).max() <= 1
    assert np.abs(color - levels(to_8_bit(restored))).max() <= 1
    assert gray.shape[:2] == color.shape[:2] == size


def test_the_pair_of_these_tests_is_not_blind(net, photo):
    hide(photo, "gray.png")
    restore("gray.png", "color.png")
    gray, color = pixels("gray.png", "L"), pixels("color.png", "RGB").astype(int)
    assert min(gray.std(), color.std()) > 20
    assert np.ptp(color, axis=2).mean() > 5


def test_the_closing_line(net, photo, capsys):
    hide(photo, "gray.png")
    restore("gray.png", "color.png")
    shown = capsys.readouterr()
    assert shown.out.startswith("wrote gray.png: 0.00 megapixels in ")
    assert "wrote color.png: 0.00 megapixels in " in shown.out
    assert (shown.out.count("\n"), shown.err) == (2, "")


@pytest.mark.parametrize("noise", ["stationary", "dynamic", "blue"])
def test_the_files_do_not_depend_on_the_tile(photo, noise):
    save_pair(noise=noise)
    for tile in (1, 33, 1000):
        hide(photo, f"gray{tile}.png", "--tile", tile)
        restore("gray1.png", f"color{tile}.png", "--tile", tile)
    for kind in ("gray", "color"):
        assert len({path.read_bytes() for path in Path().glob(f"{kind}*.png")}) == 1


def test_noise_drawn_at_every_call_is_held_still_over_the_blocks():
    """A constant image: blocks that drew noise of their own would all look alike; still noise goes on."""
    save_pair(noise="dynamic")
    Image.new("RGB", (64, 64), (90, 140, 200)).save("flat.png")
    for name in ("a", "b"):
        hide("flat.png", f"{name}.png")
    a = pixels("a.png", "L")
    np.testing.assert_array_equal(a, pixels("b.png", "L"))
    assert (a[:32, :32] != a[32:, 32:]).mean() > 0.5


def test_a_seed_gives_another_texture_that_restores_too(net, photo):
    for name, seed in (("a", 0), ("b", 5), ("c", 5), ("d", 6)):
        hide(photo, f"{name}.png", "--seed", seed)
    a, b, c, d = (pixels(f"{name}.png", "L") for name in "abcd")
    assert (b == c).all()
    assert (a != b).mean() > 0.3
    assert (b != d).mean() > 0.3
    restore("b.png", "color.png")
    assert pixels("color.png", "RGB").shape == (70, 50, 3)


def kinds():
    """Return images of every kind by file name, with options to save them."""
    gray, color = Image.fromarray(draw(0, 40, 30)), Image.fromarray(draw(0, 40, 30, 3))
    alpha = color.copy()
    alpha.putalpha(gray)
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = Image.fromarray(draw(2, 40, 30).astype(np.uint16) * 257 + 90)
    return {
        "gray.png": (gray, {}), "color.jpg": (color, {}), "alpha.png": (alpha, {}), "la.png": (alpha.convert("LA"), {}),
        "palette.png": (color.convert("P"), {"transparency": 3}), "one.png": (gray.convert("1"), {}),
        "cmyk.jpg": (color.convert("CMYK"), {}), "turned.jpg": (color, {"exif": turned}), "deep.png": (deep, {}),
        "real.tif": (Image.fromarray(draw(2, 40, 30) / np.float32(255)), {}), "web.webp": (color, {}),
    }  # fmt: skip


@pytest.mark.parametrize("name", kinds())
def test_every_kind_of_image_is_read_as_read_image_does(name, monkeypatch):
    monkeypatch.setattr("nibkit.hide.STRIP", 64)  # a few rows at a time
    image, options = kinds()[name]
    image.save(name, **options)
    expected = read_image(name, 3)
    read = read_color(Path(name))
    assert read.shape == expected.shape
    np.testing.assert_allclose(read / 255, expected, atol=0.5 / 255 + 1e-6)
    assert expected.std() > 0.1


def test_a_gray_image_is_hidden_as_three_equal_channels(net):
    gray = draw(4, 40, 30)
    Image.fromarray(gray).save("gray.png")
    Image.fromarray(np.dstack([gray] * 3)).save("rgb.png")
    hide("gray.png", "a.png")
    hide("rgb.png", "b.png")
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_the_fingerprint_is_of_the_numbers_and_of_the_network():
    save_pair("a.safetensors")
    save_pair("same.safetensors")
    save_pair("other.safetensors", seed=1)
    save_pair("noise.safetensors", noise="blue")
    a, same, other, noise = (fingerprint(read_weights(f"{n}.safetensors")) for n in ("a", "same", "other", "noise"))
    assert a == same
    assert len({a, other, noise}) == 3
    name, _, digits = a.partition(" ")
    assert name == "invertible_grayscale"
    assert len(digits) == 12
    assert int(digits, 16) > 0


def test_the_gray_says_its_weights(net, photo, capsys):
    save_pair("other.safetensors", seed=1)
    hide(photo, "gray.png")
    mine, others = (fingerprint(read_weights(name)) for name in (NET, "other.safetensors"))
    with Image.open("gray.png") as image:
        assert image.text == {KEYWORD: mine}
    with pytest.raises(SystemExit) as stop:
        restore("gray.png", "color.png", weights="other.safetensors")
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        f"nibkit restore: error: cannot restore 'gray.png': its colours were hidden with weights '{mine}', but "
        f"'other.safetensors' is '{others}'; give the weights that hid them by --weights\n"
    )
    assert not Path("color.png").exists()


def test_a_gray_whose_text_was_dropped_or_that_became_rgb_restores_alike(net, photo):
    hide(photo, "gray.png")
    restore("gray.png", "color.png")
    gray = Image.fromarray(pixels("gray.png", "L"))
    palette = gray.convert("P")
    palette.putpalette([level for level in range(256) for _ in range(3)])
    for name, picture in {"l": gray, "rgb": gray.convert("RGB"), "p": palette}.items():
        picture.save(f"{name}.png")
        restore(f"{name}.png", f"of_{name}.png")
        assert Path(f"of_{name}.png").read_bytes() == Path("color.png").read_bytes()


def test_a_turn_in_the_exif_data_does_not_turn_the_texture(net, photo):
    hide(photo, "gray.png")
    restore("gray.png", "color.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels("gray.png", "L")).save("turned.png", exif=turned)
    restore("turned.png", "again.png")
    assert Path("again.png").read_bytes() == Path("color.png").read_bytes()


def test_folders(images, net, capsys):
    hide(images, "grays")
    assert capsys.readouterr().out.startswith("wrote 7 of 7 images to grays: 0.0")
    restore("grays", "colors")
    names = ["a.png", "b.png", "c.png", "d.png", "sub/deep/g.png", "sub/e.png", "sub/f.png"]
    for folder, mode in (("grays", "L"), ("colors", "RGB")):
        made = sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())
        assert made == names
        for name in names:
            pixels(f"{folder}/{name}", mode)
    restore("grays/a.png", "colors")  # a file into a folder that exists, by its stem
    assert pixels("colors/a.png", "RGB").shape == (40, 52, 3)


@pytest.fixture
def refused(capsys, tmp_path):
    """Call ``nibkit`` with bad input; return its one sentence, and leave nothing behind."""

    def call(command, *arguments, keeps=()):
        before = set(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as stop:
            main([command, *arguments])
        error = capsys.readouterr().err
        assert stop.value.code == 2
        assert error.startswith(f"nibkit {command}: error: ")
        assert error.count("\n") == 1, error
        assert {path.relative_to(tmp_path).as_posix() for path in set(tmp_path.rglob("*")) - before} == set(keeps)
        return error.removeprefix(f"nibkit {command}: error: ").strip()

    return call


JPEG = "it is a JPEG, whose compression has destroyed the hidden texture"


def no_grays():
    """Return files that hide no colours, and what is said of them."""
    gray, color = Image.fromarray(draw(0, 40, 30)), Image.fromarray(draw(0, 40, 30, 3))
    alpha = color.copy()
    alpha.putalpha(255)
    almost = gray.convert("RGB")
    almost.putpixel((29, 39), (1, 2, 1))
    return {
        "photo.jpg": (gray, {}, JPEG),
        "named.png": (gray, {"format": "JPEG"}, JPEG),
        "web.png": (gray, {"format": "WEBP", "lossless": True}, "it is WEBP, not PNG"),
        "scan.tif": (gray, {}, "it is TIFF, not PNG"),
        "rgb.png": (color, {}, "it has colours already (mode RGB)"),
        "almost.png": (almost, {}, "it has colours already (mode RGB)"),
        "palette.png": (color.convert("P"), {}, "it has colours already (mode P)"),
        "opaque.png": (alpha, {}, "it has transparency (mode RGBA)"),
        "la.png": (alpha.convert("LA"), {}, "it has transparency (mode LA)"),
        "clear.png": (gray, {"transparency": 7}, "it has transparency (mode L)"),
        "deep.png": (Image.fromarray(draw(0, 40, 30).astype(np.uint16) * 256), {}, "it has 16 bits a channel, not 8"),
        "one.png": (gray.convert("1"), {}, "it has 1 bit a channel, not 8"),
    }


@pytest.mark.parametrize("name", no_grays())
def test_restore_refuses_what_hides_no_colours(refused, net, name):
    image, options, problem = no_grays()[name]
    image.save(name, **options)
    message = refused("restore", name, "color.png", "--weights", net)
    assert message == f"cannot restore '{name}': {problem}; give the 8-bit gray PNG that nibkit hide wrote"


def test_restore_refuses_16_bits_of_rgb(refused, net):
    """Pillow reads it as 8 bit."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    data = zlib.compress(b"\0" + bytes(range(12)))
    parts = chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b"")
    Path("deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert "it has 16 bits a channel" in refused("restore", "deep.png", "color.png", "--weights", net)


def test_a_text_of_another_program_stays_one_sentence(refused, net):
    info = PngImagePlugin.PngInfo()
    info.add_text(KEYWORD, "what\nis this " * 50)
    Image.fromarray(draw(0, 20, 20)).save("gray.png", pnginfo=info)
    message = refused("restore", "gray.png", "color.png", "--weights", net)
    assert message.startswith("cannot restore 'gray.png': its colours were hidden with weights 'what is this what")
    assert len(message) < 300


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["hide", "photo.png"], "the following arguments are required: OUT; see nibkit hide --help"),
        (["restore", "photo.png", "o.png", "--seed", "1"], "unrecognized arguments: --seed 1; see nibkit restore"),
        (["hide", "photo.png", "o.png", "--seed", "-1"], "argument --seed: '-1' is no whole number from 0 to 42949"),
        (["hide", "photo.png", "o.png", "--tile", "0"], "argument --tile: '0' is no whole number from 1 to 1048576"),
        (["hide", "none.png", "o.png"], "IN 'none.png' does not exist"),
        (["hide", "photo.png", "o.jpg"], "OUT 'o.jpg' must end in .png: JPEG would destroy the texture that hides"),
        (["hide", "photo.png", "o.JPEG"], "OUT 'o.JPEG' must end in .png: JPEG would destroy the texture"),
        (["hide", "photo.png", "o.tif"], "OUT 'o.tif' must end in .png: JPEG would destroy the texture"),
        (["restore", "photo.png", "o.jpg"], "OUT 'o.jpg' must end in .png: restored images are written as 8-bit PNG"),
        (["hide", "photo.png", "photo.png"], "OUT 'photo.png' would overwrite IN"),
        (["hide", "photo.png", "o.png", "--weights", "none"], "unknown weights 'none'"),
        (["hide", "photo.png", "o.png", "--weights", "dots.safetensors"],
         "weights 'dots.safetensors' are of task 'dithering', but weights of 'invertible_grayscale' are needed here"),
        (["restore", "photo.png", "o.png", "--weights", "one.safetensors"],
         "weights 'one.safetensors' have no encoder of 3 to 1 channel(s); give a pair of networks"),
        (["hide", "photo.png", "o.png", "--weights", "mono.safetensors"], "weights 'mono.safetensors' have no encoder"),
        (["hide", "text.png", "o.png", "--weights", NET], "cannot read image 'text.png': not an image"),
        (["restore", "text.png", "o.png", "--weights", NET], "cannot read image 'text.png': not an image"),
        (["restore", "cut.png", "o.png", "--weights", NET], "cannot read image 'cut.png': truncated"),
        (["hide", "nan.tif", "o.png", "--weights", NET], "cannot read image 'nan.tif': it holds values that are no"),
    ],
)  # fmt: skip
def test_bad_input(refused, net, photo, arguments, sentence):
    Path("text.png").write_text("this is no image")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save("cut.png")
    Path("cut.png").write_bytes(Path("cut.png").read_bytes()[:2000])
    Image.fromarray(np.full((4, 4), np.nan, dtype=np.float32)).save("nan.tif")
    save_pair("dots.safetensors", task="dithering")
    single, nib = {**SMALL, "in_channels": 3, "out_channels": 3}, {"form": "none"}
    state = build_backbone(single, nib).state_dict()
    save_weights("one.safetensors", single, nib, state, task="invertible_grayscale")
    mono = {"name": "invertible_grayscale", "in_channels": 1, "encoder": SMALL, "decoder": SMALL}
    save_weights("mono.safetensors", mono, nib, build_backbone(mono, nib).state_dict(), task="invertible_grayscale")
    assert refused(*arguments).startswith(sentence)


def test_what_fails_in_a_folder_does_not_stop_the_others(refused, net):
    Path("in").mkdir()
    Image.fromarray(draw(0, 20, 20)).save("in/a.jpg")
    Image.fromarray(draw(0, 20, 20)).save("in/b.png")
    message = refused("restore", "in", "out", "--weights", net, keeps={"out", "out/b.png"})
    assert message.startswith(f"1 of 2 images failed: cannot restore 'in/a.jpg': {JPEG}; give")
    pixels("out/b.png", "RGB")


def test_ctrl_c_leaves_what_stood_there(net, photo, monkeypatch):
    Path("out.png").write_text("before")

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(tiles, "_answer_block", interrupted)
    with pytest.raises(SystemExit) as stop:
        hide(photo, "out.png")
    assert stop.value.code == 130
    assert Path("out.png").read_text() == "before"
    assert sorted(path.name for path in Path().iterdir()) == [NET, "out.png", photo]


def test_help_is_quick():
    for command, word in {"hide": "--seed N", "restore": "even numbers of pixels"}.items():
        code = f"import sys; sys.argv[1:] = ['{command}', '--help']; from nibkit.cli import main\ntry: main()\n"
        code += "finally: assert not {'torch', 'numpy'} & set(sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert word in done.stdout
        assert "memory: " in done.stdout
