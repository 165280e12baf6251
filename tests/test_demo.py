"""``nibkit demo`` without a browser: what the page computes, refuses and says; the command's bad input."""

import asyncio
import logging
import math
import re
import socket
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import draw
from PIL import Image

import nibkit
from nibkit.cli import main
from nibkit.demo import compute, uploads
from nibkit.demo.catalogue import read_catalogue
from nibkit.demo.compute import Settings
from nibkit.demo.serve import POLICY, check_address, only_this_host
from nibkit.dither import dither_file, neural
from nibkit.errors import UserError
from nibkit.hide import hide_file, load_pair, restore_file
from nibkit.registry import build_backbone
from nibkit.weights import save_weights


def pixels(path):
    return np.asarray(Image.open(path))


@pytest.fixture
def half_flat():
    """A picture whose left half is constant."""
    picture = draw(0, 64, 96)
    picture[:, :64] = 110
    Image.fromarray(picture).save("half.png")
    return Path("half.png")


@pytest.fixture
def photo():
    Image.fromarray(draw(1, 48, 40, 3)).save("photo.png")
    return Path("photo.png")


@pytest.fixture
def folder():
    Path("answer").mkdir()
    return Path("answer")


def test_without_noise_a_constant_region_is_flat_and_with_it_has_dots(half_flat, folder):
    done = compute.dither_image(half_flat, folder, Settings())
    off, on = pixels(done.off)[:, :40], pixels(done.on)[:, :40]
    assert off.all() or not off.any()
    assert 0.3 < on.mean() < 0.55  # 110 of 255 levels
    assert Image.open(done.on).mode == "1"
    assert np.array_equal(pixels(done.gray), pixels(half_flat))
    psnr_off, psnr_on = compute.halftone_psnr(done)
    assert psnr_on > psnr_off + 5


def test_the_halftone_is_that_of_the_command(half_flat, folder):
    done = compute.dither_image(half_flat, folder, Settings("halftoning", seed=3, sweeps=2))
    dither_file(half_flat, Path("same.png"), neural("halftoning", seed=3, sweeps=2))
    assert done.on.read_bytes() == Path("same.png").read_bytes()


def test_the_strength_of_the_noise_reaches_the_network(half_flat, folder):
    answers = {}
    for strength in (0.0, 1.0, 2.0):
        answers[strength] = pixels(compute.dither_image(half_flat, folder, Settings(strength=strength)).on)
    assert np.array_equal(answers[0.0], pixels(folder / "noise-off.png"))
    assert len({answer.tobytes() for answer in answers.values()}) == 3


def test_a_constant_gray_its_share_of_white_and_its_spectrum(folder, monkeypatch):
    monkeypatch.setattr(compute, "FLAT_SIDE", 128)
    done = compute.dither_constant(0.4, folder, Settings())
    assert compute.share_of_white(done.on) == pytest.approx(0.4, abs=0.02)
    assert compute.share_of_white(done.off) in (0, 1)
    figure, ratio = compute.spectrum(done.on, 0.4)
    assert ratio < 0.3
    assert len(figure.axes) == 2
    assert math.isnan(compute.spectrum(done.off, 0.4)[1])


@pytest.mark.parametrize(("place", "corner"), [((0.5, 0.5), (24, 40)), ((0, 0), (0, 0)), ((1, 1), (48, 80))])
def test_a_blow_up_repeats_the_pixels_of_a_region(half_flat, place, corner):
    region = compute.blow_up(half_flat, place, 16)
    top, left = corner
    assert region.shape == (512, 512)
    assert np.array_equal(region[::32, ::32], pixels(half_flat)[top : top + 16, left : left + 16])
    assert (region[:32, :32] == region[0, 0]).all()


def test_a_blow_up_of_a_small_picture_is_all_of_its_shorter_side(half_flat):
    assert compute.blow_up(half_flat, (0.5, 0.5), 128).shape == (512, 512)
    assert compute.blow_up(half_flat, (0.5, 0.5), 128).dtype == np.uint8


def test_colours_are_hidden_and_restored_as_by_the_commands(photo, folder):
    pair = load_pair()
    done = compute.hide_colors(photo, folder, pair)
    hide_file(photo, Path("gray.png"), pair)
    restore_file(Path("gray.png"), Path("colour.png"), pair)
    assert done.gray.read_bytes() == Path("gray.png").read_bytes()
    assert done.restored.read_bytes() == Path("colour.png").read_bytes()
    assert np.array_equal(pixels(done.original), pixels(photo))
    restored, gray = compute.color_psnr(done)
    assert restored > 20
    assert gray > 20
    again = compute.restore_colors(done.gray, folder, pair)
    assert again.restored.read_bytes() == Path("colour.png").read_bytes()
    assert math.isnan(compute.color_psnr(again)[0])


def test_what_cannot_be_restored_is_told_without_its_folder(photo, folder):
    Image.open(photo).convert("L").save(folder / "gray.jpg")
    with pytest.raises(UserError, match=re.escape("cannot restore 'gray.jpg': it is a JPEG")) as error:
        compute.restore_colors((folder / "gray.jpg").absolute(), folder, load_pair())
    assert str(folder.absolute()) not in str(error.value)


def text_file(path):
    path.write_text("no image")


def large_image(path):
    Image.new("1", (2049, 2048)).save(path, "PNG")


def heavy_file(path):
    with path.open("wb") as file:
        file.truncate(uploads.MAX_BYTES + 1)  # no bytes on the disk


def odd_format(path):
    Image.new("L", (4, 4)).save(path, "PPM")


def broken_image(path):
    Image.new("L", (64, 64)).save(path, "PNG")
    path.write_bytes(path.read_bytes()[:20])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (text_file, "cannot read image 'a.png': not an image; give a PNG, JPEG, WebP or TIFF"),
        (large_image, "'a.png' has 2049x2048 pixels, more than the 4.2 megapixels"),
        (heavy_file, "'a.png' has 20.0 MB, more than the 20 MB"),
        (odd_format, "cannot read image 'a.png': it is PPM"),
        (broken_image, "cannot read image 'a.png'"),
    ],
)
def test_an_upload_that_is_refused_is_told_why(tmp_path, folder, make, sentence):
    path = tmp_path / "a.png"
    make(path)
    for use in (
        lambda: compute.dither_image(path, folder, Settings()),
        lambda: compute.hide_colors(path, folder, None),
    ):
        with pytest.raises(UserError, match=re.escape(sentence)) as error:
            use()
        assert str(tmp_path) not in str(error.value)
        assert "\n" not in str(error.value)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", ["comic", "coffee"])
def test_examples_are_images_that_the_page_takes(folder, name):
    path = compute.save_example(name, folder)
    uploads.check_upload(path)
    assert Image.open(path).mode == "RGB"


def tiny_weights(path, task):
    backbone = {"name": "resnet", "width": 2, "blocks": 1}
    network = build_backbone(backbone, {"form": "symmetric"})
    save_weights(path, backbone, {"form": "symmetric"}, network.state_dict(), task=task)


def test_weights_of_the_command_line_are_offered_too():
    tiny_weights("mine.safetensors", "halftoning")
    catalogue = read_catalogue(["mine.safetensors"])
    assert catalogue.halftoning == ("dithering", "halftoning", "mine.safetensors")
    assert list(catalogue.pairs) == ["invertible_grayscale"]


def test_weights_of_another_task_are_refused():
    tiny_weights("mine.safetensors", "autoencoder")
    with pytest.raises(UserError, match="of task 'autoencoder'; the page has use for dithering, halftoning"):
        read_catalogue(["mine.safetensors"])


# the command


@pytest.fixture
def command(monkeypatch, capsys):
    """Call the command as if Gradio were there, serving nothing; return its one sentence and what it would serve."""
    served = []
    monkeypatch.setattr("nibkit.commands.demo.find_spec", lambda name: object())
    monkeypatch.setattr("nibkit.demo.serve.serve", lambda *given, **named: served.append((given, named)))

    def call(*arguments):
        capsys.readouterr()
        code = 0
        try:
            main(["demo", *arguments])
        except SystemExit as stop:
            code = stop.code
        error = capsys.readouterr().err
        assert code == (0 if served else 2)
        assert error.count("\n") == (1 if error else 0)
        return error, served

    return call


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--port", "70000"], "'70000' is no whole number from 1 to 65535"),
        (["--port", "x"], "'x' is no whole number"),
        (["--host", "no such host"], "--host 'no such host' is no address"),
        (["--host", "203.0.113.1"], "cannot listen at 203.0.113.1, port 7860"),
        (["--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_bad_input_is_one_sentence(command, arguments, sentence):
    error, _ = command(*arguments)
    assert error.startswith("nibkit demo: error: ")
    assert sentence in error


def test_a_port_that_is_taken_is_one_sentence(command):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        error, _ = command("--port", str(port))
        assert error == f"nibkit demo: error: port {port} is taken; choose another by --port\n"


def test_without_gradio_it_says_how_to_install_it(command, monkeypatch):
    monkeypatch.setattr("nibkit.commands.demo.find_spec", lambda name: None)
    error, _ = command()
    assert 'install it: pip install "nibkit[demo]"' in error


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_localhost_is_the_default_and_another_host_is_warned_of(command):
    port = free_port()
    error, served = command("--port", str(port), "--no-browser", "--weights", "a.ckpt", "b.ckpt")
    assert error == ""
    assert served == [(("127.0.0.1", port, ["a.ckpt", "b.ckpt"]), {"browser": False})]
    error, served = command("--port", str(port), "--host", "0.0.0.0")
    assert error.startswith("nibkit demo: warning: with --host 0.0.0.0 everyone who can reach this machine")
    assert served[1] == (("0.0.0.0", port, []), {"browser": True})


def test_a_free_port_passes():
    check_address("127.0.0.1", free_port())


def test_only_the_page_imports_gradio():
    root = Path(nibkit.__file__).parent
    users = {
        path.parent.name for path in root.rglob("*.py") if re.search(r"^ *(import|from) gradio", path.read_text(), re.M)
    }
    assert users == {"demo"}


def test_every_answer_forbids_other_hosts():
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b""})

    async def send(message):
        sent.append(message)

    asyncio.run(only_this_host(app)({"type": "http"}, None, send))
    assert sent[0]["headers"] == [(b"a", b"b"), (b"content-security-policy", POLICY.encode())]
    assert "http" not in POLICY
    assert len(sent) == 2


# the page, with Gradio but without a browser


def the_page():
    return pytest.importorskip("gradio", reason="the page needs Gradio: pip install -e '.[demo]'")


def test_an_error_of_the_user_is_shown_as_its_sentence():
    gradio = the_page()
    from nibkit.demo.shared import guarded

    @guarded
    def answer():
        raise UserError("cannot read image '<b>.png'")

    with pytest.raises(gradio.Error) as error:
        answer()
    assert error.value.message == "cannot read image '&lt;b&gt;.png'"
    assert not error.value.print_exception


def test_anything_else_is_shown_without_a_traceback_and_logged_with_it(caplog):
    gradio = the_page()
    from nibkit.demo.shared import UNEXPECTED, guarded

    @guarded
    def answer():
        raise ZeroDivisionError("a secret")

    with caplog.at_level(logging.ERROR), pytest.raises(gradio.Error) as error:
        answer()
    assert error.value.message == UNEXPECTED
    assert error.value.__context__ is None
    assert "ZeroDivisionError: a secret" in caplog.text


def test_a_click_moves_the_blow_up(half_flat):
    gradio = the_page()
    from nibkit.demo.shared import BlowUps

    assert BlowUps.move((half_flat,), SimpleNamespace(index=[95, 0])) == (95.5 / 96, 0.5 / 64)
    with pytest.raises(gradio.Error, match="run again"):
        BlowUps.move((), SimpleNamespace(index=[0, 0]))
    with pytest.raises(gradio.Error, match="run again"):
        BlowUps.draw((Path("gone.png"),), (0.5, 0.5), 64)


def test_answers_beyond_the_latest_are_removed(tmp_path, monkeypatch):
    the_page()
    from nibkit.demo import shared

    monkeypatch.setattr(shared, "KEPT", 2)
    for _ in range(4):
        latest = shared.new_folder(tmp_path)
    left = list((tmp_path / "answers").iterdir())
    assert len(left) == 2
    assert latest in left


def test_the_page_is_built(tmp_path):
    the_page()
    from nibkit.demo.page import build_page

    page = build_page(read_catalogue(), tmp_path)
    assert page.analytics_enabled is False
    assert page.title.startswith("nibkit")
