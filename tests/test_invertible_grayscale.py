"""The networks of invertible grayscale: as published, views, first weights, and what a pair does."""

import pytest
import torch
from test_backbones import make_positive, seen_pixels, spread

from nibkit.backbones import GrayscaleDecoder, GrayscaleEncoder, InvertibleGrayscale, ResNet, Subpixel
from nibkit.backbones.invertible_grayscale import ResidualBlock
from nibkit.color import luminance
from nibkit.config import load_config
from nibkit.filters import gaussian_filter
from nibkit.make import make
from nibkit.nib import NIB, PlainStem
from nibkit.registry import build_backbone

NONE, SYMMETRIC = {"form": "none"}, {"form": "symmetric"}
RESNET, SUBPIXEL = {"name": "resnet", "width": 4, "blocks": 1}, {"name": "subpixel", "width": 4, "blocks": 1}
SMALL = {"width": 4}
HALVES = {"grayscale_encoder": GrayscaleEncoder, "grayscale_decoder": GrayscaleDecoder}
every_half = pytest.mark.parametrize("name", HALVES)


def build(name, nib=NONE, seed=0, **options):
    torch.manual_seed(seed)
    return build_backbone({"name": name, **options}, nib)


def build_pair(nib=NONE, encoder=SMALL, decoder=SMALL, **options):
    pair = build("invertible_grayscale", nib, encoder=encoder, decoder=decoder, **options).eval()
    for half in (pair.encoder, pair.decoder):
        for weight in half.parameters():
            if not weight.any():  # blocks that pass on what they get would make a test blind
                torch.nn.init.normal_(weight, std=0.1)
    return pair


def noise_image(height=20, width=24, batch=1, channels=3):
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def smooth_image(size=48):
    return (4 * gaussian_filter(noise_image(size, size), 2.0)).clamp(-1, 1)


def correlation(a, b):
    return float(torch.corrcoef(torch.stack((a.detach().flatten(), b.flatten())))[0, 1])


@pytest.mark.parametrize(("name", "count"), [("grayscale_encoder", 6_674_688), ("grayscale_decoder", 738_624)])
def test_weights_are_as_many_as_published_and_the_nib_costs_one_more_first_convolution(name, count):
    with torch.device("meta"):  # counted without being drawn
        plain, noisy = (HALVES[name](width=64, start="normal", nib=nib) for nib in (NONE, SYMMETRIC))
    assert sum(weight.numel() for weight in plain.parameters()) == count
    assert sum(weight.numel() for weight in noisy.parameters()) == count + plain.stem.weight.numel()
    assert not [key for network in (plain, noisy) for key in network.state_dict() if not key.endswith("weight")]


def published_view(pixel):
    """Return the first and last pixel that the published encoder sees from an output pixel, layer by layer."""
    ends = []
    for side in (-1, 1):
        end = pixel + side * (1 + 4 + 2)  # last convolution, two blocks, two convolutions after the upper skip
        end = end // 2 + side * 2  # at half the size: two convolutions after the lower skip
        end = end // 2 + side * (8 + 1)  # at a quarter: four blocks, the convolution after the second stride
        end = 2 * end + side * (1 + 1)  # the strided one, the convolution after the first stride
        ends.append(2 * end + side * (1 + 4 + 1))  # the strided one, two blocks, the first convolution
    return tuple(ends)


def test_the_encoder_sees_115_by_115_pixels():
    network = make_positive(build("grayscale_encoder", width=2, padding="zeros"))
    reaches = []
    for y, x in ((64, 66), (65, 67), (66, 64), (67, 65)):
        top, bottom, left, right = seen_pixels(network, 136, y, x)
        assert ((top, bottom), (left, right)) == (published_view(y), published_view(x))
        reaches.append((y - top, bottom - y))
    assert sum(1 + before + after for before, after in reaches) == 4 * 115  # in the mean over the phases of the strides
    assert reaches == [(58, 54), (59, 57), (60, 56), (57, 55)]


@pytest.mark.parametrize("nib", [NONE, SYMMETRIC], ids=str)
def test_the_decoder_sees_37_by_37_pixels(nib):
    network = make_positive(build("grayscale_decoder", nib, width=2, padding="zeros"))
    assert seen_pixels(network, 49, 24, 23) == (6, 42, 5, 41)


@every_half
@pytest.mark.parametrize("width", [16, 64])
def test_normal_weights_have_the_published_spread_and_a_larger_one_in_narrow_networks(name, width):
    network = build(name, SYMMETRIC, width=width, start="normal")
    expected = 0.02 * (64 / width) ** 0.5
    for weight in network.parameters():
        weight, error = (
            weight.detach(),
            4 / (2 * weight.numel()) ** 0.5,
        )  # four times that of a deviation estimated from so many numbers
        assert float(weight.std()) == pytest.approx(expected, rel=error)
        assert abs(float(weight.mean())) < 4 * expected / weight.numel() ** 0.5


@every_half
def test_blocks_that_start_as_identity_pass_on_what_they_get(name):
    network, features = build(name), noise_image(9, 9, channels=64)
    blocks = [module for module in network.modules() if isinstance(module, ResidualBlock)]
    assert len(blocks) == 8
    for block in blocks:
        x = features[:, : block.residual[0].in_channels]
        assert torch.equal(block(x), x)
        assert block.residual[0].weight.std() > 0.01
    published = [module for module in build(name, start="normal").modules() if isinstance(module, ResidualBlock)]
    assert not torch.equal(published[0](features[:, :16]), features[:, :16])


@pytest.mark.parametrize("nib", [NONE, SYMMETRIC, {"form": "feature"}], ids=str)
def test_networks_that_start_as_identity_answer_near_the_luminance(nib):
    image = smooth_image()
    encoder, decoder = (build(name, nib).eval() for name in HALVES)
    gray, restored = encoder(image), decoder(luminance(image))
    assert correlation(gray, luminance(image)) > 0.6
    if nib is NONE:
        assert (gray - luminance(image)).square().mean() < 0.5 * luminance(image).var()
        assert all(correlation(restored[:, c : c + 1], luminance(image)) > 0.6 for c in range(3))


@pytest.mark.parametrize(("encoder", "decoder"), [(SMALL, SMALL), (RESNET, SUBPIXEL)], ids=str)
def test_the_answer_of_a_pair_is_decoded_from_the_rounded_gray(encoder, decoder):
    pair, image, origin = build_pair(SYMMETRIC, encoder, decoder), noise_image(), torch.tensor([[4, -8]])
    seen = []
    pair.decoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    with torch.no_grad():
        restored, gray = pair(image, origin), pair.encode(image, origin)
        pixels = ((gray.clamp(-1, 1) + 1) * 127.5).round()
        expected = pair.decode(pixels / 127.5 - 1, origin)
    assert gray.shape == (1, 1, 20, 24)
    assert restored.shape == image.shape
    torch.testing.assert_close(restored, expected)
    torch.testing.assert_close((seen[0] + 1) * 127.5, pixels, rtol=0, atol=1e-4)
    assert (restored - pair.decode(gray, origin)).abs().max() > 1e-4  # rounding shows


def test_gradients_reach_the_encoder_through_the_rounding():
    pair = build_pair(SYMMETRIC)
    pair(noise_image()).square().mean().backward()
    assert all(weight.grad.abs().max() > 0 for weight in pair.parameters())


def test_the_halves_of_a_pair_are_what_it_is_told():
    pair = build_pair({"form": "feature", "seed": 3}, {**SMALL, "start": "normal"}, RESNET, padding="zeros")
    assert isinstance(pair.encoder, GrayscaleEncoder)
    assert isinstance(pair.decoder, ResNet)
    assert (pair.encoder.in_channels, pair.encoder.out_channels) == (3, 1)
    assert (pair.decoder.in_channels, pair.decoder.out_channels) == (1, 3)
    assert pair.encoder.padding == pair.decoder.padding == "zeros"
    assert pair.encoder.stem.noise.seed == 3
    assert isinstance(pair.decoder.stem, PlainStem)
    default = build("invertible_grayscale")
    assert (type(default.encoder), type(default.decoder)) == (GrayscaleEncoder, GrayscaleDecoder)
    assert (default.margin, default.multiple) == (58 + 18, 4)


@pytest.mark.parametrize(("encoder", "decoder"), [(SMALL, RESNET), (SUBPIXEL, SMALL)], ids=str)
def test_a_decoder_with_nib_reads_the_noise_that_the_encoder_has_read(encoder, decoder):
    pair = build_pair({"form": "symmetric", "seed": 5}, encoder, decoder, decoder_nib={"form": "symmetric", "seed": 5})
    read = {}

    def keep(name):
        def look(stem, arguments):
            image, origin = arguments
            top, left = (int(place) for place in torch.tensor([30, -20]) - origin[0])  # how far it is extended
            noise = stem.noise(1, 1, *image.shape[-2:], origin)
            read[name] = noise[..., top : top + 20, left : left + 24], image[..., top : top + 20, left : left + 24]

        return look

    for name in ("encoder", "decoder"):
        getattr(pair, name).stem.register_forward_pre_hook(keep(name))
    image = noise_image()
    with torch.no_grad():
        pair(image, torch.tensor([[30, -20]]))
    assert isinstance(pair.decoder.stem, NIB)
    assert torch.equal(read["encoder"][1], image)
    assert torch.equal(read["encoder"][0], read["decoder"][0])
    assert read["encoder"][0].shape == (1, 1, 20, 24)


@pytest.mark.parametrize("encoder", [SMALL, RESNET], ids=["published", "resnet"])
@pytest.mark.parametrize("training", [True, False])
def test_without_nib_the_gray_of_a_colour_is_flat_and_with_it_it_has_texture(encoder, training):
    colour = torch.tensor([0.6, -0.5, 0.1])[None, :, None, None].expand(1, 3, 24, 32)
    flat, noisy = (build_pair(nib, encoder).train(training).encode(colour) for nib in (NONE, SYMMETRIC))
    assert spread(flat) < 1e-6
    assert spread(noisy) > 1e-3


@pytest.mark.parametrize("training", [True, False])
def test_the_gray_of_the_sub_pixel_network_has_a_pattern_of_2x2_pixels(training):
    colour = torch.tensor([0.6, -0.5, 0.1])[None, :, None, None].expand(1, 3, 24, 32)
    flat, noisy = (build_pair(nib, SUBPIXEL).train(training).encode(colour) for nib in (NONE, SYMMETRIC))
    assert all(spread(flat[..., y::2, x::2]) < 1e-6 for y in (0, 1) for x in (0, 1))
    assert spread(flat) > 1e-2  # which can hold the colour
    assert spread(noisy[..., ::2, ::2]) > 1e-3


def test_the_sub_pixel_network_begins_near_the_image():
    image = smooth_image()
    encoder, decoder, same = (build("subpixel", in_channels=i, out_channels=o) for i, o in ((3, 1), (1, 3), (3, 3)))
    light = luminance(image)
    for answer, wanted in (
        (encoder(image), light),
        (decoder(light), light.expand(-1, 3, -1, -1)),
        (same(image), image),
    ):
        assert answer.shape == wanted.shape
        assert 0 < (answer - wanted).square().mean() < 0.1 * wanted.var()


@pytest.mark.parametrize(
    ("experiment", "encoder", "decoder", "nibs"),
    [
        ("published", GrayscaleEncoder, GrayscaleDecoder, (False, False)),
        ("published_nib", GrayscaleEncoder, GrayscaleDecoder, (True, False)),
        ("resnet", GrayscaleDecoder, GrayscaleDecoder, (False, False)),
        ("resnet_nib", GrayscaleDecoder, GrayscaleDecoder, (True, False)),
        ("resnet_nib_both", GrayscaleDecoder, GrayscaleDecoder, (True, True)),
        ("subpixel", Subpixel, Subpixel, (False, False)),
        ("subpixel_nib", Subpixel, Subpixel, (True, False)),
    ],
)
def test_the_networks_of_table_3(experiment, encoder, decoder, nibs):
    config = load_config([f"experiment=table3_{experiment}"])
    if experiment.startswith("published"):  # as published, but narrow: it takes time to draw millions of numbers
        assert [config.backbone[half].width for half in ("encoder", "decoder")] == [64, 64]
        assert [config.backbone[half].start for half in ("encoder", "decoder")] == ["normal", "normal"]
        config.backbone.encoder.width = config.backbone.decoder.width = 2
    task = make("task", config.task)
    pair = task.backbone
    assert isinstance(pair, InvertibleGrayscale)
    assert (type(pair.encoder), type(pair.decoder)) == (encoder, decoder)
    assert tuple(isinstance(half.stem, NIB) for half in (pair.encoder, pair.decoder)) == nibs
    if all(nibs):
        assert pair.encoder.stem.noise == pair.decoder.stem.noise
