"""What happens to a gray file on its way: against Pillow's own files, repeatable, and put back as it was."""

from functools import partial

import numpy as np
import pytest
import torch
from conftest import draw
from PIL import Image

from nibkit.data.images import read_image, save_png
from nibkit.errors import UserError
from nibkit.noise import Normal, Stationary
from nibkit.quantize import LEVEL, to_8_bit
from nibkit.robustness import ATTACKS, half_level_noise, jpeg, turned, turned_back


def grays(count=2, height=40, width=56):
    """Return different gray images ``[B, 1, H, W]`` on the 8-bit levels."""
    pixels = np.stack([draw(i, height, width) for i in range(count)])
    return to_8_bit(torch.from_numpy(pixels)[:, None] / 127.5 - 1)


def level_distance(image):
    """How far each value is from the nearest 8-bit level, in levels."""
    scaled = (image.double() + 1) * 127.5
    return (scaled - scaled.round()).abs()


@pytest.mark.parametrize("quality", [95, 85, 75, 10])
def test_jpeg_is_what_pillow_reads_from_its_file(quality, tmp_path):
    compressed = jpeg(grays(), quality)
    for gray, image in zip(grays(), compressed, strict=True):
        save_png(gray, tmp_path / "gray.png")
        with Image.open(tmp_path / "gray.png") as file:
            file.save(tmp_path / "gray.jpg", quality=quality)
        read = read_image(tmp_path / "gray.jpg")[..., 0] * 2 - 1
        assert image[0].numpy() == pytest.approx(read, abs=1e-6)


def test_jpeg_loses_more_at_lower_quality_and_stays_on_the_levels():
    loss = [float((jpeg(grays(), quality) - grays()).square().mean()) for quality in (95, 85, 75)]
    assert 0 < loss[0] < loss[1] < loss[2]
    assert level_distance(jpeg(grays(), 75)).max() < 1e-3
    assert jpeg(torch.full((1, 1, 16, 16), -1.0), 75).eq(-1).all()
    assert jpeg(torch.full((1, 1, 16, 16), 1.0), 75).eq(1).all()


@pytest.mark.parametrize("quality", [0, 101])
def test_jpeg_of_no_quality_is_refused(quality):
    # Pillow takes 0 for its default, 75
    with pytest.raises(UserError, match=f"quality {quality} is not possible; use 1 to 100"):
        jpeg(grays(), quality)


def test_half_level_noise_is_uniform_and_never_another_level():
    gray = grays(1, 256, 256)
    noise = (half_level_noise(gray) - gray) / LEVEL
    assert noise.abs().max() <= 0.5 + 1e-3  # float32
    assert (torch.histc(noise, 10, -0.5, 0.5) / noise.numel()).tolist() == pytest.approx([0.1] * 10, abs=0.01)
    assert to_8_bit(half_level_noise(gray)).sub(gray).abs().mean() < 1e-3 * LEVEL
    assert float(level_distance(half_level_noise(gray)).mean()) == pytest.approx(0.25, abs=0.01)  # not rounded


def test_half_level_noise_has_nothing_of_the_networks_noise():
    gray = torch.zeros(1, 1, 256, 256)
    own = Stationary(Normal(0.3), 0)(1, 1, 256, 256, torch.zeros(1, 2, dtype=torch.int64))
    pair = torch.stack([half_level_noise(gray).flatten(), own.flatten()])
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.02


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_keep_the_shape_and_repeat_exactly(name):
    attack, put_back = ATTACKS[name]
    hurt = attack(grays())
    assert torch.equal(hurt, attack(grays()))
    assert hurt.dtype == torch.float32
    assert put_back(hurt).shape == grays().shape
    assert put_back(hurt.expand(-1, 3, -1, -1)).shape == (2, 3, 40, 56)
    assert not (hurt.shape == grays().shape and torch.equal(hurt, grays()))
    # an image is hurt in the same way beside others
    assert torch.equal(attack(grays()[1:]), hurt[1:])


def test_the_names_say_the_quality():
    assert set(ATTACKS) == {"jpeg95", "jpeg85", "jpeg75", "half_level", "rotated"}
    for quality in (95, 85, 75):
        attack, put_back = ATTACKS[f"jpeg{quality}"]
        assert torch.equal(put_back(attack(grays())), jpeg(grays(), quality))


def blur(weights, gray):
    return torch.nn.functional.conv2d(gray, weights, padding=1)


def test_a_turn_costs_nothing_where_the_decoder_does_not_mind():
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(3, 1, 3, 3, generator=generator)
    whole = sum(weights.rot90(k, (-2, -1)) for k in range(4))
    attack, put_back = ATTACKS["rotated"]
    indifferent, minding = partial(blur, whole), partial(blur, weights)
    assert torch.allclose(put_back(indifferent(attack(grays()))), indifferent(grays()), atol=1e-5)
    assert not torch.allclose(put_back(minding(attack(grays()))), minding(grays()), atol=1e-2)


def test_turned_is_that_of_numpy():
    assert np.array_equal(turned(grays())[0, 0], np.rot90(grays()[0, 0].numpy()))
    assert torch.equal(turned_back(turned(grays())), grays())
