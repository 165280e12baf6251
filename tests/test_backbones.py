"""Every registered backbone: sizes, reach, and a border that does not break flatness."""

import pytest
import torch
from torch import nn

from nibkit.errors import UserError
from nibkit.registry import backbone_names, build_backbone

TINY = {
    "resnet": {"width": 4, "blocks": 2},
    "unet": {"width": 2},
    "autoencoder": {"width": 4, "latent": 6, "in_channels": 1, "out_channels": 1},
    "grayscale_encoder": {"width": 4, "in_channels": 1, "out_channels": 1},
    "grayscale_decoder": {"width": 4, "blocks": 2, "in_channels": 1, "out_channels": 1},
    "subpixel": {"width": 4, "blocks": 1, "in_channels": 1, "out_channels": 1},
    "invertible_grayscale": {
        "encoder": {"width": 4}, "decoder": {"width": 4, "blocks": 1}, "in_channels": 1, "out_channels": 1,
    },
}  # fmt: skip
PERIOD = {"autoencoder": 4, "subpixel": 2}  # of the answer to a constant: both turn channels into pixels
NETWORKS = [name for name in backbone_names(tileable=True) if name != "invertible_grayscale"]  # that is two of them
NONE, SYMMETRIC = {"form": "none"}, {"form": "symmetric"}
every_backbone = pytest.mark.parametrize("name", backbone_names(tileable=True))
every_network = pytest.mark.parametrize("name", NETWORKS)
# a replicated border does not continue a pattern: the autoencoder's, which its convolutions read, is left out
keeps_constants = pytest.mark.parametrize(
    ("name", "training"), [(n, t) for n in NETWORKS for t in (True, False) if not (t and n == "autoencoder")]
)
every_padding = pytest.mark.parametrize("padding", ["extend", "zeros"])


def tiny(name, nib=NONE, **options):
    torch.manual_seed(0)
    network = build_backbone({"name": name, **TINY.get(name, {}), **options}, nib)
    for weight in network.parameters():
        if not weight.any():  # layers that begin at 0 would hide what they see
            nn.init.normal_(weight, std=0.1)
    return network


def noise_image(height, width, channels=1, batch=1):
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def spread(x):
    x = x.detach()
    return float((x.amax(dim=(-2, -1)) - x.amin(dim=(-2, -1))).max())


def spread_by_phase(x, name):
    """Return the spread over the pixels that are alike to a network of this name: all, or every n-th."""
    period = PERIOD.get(name, 1)
    return max(spread(x[..., i::period, j::period]) for i in range(period) for j in range(period))


def make_positive(network):
    """Give a network positive weights only, so that no path of the gradient cancels or is cut by a ReLU or tanh."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Tanh):
            module.forward = lambda x: x
    return network.double().eval()


def seen_pixels(network, size, y, x):
    """Return first and last row and column of the image that the output pixel (y, x) depends on."""
    image = torch.ones(1, network.in_channels, size, size, dtype=torch.float64, requires_grad=True)
    network(image)[0, 0, y, x].backward()
    touched = (image.grad != 0).any(dim=1)[0]
    rows, columns = touched.any(dim=1).nonzero(), touched.any(dim=0).nonzero()
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


@every_backbone
@every_padding
@pytest.mark.parametrize("size", [(1, 1), (7, 9), (33, 40)])
@pytest.mark.parametrize("training", [True, False])
def test_the_answer_has_the_size_of_the_image(name, padding, size, training):
    network = tiny(name, SYMMETRIC, padding=padding, in_channels=3, out_channels=2).train(training)
    answer = network(noise_image(*size, channels=3, batch=2))
    assert answer.shape == (2, 2, *size)
    assert answer.isfinite().all()


@pytest.mark.parametrize("nib", [NONE, SYMMETRIC], ids=str)
def test_resnet_sees_41_by_41_pixels(nib):
    network = make_positive(build_backbone({"name": "resnet", "width": 1, "padding": "zeros"}, nib))
    assert seen_pixels(network, 51, 25, 24) == (5, 45, 4, 44)


@pytest.mark.parametrize("phase", range(8))
def test_unet_sees_183_by_183_pixels_at_every_phase(phase):
    network = make_positive(build_backbone({"name": "unet", "width": 1, "padding": "zeros"}, NONE))
    y, x = 96 + phase, 96 + (3 * phase + 1) % 8
    top, bottom, left, right = seen_pixels(network, 208, y, x)
    assert (bottom - top + 1, right - left + 1) == (183, 183)
    assert top < y < bottom
    assert left < x < right


@every_network
def test_the_margin_is_how_far_the_answer_sees_beyond_the_image(name):
    network = make_positive(tiny(name, padding="zeros"))
    step = network.multiple
    first = -(-network.margin // step) * step + step  # where an image would begin, amidst real neighbours
    views = [seen_pixels(network, 2 * first + step, y, y) for y in range(first, first + step)]
    before = first - min(top for top, _, _, _ in views)
    after = max(bottom - (first + phase) for phase, (_, bottom, _, _) in enumerate(views))
    assert max(before, after) == network.margin


@keeps_constants
@pytest.mark.parametrize("size", [(24, 40), (33, 17)])
def test_extended_without_nib_a_constant_stays_constant_up_to_the_border(name, training, size):
    network = tiny(name).train(training)
    for level in (-0.7, 0.0, 0.4):
        assert spread_by_phase(network(torch.full((1, 1, *size), level)), name) <= 1e-6


@keeps_constants
def test_extended_nothing_of_the_border_reaches_a_constant_even_undamped(name, training):
    # a fresh network damps what comes from afar below any tolerance; positive weights of mean 1 do not
    network = make_positive(tiny(name)).train(training)
    answer = network(torch.full((1, 1, 24, 40), 0.4, dtype=torch.float64))
    assert spread_by_phase(answer, name) <= 1e-9 * float(answer.detach().max())


@every_network
def test_zero_padding_leaks_into_a_constant(name):
    assert spread_by_phase(tiny(name, padding="zeros")(torch.full((1, 1, 24, 40), 0.4)), name) > 1e-3


@every_backbone
@every_padding
@pytest.mark.parametrize("training", [True, False])
def test_with_nib_a_constant_becomes_varied_in_its_middle(name, padding, training):
    network = tiny(name, SYMMETRIC, padding=padding).train(training)
    assert spread_by_phase(network(torch.full((1, 1, 48, 48), 0.4))[..., 16:32, 16:32], name) > 1e-3


@every_backbone
@every_padding
def test_a_tile_with_its_context_equals_the_crop_of_the_whole(name, padding):
    network = tiny(name, SYMMETRIC, padding=padding).eval()
    context = -(-network.margin // network.multiple) * network.multiple
    start, stop = context + network.multiple, context + 2 * network.multiple + 13
    image, origin = noise_image(stop + context + 9, stop + context + 14), torch.tensor([[1000, -77]])
    begin = start - context
    tile = image[..., begin : stop + context, begin : stop + context]
    with torch.no_grad():
        whole = network(image, origin)[..., start:stop, start:stop]
        part = network(tile, origin + begin)[..., context : context + stop - start, context : context + stop - start]
    torch.testing.assert_close(part, whole, rtol=1e-4, atol=1e-6)
    assert spread(whole) > 1e-3


@every_network
@every_padding
@pytest.mark.parametrize("training", [True, False])
def test_the_first_layer_gets_the_image_at_its_place_in_the_field(name, padding, training):
    network, image, seen = tiny(name, SYMMETRIC, padding=padding).train(training), noise_image(9, 14), []
    network.stem.register_forward_pre_hook(lambda _, arguments: seen.extend(arguments))
    network(image, torch.tensor([[30, -200]]))
    extended, origin = seen
    top, left = 30 - int(origin[0, 0]), -200 - int(origin[0, 1])
    assert top == left == (network.extension() if padding == "extend" else 0)
    assert top > 0 or training or padding == "zeros"  # in training a network may replicate its own borders instead
    assert torch.equal(extended[..., top : top + 9, left : left + 14], image)


@every_network
def test_the_noise_field_continues_beyond_the_border(name):
    # the extension of a constant is what the neighbourhood would be, so a tile needs no context; the pair's decoder
    # reads a gray that is not constant
    network, gray = tiny(name, SYMMETRIC).eval(), torch.full((1, 1, 64, 72), -0.2)
    with torch.no_grad():
        whole = network(gray, torch.tensor([[-40, 8]]))
        tile = network(gray[..., 16:48, 8:40], torch.tensor([[-24, 16]]))
    torch.testing.assert_close(tile, whole[..., 16:48, 8:40], rtol=1e-4, atol=1e-6)


@every_backbone
@every_padding
def test_images_of_a_batch_do_not_influence_each_other(name, padding):
    network = tiny(name, SYMMETRIC, padding=padding)
    image, origin = noise_image(9, 12, batch=2), torch.tensor([[0, 0], [-5, 33]])
    torch.testing.assert_close(network(image, origin)[1:], network(image[1:], origin[1:]), rtol=1e-4, atol=1e-6)


@every_backbone
def test_the_origin_moves_the_noise_and_nothing_else(name):
    image, far = noise_image(16, 16), torch.tensor([[64, 640]])
    with_nib, without = tiny(name, SYMMETRIC), tiny(name, NONE)
    assert torch.equal(with_nib(image), with_nib(image, torch.tensor([[0, 0]])))
    assert (with_nib(image) - with_nib(image, far)).abs().max() > 1e-4
    assert torch.equal(without(image), without(image, far))


@every_backbone
@every_padding
def test_every_parameter_takes_part(name, padding):
    network = tiny(name, SYMMETRIC, padding=padding)
    network(noise_image(16, 16)).sum().backward()
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []


@every_backbone
def test_weights_travel_by_state_dict(name):
    first, image = tiny(name, SYMMETRIC), noise_image(10, 10)
    second = build_backbone({"name": name, **TINY.get(name, {})}, SYMMETRIC)
    assert not torch.equal(first(image), second(image))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(image), second(image))


@every_network
@pytest.mark.parametrize("width", [2, 5])
def test_width_is_the_number_of_features_at_full_size(name, width):
    network = tiny(name, SYMMETRIC, width=width)
    assert network.stem.conv.out_channels == width
    assert network(noise_image(8, 8)).shape == (1, 1, 8, 8)


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_residual_block_widens_the_view_by_eight_pixels(blocks):
    network = make_positive(tiny("resnet", width=1, blocks=blocks, padding="zeros"))
    assert seen_pixels(network, 41, 20, 20) == (20 - 2 * blocks, 20 + 2 * blocks, 20 - 2 * blocks, 20 + 2 * blocks)


def test_the_trimming_resnet_computes_what_padding_would():
    # unpadded convolutions eat the extension; interior pixels are the same either way
    trimming, padded = tiny("resnet", SYMMETRIC), tiny("resnet", SYMMETRIC, padding="zeros")
    padded.load_state_dict(trimming.state_dict())
    image, inner = noise_image(20, 20), (..., slice(4, 16), slice(4, 16))
    torch.testing.assert_close(trimming(image)[inner], padded(image)[inner], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"name": "resnet", "width": 0}, "backbone.width=0"),
        ({"name": "resnet", "blocks": 0}, "backbone.blocks=0"),
        ({"name": "unet", "width": 0}, "backbone.width=0"),
        ({"name": "unet", "train_margin": 7}, "multiple of 8"),
        ({"name": "unet", "train_margin": -8}, "backbone.train_margin=-8"),
        ({"name": "autoencoder", "latent": 0}, "backbone.latent=0"),
        ({"name": "resnet", "in_channels": 0}, "backbone.in_channels"),
        ({"name": "unet", "out_channels": 0}, "backbone.out_channels"),
        ({"name": "unet", "padding": "zero"}, "did you mean 'zeros'?"),
        ({"name": "subpixel", "width": 0}, "backbone.width=0"),
        ({"name": "subpixel", "blocks": 0}, "backbone.blocks=0"),
        ({"name": "grayscale_encoder", "width": 1}, "width=1 of an invertible grayscale network must be at least 2"),
        ({"name": "grayscale_decoder", "blocks": 0}, "blocks=0 of an invertible grayscale decoder"),
        ({"name": "grayscale_encoder", "start": "identiti"}, "did you mean 'identity'?"),
        ({"name": "invertible_grayscale", "decoder": {"width": 1}}, "backbone.decoder: width=1"),
        ({"name": "invertible_grayscale", "encoder": 5}, "backbone.encoder=5 has no keys"),
        ({"name": "invertible_grayscale", "decoder_nib": "none"}, "backbone.decoder_nib=none has no keys"),
    ],
    ids=str,
)
def test_bad_options_are_named(spec, word):
    with pytest.raises(UserError) as caught:
        build_backbone(spec, NONE)
    assert word in str(caught.value)
