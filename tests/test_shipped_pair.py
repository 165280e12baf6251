"""The shipped weights of invertible grayscale, through files, on images that nobody has trained on."""

from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from nibkit.cli import main
from nibkit.color import luminance
from nibkit.data.builtin import PHOTOS, BuiltinData
from nibkit.data.images import to_bytes, to_tensor
from nibkit.hide import load_pair
from nibkit.quantize import LEVEL, to_8_bit


def through_files(image):
    """Return gray and restored pixels of an image file."""
    main(["hide", image, "gray.png"])
    main(["restore", "gray.png", "restored.png"])
    return (np.asarray(Image.open(name)) for name in ("gray.png", "restored.png"))


def test_a_photo_comes_back_by_way_of_a_gray_file():
    data = BuiltinData(channels=3)
    data.prepare()
    source = data.evaluation_images["test"]["photo"]
    assert len(source) == len(PHOTOS["test"])
    photo = to_bytes(to_tensor(source.read(0))[:, 100:292, 100:292])
    Image.fromarray(photo).save("photo.png")
    gray, restored = through_files("photo.png")
    assert gray.shape == (192, 192)
    light = to_bytes(luminance(torch.from_numpy(photo.copy()).permute(2, 0, 1)[None] / 127.5 - 1)[0])
    assert peak_signal_noise_ratio(photo, restored) > 33
    assert peak_signal_noise_ratio(light, gray) > 30


@pytest.mark.parametrize("seed", [0, 7])
def test_constant_colours_come_back_within_three_levels(seed):
    pair = load_pair()
    colours = torch.tensor(list(product(range(0, 256, 85), repeat=3))) * LEVEL - 1
    images = colours[:, :, None, None].expand(-1, -1, 64, 64)
    origins = torch.full((len(images), 2), 1000 * seed)
    with torch.inference_mode():
        gray = to_8_bit(pair.encoder(images, origins))
        restored = pair.decoder(gray).clamp(-1, 1)
    assert float((restored - images).abs().mean()) < 3 * LEVEL
    assert float(gray.flatten(1).std(dim=1).mean()) > LEVEL  # there is a texture, in every place
