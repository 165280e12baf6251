"""Blocks together are the whole image's answer, and one and the same however they are grouped."""

import numpy as np
import pytest
import torch

from nibkit import tiles
from nibkit.data.gray import to_tone
from nibkit.nib import NIB
from nibkit.noise import Dynamic, Normal
from nibkit.registry import build_backbone
from nibkit.tiles import answer_strips, block_side, hold_still, noise_shift

NETWORKS = {"resnet": {"width": 4, "blocks": 2}, "unet": {"width": 2}}
every_network = pytest.mark.parametrize("name", NETWORKS)


def network(name, nib="symmetric", **options):
    torch.manual_seed(0)
    return build_backbone({"name": name, **NETWORKS[name], **options}, {"form": nib}).eval()


def plane(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 65536, (height, width), dtype=np.uint16)


def whole(net, image, shift=(0, 0)):
    with torch.inference_mode():
        return net(torch.from_numpy(to_tone(image))[None, None], torch.tensor([shift]))[0]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Blocks of 32 pixels for the small ResNet, of 384 for the U-Net, so that small images have several."""
    monkeypatch.setattr(tiles, "SIDE", 32)


@every_network
@pytest.mark.parametrize("nib", ["symmetric", "none"])
def test_blocks_are_the_whole_images_answer(name, nib):
    net = network(name, nib)
    side = block_side(net)
    image, shift = plane(side + 9, side + 40), (8 * 7, -8 * 5)
    answer = torch.cat(list(answer_strips(net, image, shift=shift)), dim=1)
    expected = whole(net, image, shift)
    assert answer.shape == expected.shape == (1, *image.shape)
    assert expected.std() > 1e-3
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (40, 3), (32, 32), (33, 64)])
def test_every_size_up_to_the_border(size):
    net, image = network("resnet"), plane(*size)
    answer = torch.cat(list(answer_strips(net, image)), dim=1)
    torch.testing.assert_close(answer, whole(net, image), rtol=0, atol=1e-5)


def test_the_values_do_not_depend_on_the_tile():
    net, image = network("resnet"), plane(150, 70)
    strips = {tile: list(answer_strips(net, image, tile)) for tile in (None, 1, 33, 100, 10**6)}
    heights = {tile: [strip.shape[1] for strip in found] for tile, found in strips.items()}
    assert heights[None] == heights[1] == [32, 32, 32, 32, 22]
    assert heights[33] == [64, 64, 22]
    assert heights[100] == [128, 22]
    assert heights[10**6] == [150]
    first = torch.cat(strips[None], dim=1)
    for found in strips.values():
        assert torch.equal(torch.cat(found, dim=1), first)


def test_a_block_is_the_same_in_a_larger_image():
    """Far from the border nothing but its surroundings is seen: more image changes no bit."""
    net, image = network("resnet"), plane(128, 128)
    large = next(answer_strips(net, image, 10**6))
    small = next(answer_strips(net, image[:100, :100], 10**6))
    assert torch.equal(large[:, :64, :64], small[:, :64, :64])


def test_zero_padding_inside_is_as_in_the_whole_image():
    net, image = network("resnet", padding="zeros"), plane(80, 80)
    answer = torch.cat(list(answer_strips(net, image)), dim=1)
    inside = (..., slice(net.margin, -net.margin), slice(net.margin, -net.margin))
    torch.testing.assert_close(answer[inside], whole(net, image)[inside], rtol=0, atol=1e-5)


def test_the_side_of_a_block(monkeypatch):
    monkeypatch.setattr(tiles, "SIDE", 256)
    assert block_side(build_backbone({"name": "resnet", "width": 1}, {"form": "none"}).eval()) == 256
    assert block_side(network("unet")) == 512
    net = network("unet")
    net.multiple = 24
    assert block_side(net) % 24 == 0


def test_progress_counts_blocks():
    calls = []
    list(answer_strips(network("resnet"), plane(40, 70), progress=lambda *call: calls.append(call)))
    assert calls == [(index, 6) for index in range(1, 7)]


@every_network
def test_an_extended_image_has_the_answer_of_the_plain_one(name):
    net = network(name)
    image = torch.from_numpy(to_tone(plane(16, 24)))[None, None]
    reach, origin = net.extension(), torch.tensor([[16, -8]])
    extended = torch.nn.functional.pad(image, (reach,) * 4, mode="replicate")
    with torch.inference_mode():
        assert torch.equal(net.answer_extended(extended, origin, reach), net(image, origin))


def color_network(name, **options):
    return network(name, in_channels=3, out_channels=2, **options)


@every_network
@pytest.mark.parametrize("size", [(1, 1), (3, 50), (75, 41)])
def test_colour_images(name, size):
    """Of any size, off the network's multiple too."""
    net = color_network(name)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    shift = noise_shift(3, net.multiple)
    with torch.inference_mode():
        tensor = torch.from_numpy(image / np.float32(255) * 2 - 1).permute(2, 0, 1)[None]
        expected = net(tensor, torch.tensor([shift]))[0]
    answer = torch.cat(list(answer_strips(net, image, shift=shift)), dim=1)
    assert answer.shape == (2, *size)
    assert size == (1, 1) or expected.std() > 0.1
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-4)


def test_blocks_of_a_colour_image_begin_at_multiples_and_fit_together():
    net = color_network("unet")
    side = block_side(net)
    image = np.random.default_rng(0).integers(0, 256, (side + 5, 30, 3), dtype=np.uint8)
    answer = torch.cat(list(answer_strips(net, image)), dim=1)
    with torch.inference_mode():
        expected = net(torch.from_numpy(image / np.float32(255) * 2 - 1).permute(2, 0, 1)[None])[0]
    assert side % net.multiple == 0
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-4)


def test_a_plane_holds_8_bits_16_bits_or_floats():
    gray = np.random.default_rng(1).integers(0, 256, (40, 50), dtype=np.uint8)
    wide = gray.astype(np.uint16) * np.uint16(257)
    net = network("resnet")
    answers = [torch.cat(list(answer_strips(net, found)), dim=1) for found in (gray, wide, to_tone(wide))]
    assert answers[0].std() > 1e-3
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


def test_noise_of_every_call_is_held_still():
    net = network("resnet")
    nib = next(module for module in net.modules() if isinstance(module, NIB))
    nib.noise = Dynamic(Normal(2.0))
    image = torch.zeros(1, 1, 20, 20)
    with torch.inference_mode():
        assert not torch.equal(net(image), net(image))
        hold_still(net, 5)
        first = net(image)
        assert torch.equal(first, net(image))
        nib.noise = Dynamic(Normal(2.0))
        assert not torch.equal(first, hold_still(net, 6)(image))
