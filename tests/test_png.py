"""The streaming PNG writers, 1-bit and 8-bit, read back by Pillow and by zlib."""

import errno
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import draw
from PIL import Image

from nibkit.errors import UserError
from nibkit.png import write_bits, write_pixels


def random_bits(height, width, seed=0):
    return np.random.default_rng(seed).random((height, width)) < 0.5


def chunks(data):
    """Return (kind, content) of each chunk; every check sum is right and nothing follows."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    found, place = [], 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        kind, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        assert struct.unpack(">I", data[place + 8 + length : place + 12 + length])[0] == zlib.crc32(kind + content)
        found.append((kind, content))
        place += 12 + length
    return found


@pytest.mark.parametrize("width", range(1, 18))
def test_every_width_is_read_back_by_pillow(tmp_path, width):
    bits = random_bits(5, width, width)
    write_bits(tmp_path / "x.png", width, 5, [bits[:2], bits[2:]])
    with Image.open(tmp_path / "x.png") as image:
        assert (image.mode, image.size, image.format) == ("1", (width, 5), "PNG")
        np.testing.assert_array_equal(np.asarray(image), bits)
    assert (tmp_path / "x.png").read_bytes()[24:26] == b"\x01\x00"  # bit depth 1, gray


def test_the_stream_is_what_the_standard_says(tmp_path):
    bits = random_bits(300, 1000)
    write_bits(tmp_path / "x.png", 1000, 300, [bits])
    found = chunks((tmp_path / "x.png").read_bytes())
    kinds = [kind for kind, _ in found]
    assert kinds == [b"IHDR", *[b"IDAT"] * (len(kinds) - 2), b"IEND"]
    assert struct.unpack(">IIBBBBB", found[0][1]) == (1000, 300, 1, 0, 0, 0, 0)
    lines = np.frombuffer(zlib.decompress(b"".join(content for kind, content in found if kind == b"IDAT")), np.uint8)
    lines = lines.reshape(300, 126)
    assert not lines[:, 0].any()  # no filter
    np.testing.assert_array_equal(np.unpackbits(lines[:, 1:], axis=1).astype(bool), bits)


def test_the_bytes_do_not_depend_on_the_strips(tmp_path):
    bits = random_bits(700, 900)
    for name, rows in (("a", 1), ("b", 64), ("c", 700)):
        write_bits(tmp_path / name, 900, 700, (bits[top : top + rows] for top in range(0, 700, rows)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_constant_images_are_small(tmp_path):
    for white in (False, True):
        write_bits(tmp_path / "x.png", 4096, 4096, [np.full((4096, 4096), white)])
        assert Image.open(tmp_path / "x.png").getextrema() == (255 * white,) * 2
        assert (tmp_path / "x.png").stat().st_size < 10_000


@pytest.mark.parametrize(
    ("strips", "problem"),
    [
        ([(2, 8)], "have 2 rows together, the image 3"),
        ([(2, 8)] * 2, "have 4 rows"),
        ([(3, 7)], "8 pixels wide"),
        ([], "0 rows"),
    ],
)
def test_strips_that_do_not_make_up_the_image(tmp_path, strips, problem):
    with pytest.raises(ValueError, match=problem):
        write_bits(tmp_path / "x.png", 8, 3, [np.zeros(shape, dtype=bool) for shape in strips])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [(0, 3), (3, 0), (2**31, 1)])
def test_sizes_that_png_does_not_have(tmp_path, size):
    with pytest.raises(ValueError, match="does not exist"):
        write_bits(tmp_path / "x.png", *size, [])


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, UserError])
def test_what_goes_wrong_midway_leaves_the_old_file(tmp_path, error):
    (tmp_path / "x.png").write_text("before")

    def strips():
        yield random_bits(500, 2000)
        raise error

    with pytest.raises(error):
        write_bits(tmp_path / "x.png", 2000, 1000, strips())
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_a_full_disk_is_told_and_leaves_the_old_file(tmp_path):
    (tmp_path / "x.png").write_text("before")

    def strips():
        yield random_bits(1, 8)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match=r"cannot write '.*x\.png': No space left on device"):
        write_bits(tmp_path / "x.png", 8, 2, strips())
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("width", [1, 2, 57])
def test_8_bit_files_are_read_back_by_pillow_whatever_the_strips(tmp_path, channels, width):
    image = np.random.default_rng(width).integers(0, 256, (40, width, channels), dtype=np.uint8)
    image = image[..., 0] if channels == 1 else image
    image[20:] = image[20:] // 64 * 10 + 100  # smoother, where other neighbours predict
    for name, rows in (("a.png", 1), ("b.png", 7), ("c.png", 40)):
        strips = (image[top : top + rows] for top in range(0, 40, rows))
        write_pixels(tmp_path / name, width, 40, channels, strips, {"key": "a text"})
        assert (tmp_path / name).read_bytes() == (tmp_path / "a.png").read_bytes()
    with Image.open("a.png") as found:
        np.testing.assert_array_equal(np.asarray(found), image)
        assert found.text == {"key": "a text"}


def test_8_bit_files_of_smooth_images_are_small(tmp_path):
    write_pixels(tmp_path / "x.png", 300, 300, 3, [draw(0, 300, 300, 3)])
    Image.fromarray(draw(0, 300, 300, 3)).save("pillow.png")
    assert Path("x.png").stat().st_size < 1.2 * Path("pillow.png").stat().st_size


@pytest.mark.parametrize("shape", [(3, 7), (3, 8, 1), (3, 8, 4), (2, 8)])
def test_strips_that_do_not_make_up_an_8_bit_image(tmp_path, shape):
    with pytest.raises(ValueError, match=r"strip"):
        write_pixels(tmp_path / "x.png", 8, 3, 1, [np.zeros(shape, dtype=np.uint8)])
    assert not list(tmp_path.iterdir())
