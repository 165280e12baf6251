import errno

import kornia
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from nibkit.data.images import read_image, save_png, to_bytes, to_channels, to_tensor
from nibkit.errors import UserError

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
RGB = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)


def luminance(rgb):
    """The gray of 8-bit RGB by kornia, ``[H, W]`` in [0, 1]."""
    tensor = torch.from_numpy(rgb / 255).permute(2, 0, 1)[None]
    return kornia.color.rgb_to_grayscale(tensor)[0, 0].numpy()


def test_gray_png_is_exact(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "x.png")
    pixels = read_image(tmp_path / "x.png")
    assert pixels.dtype == np.float32
    assert pixels.shape == (16, 16, 1)
    np.testing.assert_array_equal(pixels[..., 0], (RAMP / 255).astype(np.float32))


def test_rgb_is_exact_and_its_gray_is_that_of_kornia(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", 3), (RGB / 255).astype(np.float32))
    np.testing.assert_allclose(read_image(tmp_path / "x.png")[..., 0], luminance(RGB), atol=1e-6)


@pytest.mark.parametrize(("color", "gray"), [("red", 0.299), ("lime", 0.587), ("blue", 0.114), ("white", 1.0)])
def test_gray_weights(tmp_path, color, gray):
    Image.new("RGB", (3, 3), color).save(tmp_path / "x.png")
    np.testing.assert_allclose(read_image(tmp_path / "x.png"), gray, atol=1e-6)


def test_rgba_lies_on_white(tmp_path):
    alpha = RAMP[:12, :10].copy()
    alpha[0, 0], alpha[0, 1] = 0, 255
    Image.fromarray(np.dstack([RGB, alpha])).save(tmp_path / "x.png")
    share = alpha[..., None] / 255
    pixels = read_image(tmp_path / "x.png", 3)
    np.testing.assert_allclose(pixels, RGB / 255 * share + 1 - share, atol=1e-6)
    assert (pixels[0, 0] == 1).all()
    np.testing.assert_array_equal(pixels[0, 1], (RGB[0, 1] / 255).astype(np.float32))


def test_gray_with_alpha_lies_on_white(tmp_path):
    Image.merge("LA", [Image.new("L", (4, 4), 0), Image.new("L", (4, 4), 51)]).save(tmp_path / "x.png")
    np.testing.assert_allclose(read_image(tmp_path / "x.png"), 0.8, atol=1e-6)


def test_gray_png_with_a_transparent_level_lies_on_white(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "x.png", transparency=0)
    pixels = read_image(tmp_path / "x.png")[..., 0]
    assert pixels[0, 0] == 1
    np.testing.assert_allclose(pixels[0, 1:], RAMP[0, 1:] / 255, atol=1e-6)


def palette(*colors):
    image = Image.new("P", (2, 2))
    image.putpalette([value for color in colors for value in color])
    image.putdata([0, 1, 1, 0])
    return image


def test_palette_is_looked_up(tmp_path):
    palette((255, 0, 0), (0, 0, 255)).save(tmp_path / "x.png")
    assert Image.open(tmp_path / "x.png").mode == "P"
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", 3)[0], [[1, 0, 0], [0, 0, 1]])


def test_transparent_palette_entry_is_white(tmp_path):
    palette((255, 0, 0), (0, 0, 255)).save(tmp_path / "x.png", transparency=0)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", 3)[0], [[1, 1, 1], [0, 0, 1]])


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_sixteen_bits_keep_their_precision(tmp_path, name):
    levels = np.array([[0, 1, 1000, 1001, 65534, 65535]] * 2, dtype=np.uint16)
    Image.fromarray(levels).save(tmp_path / name)
    pixels = read_image(tmp_path / name)[..., 0]
    np.testing.assert_array_equal((pixels.astype(np.float64) * 65535).round(), levels)
    assert read_image(tmp_path / name, 3).shape == (2, 6, 3)


def test_big_endian_sixteen_bits(tmp_path):
    levels = np.array([[1, 258, 65535]], dtype=">u2")
    Image.frombytes("I;16B", (3, 1), levels.tobytes()).save(tmp_path / "x.tif")
    np.testing.assert_allclose(read_image(tmp_path / "x.tif")[0, :, 0] * 65535, [1, 258, 65535], rtol=1e-5)


def test_one_bit(tmp_path):
    bits = RAMP % 3 == 0
    Image.fromarray(bits).save(tmp_path / "x.png")
    assert Image.open(tmp_path / "x.png").mode == "1"
    np.testing.assert_array_equal(read_image(tmp_path / "x.png")[..., 0], bits)


def test_float_tif_is_taken_as_it_is(tmp_path):
    Image.fromarray(np.array([[0.0, 0.123456, 1.0]], dtype=np.float32)).save(tmp_path / "x.tif")
    np.testing.assert_allclose(read_image(tmp_path / "x.tif")[0, :, 0], [0, 0.123456, 1], atol=1e-7)


def test_cmyk_jpg(tmp_path):
    image = Image.new("CMYK", (16, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (8, 0, 16, 8))
    image.save(tmp_path / "x.jpg", quality=95)
    pixels = read_image(tmp_path / "x.jpg")
    assert pixels.shape == (8, 16, 1)
    np.testing.assert_allclose(pixels[:, :8], 1, atol=0.02)
    np.testing.assert_allclose(pixels[:, 8:], 0, atol=0.02)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_rotation_is_applied(tmp_path, orientation):
    upright = Image.fromarray(RGB)
    stored = ImageOps.exif_transpose(upright)  # a copy without orientation
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    pixels = read_image(tmp_path / "x.png", 3)
    turned = {
        2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.swapaxes(0, 1),
        6: np.rot90(RGB, -1), 7: np.rot90(RGB.swapaxes(0, 1), 2), 8: np.rot90(RGB),
    }  # fmt: skip
    np.testing.assert_array_equal(pixels, (turned[orientation] / 255).astype(np.float32))


def test_webp(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "x.webp", lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / "x.webp", 3), (RGB / 255).astype(np.float32))


def test_gray_becomes_three_equal_channels():
    gray = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4, 1)
    pixels = to_channels(gray, 3)
    assert pixels.shape == (3, 4, 3)
    assert (pixels == gray).all()


def test_broken_file_is_told_with_its_name(tmp_path):
    (tmp_path / "x.png").write_text("no image")
    with pytest.raises(UserError, match=r"cannot read image '.*x\.png'"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_every_byte_survives_tensor_and_back(channels):
    pixels = np.repeat((RAMP / 255).astype(np.float32)[..., None], channels, axis=-1)
    tensor = to_tensor(pixels)
    assert tensor.shape == (channels, 16, 16)
    assert (tensor.min(), tensor.max()) == (-1, 1)
    back = to_bytes(tensor)
    np.testing.assert_array_equal(back if channels == 1 else back[..., 2], RAMP)


def test_values_beyond_the_range_are_clamped():
    np.testing.assert_array_equal(to_bytes(torch.tensor([[-1.004, 0.0, 1.004]])), [[0, 128, 255]])


def test_halftone_is_saved_as_one_bit(tmp_path):
    halftone = torch.where(torch.rand(1, 9, 13) > 0.5, 1.0, -1.0)
    save_png(halftone, tmp_path / "new" / "x.png")
    image = Image.open(tmp_path / "new" / "x.png")
    assert (image.mode, image.size) == ("1", (13, 9))
    assert torch.equal(to_tensor(read_image(tmp_path / "new" / "x.png")), halftone)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_other_images_are_saved_with_eight_bits(tmp_path, channels, mode):
    tensor = to_tensor((RGB[..., :channels] / 255).astype(np.float32))
    save_png(tensor, tmp_path / "x.png")
    assert Image.open(tmp_path / "x.png").mode == mode
    np.testing.assert_allclose(to_tensor(read_image(tmp_path / "x.png", channels)), tensor, atol=1e-6)


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    save_png(torch.ones(1, 4, 4), path)
    whole = path.read_bytes()

    def disk_full(self, target, **_):
        target.write_bytes(b"\x89PNG")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", disk_full)
    with pytest.raises(UserError, match=r"cannot write '.*x\.png': No space left on device"):
        save_png(-torch.ones(1, 4, 4), path)
    assert path.read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]
