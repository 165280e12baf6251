"""The page of ``nibkit demo`` in a real browser: Debian's chromium, without a screen, by Playwright.

``NIBKIT_SCREENSHOTS=docs pytest -n 0 -m slow tests/browser`` writes the pictures of the documentation anew.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
from conftest import draw
from PIL import Image

from nibkit.dither import dither_file, neural
from nibkit.hide import hide_file, load_pair

pytest.importorskip("gradio", reason="the page needs Gradio: pip install -e '.[demo]'")
playwright = pytest.importorskip("playwright.sync_api", reason="these tests need Playwright: pip install playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="these tests need Debian's chromium: apt-get install chromium"),
]
SCREENSHOTS = os.environ.get("NIBKIT_SCREENSHOTS")  # a folder, below where pytest was started
HERE = Path.cwd()
TIMEOUT = 60_000  # ms; a busy machine


@pytest.fixture(scope="module")
def url():
    """The address of the command, running; it leaves nothing behind when it is told to end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "nibkit", "demo", "--no-browser", "--port", str(port)]
        process = subprocess.Popen(command, env={**os.environ, "TMPDIR": folder}, stderr=subprocess.PIPE, text=True)
        try:
            wait_for(address, process)
            yield address
            assert list(Path(folder).glob("nibkit-demo-*"))
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGTERM
        assert "Traceback" not in errors
        assert not list(Path(folder).glob("nibkit-demo-*"))


def wait_for(address, process):
    """Wait until the page answers."""
    for _ in range(480):
        assert process.poll() is None, "the command ended by itself"
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    raise TimeoutError("the page does not answer")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, url):
    """The page, opened, with the answer to its example; no request goes to another host."""
    page = browser.new_page(viewport={"width": 1440, "height": 1130})
    page.set_default_timeout(TIMEOUT)
    asked, failures = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.goto(url)
    page.wait_for_selector("#dither-zoom-2 img")
    yield page
    assert not failures
    hosts = {urlparse(address).netloc for address in asked if not address.startswith(("data:", "blob:"))}
    assert hosts == {urlparse(url).netloc}
    assert "Traceback" not in page.content()
    page.close()


def source(page, name):
    """Return where a picture is from; the name of a file's folder is a hash of its content."""
    return page.eval_on_selector(f"#{name} img", "image => image.src")


def changed(page, name, before):
    """Wait until a picture is another than ``before``, and there."""
    test = "([name, before]) => (image => image && image.complete && image.src != before)(document.querySelector(name))"
    page.wait_for_function(test, arg=[f"#{name} img", before])


def saved(page, button):
    """Return the file that a download button gives."""
    with page.expect_download() as download:
        page.click(f"#{button}")
    return Path(download.value.path()), download.value.suggested_filename


def toast(page):
    """Return the message that is shown, and close it."""
    page.wait_for_selector(".toast-body")
    text = page.inner_text(".toast-wrap")
    while page.locator(".toast-close").count():
        page.locator(".toast-close").first.click()
        page.wait_for_timeout(300)
    return text


def give(page, name, path):
    """Drop a file, in place of the one that was there."""
    clear = page.locator(f'#{name} [aria-label="Clear"]')
    if clear.count():
        clear.click()
    page.set_input_files(f"#{name} input[type=file]", str(path))


def picture_file(name, *shape, image_format="PNG"):
    Image.fromarray(draw(5, *shape)).save(name, image_format)
    return Path(name)


def screenshot(page, name):
    """Keep a picture of the whole page for the documentation, if one is asked for."""
    if SCREENSHOTS:
        path = HERE / SCREENSHOTS / name
        page.wait_for_timeout(1000)
        page.screenshot(path=path, full_page=True)
        picture = Image.open(path).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, 5, dither=Image.Dither.NONE)
        picture.save(path, optimize=True)


def test_the_page_opens_with_a_flat_and_a_dotted_comic(page):
    assert "its noise switched off" in page.inner_text("#dither-off")
    off, on = map(float, re.findall(r"([\d.]+) dB", page.inner_text("#dither-figures")))
    assert on > off + 10
    screenshot(page, "demo_dither.png")


def test_an_upload_is_halftoned_within_seconds_and_downloaded_as_one_bit(page):
    before = source(page, "dither-on")
    path = picture_file("a.png", 512, 512)
    start = time.perf_counter()
    give(page, "dither-file", path)
    changed(page, "dither-on", before)
    seconds = time.perf_counter() - start
    print(f"512x512 through the page: {seconds:.2f} s")
    assert seconds < 15  # 3 s where nothing else runs
    file, name = saved(page, "dither-download")
    dither_file(path, Path("same.png"), neural(sweeps=0))
    assert name == "halftone.png"
    assert file.read_bytes() == Path("same.png").read_bytes()
    assert Image.open(file).mode == "1"


def test_strength_seed_and_refinement_change_the_picture(page):
    for set_it in (
        lambda: page.fill("#dither-strength input[type=number]", "0.5"),
        lambda: page.fill("#dither-seed input", "7"),
        lambda: page.check("#dither-refine input"),
    ):
        before = source(page, "dither-on")
        set_it()
        page.keyboard.press("Tab")
        page.click("#dither-run")
        changed(page, "dither-on", before)


def test_a_click_and_the_side_move_the_blow_up(page):
    before = source(page, "dither-zoom-2")
    page.click("#dither-on img", position={"x": 300, "y": 300})
    changed(page, "dither-zoom-2", before)
    before = source(page, "dither-zoom-2")
    page.locator("#dither-zoom-side label").filter(has_text="128").click()
    changed(page, "dither-zoom-2", before)


def test_a_picture_fills_the_screen(page):
    small = page.locator("#dither-on img").bounding_box()["height"]
    page.click('#dither-on [aria-label="Fullscreen"]')
    page.wait_for_function("height => document.querySelector('#dither-on img').clientHeight > height * 1.5", arg=small)


def test_a_drawing_is_halftoned(page):
    before = source(page, "dither-on")
    page.get_by_role("tab", name="Draw").click()
    page.wait_for_selector("#dither-sketch canvas")
    page.wait_for_timeout(1500)
    box = page.locator("#dither-sketch canvas").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 50, y)
    page.mouse.down()
    page.mouse.move(x + 50, y, steps=8)
    page.mouse.up()
    page.wait_for_timeout(500)
    page.click("#dither-drawn")
    changed(page, "dither-on", before)
    file, _ = saved(page, "dither-download")
    halftone = np.asarray(Image.open(file))
    assert halftone.shape == (512, 512)
    assert not halftone[240:272, 220:292].any()  # the stroke
    assert 0.7 < halftone[:100].mean() < 0.85  # 200 of 255 levels


def test_what_cannot_be_used_is_one_sentence_and_the_picture_stays(page):
    before = source(page, "dither-on")
    Path("notes.txt").write_text("no image")
    Image.new("1", (3000, 2000)).save("large.png")
    with Path("heavy.png").open("wb") as file:
        file.truncate(21 * 2**20)
    sentences = {
        "notes.txt": "cannot read image 'notes.txt': not an image; give a PNG, JPEG, WebP or TIFF",
        "large.png": "'large.png' has 3000x2000 pixels, more than the 4.2 megapixels (2048x2048) that this page takes",
        "heavy.png": "exceed the maximum allowed size of 20.0 Mb",
    }
    for name, sentence in sentences.items():
        give(page, "dither-file", name)
        text = toast(page)
        assert sentence in text
        assert "Traceback" not in text
        assert "/" not in text
    assert source(page, "dither-on") == before


def test_a_constant_gray_has_its_share_of_white_and_a_spectrum(page):
    page.get_by_role("tab", name="Constant gray").click()
    page.click("#constant-run")
    page.wait_for_selector("#constant-plot img")
    off, on = map(float, re.findall(r"([\d.]+)%", page.inner_text("#constant-figures")))
    assert off in (0, 100)
    assert 39 < on < 41
    screenshot(page, "demo_constant.png")


def test_colours_are_hidden_downloaded_and_restored(page):
    page.get_by_role("tab", name="Hide colour").click()
    path = picture_file("photo.png", 200, 160, 3)
    give(page, "hide-file", path)
    page.wait_for_selector("#hide-zoom-2 img")
    gray, name = saved(page, "hide-download")
    hide_file(path, Path("same.png"), load_pair())
    assert gray.read_bytes() == Path("same.png").read_bytes()
    page.get_by_role("tab", name="Restore").click()
    give(page, "restore-file", shutil.copy(gray, "gray.png"))
    page.wait_for_selector("#restore-1 img")
    colour, _ = saved(page, "restore-download")
    error = np.asarray(Image.open(colour)).astype(float) - np.asarray(Image.open(path))
    assert name == "gray.png"
    assert np.abs(error).mean() < 12  # of 255 levels


def test_a_gray_that_was_a_jpeg_is_refused_in_a_sentence(page):
    page.get_by_role("tab", name="Hide colour").click()
    page.get_by_role("tab", name="Restore").click()
    give(page, "restore-file", picture_file("gray.jpg", 64, 64, image_format="JPEG"))
    assert "cannot restore 'gray.jpg': it is a JPEG, whose compression has destroyed the hidden texture" in toast(page)
    assert not page.locator("#restore-1 img").count()


def test_the_example_of_hidden_colours(page):
    page.get_by_role("tab", name="Hide colour").click()
    page.click("#hide-comic")
    page.wait_for_selector("#hide-zoom-2 img")
    assert "dB from the original" in page.inner_text("#hide-figures")
    screenshot(page, "demo_hide.png")
