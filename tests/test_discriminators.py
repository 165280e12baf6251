"""The discriminators: published sizes, what a logit sees, and each layer by plain functions."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nibkit.errors import UserError
from nibkit.registry import build_discriminator, discriminator_names

TINY = {"patchgan": {"width": 2}, "multiscale": {"width": 2}}


def tiny(name, in_channels=4, **options):
    torch.manual_seed(0)
    return build_discriminator({"name": name, **TINY[name], **options}, in_channels)


def noise(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def count(discriminator):
    return sum(weight.numel() for weight in discriminator.parameters())


def convolution(before, after, bias):
    return 16 * before * after + bias * after


def test_both_are_registered():
    assert discriminator_names() == ["multiscale", "patchgan"]


@pytest.mark.parametrize("in_channels", [6, 39])
def test_patchgan_has_the_published_number_of_weights(in_channels):
    found = count(build_discriminator({"name": "patchgan"}, in_channels))
    layers = [(in_channels, 64, True), (64, 128, False), (128, 256, False), (256, 512, False), (512, 1, True)]
    batch_norm = 2 * (128 + 256 + 512)
    assert found == sum(convolution(*layer) for layer in layers) + batch_norm
    if in_channels == 6:
        assert found == 2_768_705


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_multiscale_has_the_published_number_of_weights(scales):
    found = count(build_discriminator({"name": "multiscale", "scales": scales}, 39))
    layers = [(39, 64, True), (64, 128, False), (128, 256, False), (256, 512, False), (512, 1, True)]
    assert found == scales * sum(convolution(*layer) for layer in layers)
    if scales == 2:
        assert found == 5_601_410


@pytest.mark.parametrize(("layers", "sees"), [(1, 16), (2, 34), (3, 70)])
def test_a_logit_of_patchgan_sees_a_square(layers, sees):
    discriminator = tiny("patchgan", in_channels=1, layers=layers).eval()
    image = noise(1, 1, 128, 128).requires_grad_()
    logits = discriminator(image)[0][-1]
    middle = logits.shape[-1] // 2
    logits[0, 0, middle, middle].backward()
    seen = image.grad[0, 0] != 0
    for reached in (seen.any(dim=0), seen.any(dim=1)):
        places = reached.nonzero().flatten()
        assert int(places[-1] - places[0]) + 1 == sees


def test_features_of_patchgan_have_these_shapes():
    (features,) = tiny("patchgan")(noise(2, 4, 64, 96))
    expected = [(2, 2, 32, 48), (2, 4, 16, 24), (2, 8, 8, 12), (2, 16, 7, 11), (2, 1, 6, 10)]
    assert [tuple(feature.shape) for feature in features] == expected


def test_features_of_multiscale_have_these_shapes():
    whole, half = tiny("multiscale")(noise(2, 4, 64, 96))
    expected = [(2, 2, 33, 49), (2, 4, 17, 25), (2, 8, 9, 13), (2, 16, 10, 14), (2, 1, 11, 15)]
    assert [tuple(feature.shape) for feature in whole] == expected
    assert [tuple(feature.shape[2:]) for feature in half] == [(17, 25), (9, 13), (5, 7), (6, 8), (7, 9)]


@pytest.mark.parametrize(
    ("name", "widths"), [("patchgan", [2, 4, 8, 16, 16, 16, 16, 1]), ("multiscale", [2, 4, 8, 16, 16, 16, 1])]
)
def test_widths_double_up_to_eight_times(name, widths):
    features = tiny(name, layers=6)(noise(2, 4, 256, 256))[0]
    assert [feature.shape[1] for feature in features] == widths


def test_patchgan_is_these_functions():
    discriminator, image = tiny("patchgan"), noise(3, 4, 64, 64)
    (features,) = discriminator(image)
    convs = [module for module in discriminator.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in discriminator.modules() if isinstance(module, nn.BatchNorm2d)]
    x = image
    for number, (conv, stride) in enumerate(zip(convs, (2, 2, 2, 1, 1), strict=True)):
        x = F.conv2d(x, conv.weight, conv.bias, stride=stride, padding=1)
        if 1 <= number <= 3:
            norm = norms[number - 1]
            mean, var = x.mean(dim=(0, 2, 3), keepdim=True), x.var(dim=(0, 2, 3), keepdim=True, correction=0)
            x = (x - mean) / (var + 1e-5).sqrt() * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
        if number < 4:
            x = torch.where(x > 0, x, 0.2 * x)
        torch.testing.assert_close(features[number], x, rtol=1e-4, atol=1e-5)


def test_multiscale_is_these_functions():
    discriminator, image = tiny("multiscale").eval(), noise(2, 4, 64, 64)
    for number, (features, scale) in enumerate(zip(discriminator(image), discriminator.scales, strict=True)):
        convs = [module for module in scale.modules() if isinstance(module, nn.Conv2d)]
        x = F.avg_pool2d(image, 3, 2, 1, count_include_pad=False) if number else image
        for layer, (conv, stride) in enumerate(zip(convs, (2, 2, 2, 1, 1), strict=True)):
            x = F.conv2d(x, conv.weight, conv.bias, stride=stride, padding=2)
            if 1 <= layer <= 3:
                mean, var = x.mean(dim=(2, 3), keepdim=True), x.var(dim=(2, 3), keepdim=True, correction=0)
                x = (x - mean) / (var + 1e-5).sqrt()
            if layer < 4:
                x = torch.where(x > 0, x, 0.2 * x)
            torch.testing.assert_close(features[layer], x, rtol=1e-4, atol=1e-5)


def test_a_constant_stays_one_on_the_way_to_the_smaller_scale():
    """The pooling does not count its padding: no border arises by it."""
    discriminator = tiny("multiscale", in_channels=1)
    seen = []
    discriminator.scales[1].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    discriminator(torch.full((1, 1, 64, 64), 0.75))
    assert torch.equal(seen[0], torch.full((1, 1, 32, 32), 0.75))


@pytest.mark.parametrize("name", TINY)
def test_an_independent_discriminator_judges_each_image_alone(name):
    """So that real and generated images may go through it together."""
    first, second = noise(2, 4, 64, 64), noise(2, 4, 64, 64, seed=2) * 3
    together = tiny(name)(torch.cat((first, second)))
    alone = [tiny(name)(images) for images in (first, second)]
    same = all(
        torch.allclose(joined, torch.cat(parts), rtol=1e-3, atol=1e-5)
        for joined_scale, *part_scales in zip(together, *alone, strict=True)
        for joined, *parts in zip(joined_scale, *part_scales, strict=True)
    )
    assert same == getattr(tiny(name), "independent", False)


def test_spectral_norm_is_one_in_the_inner_layers():
    discriminator = tiny("multiscale", width=8)
    for _ in range(30):  # each pass in training refines the estimate
        discriminator(noise(1, 4, 32, 32))
    discriminator.eval()
    for scale in discriminator.scales:
        convs = [module for module in scale.modules() if isinstance(module, nn.Conv2d)]
        norms = [float(torch.linalg.matrix_norm(conv.weight.detach().flatten(1), 2)) for conv in convs]
        assert norms[1:4] == pytest.approx([1] * 3, abs=0.02)
        assert max(norms[0], norms[4]) < 0.5  # Xavier's small weights as they are


def test_first_weights_of_patchgan_are_the_published_ones():
    discriminator = tiny("patchgan", 6, width=32)
    for module in discriminator.modules():
        if isinstance(module, nn.Conv2d):
            assert float(module.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
            assert float(module.weight.detach().mean()) == pytest.approx(0, abs=2e-3)
            assert module.bias is None or not module.bias.any()
        if isinstance(module, nn.BatchNorm2d):
            assert float(module.weight.detach().mean()) == pytest.approx(1, abs=0.01)
            assert 0.01 < float(module.weight.detach().std()) < 0.03


def test_first_weights_of_multiscale_are_the_published_ones():
    (scale,) = tiny("multiscale", 6, width=32, scales=1).scales
    plain = [part[0] for part in (scale.parts[0], scale.parts[-1])]
    inner = [part[0].parametrizations.weight.original for part in list(scale.parts)[1:-1]]
    for weight in [conv.weight for conv in plain] + inner:
        after, before = weight.shape[:2]
        expected = 0.02 * (2 / (16 * (before + after))) ** 0.5  # Xavier, normal, gain .02
        assert float(weight.detach().std()) == pytest.approx(expected, rel=0.1)
        assert float(weight.detach().abs().max()) > 2.5 * expected  # uniform ones end at 1.7
    assert not any(conv.bias.any() for conv in plain)


@pytest.mark.parametrize("name", TINY)
def test_every_weight_learns(name):
    discriminator = tiny(name)
    sum(scale[-1].square().mean() for scale in discriminator(noise(2, 4, 64, 64))).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in discriminator.parameters())
    assert all(weight.grad.any() for weight in discriminator.parameters())


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "patchgan", "layers": 0}, ["discriminator.layers=0", "at least 1", "3 as published"]),
        ({"name": "multiscale", "layers": 1}, ["discriminator.layers=1", "at least 2"]),
        ({"name": "multiscale", "scales": 0}, ["discriminator.scales=0", "at least 2 and 1"]),
    ],
    ids=str,
)
def test_mistakes_are_explained(spec, words):
    with pytest.raises(UserError) as caught:
        build_discriminator(spec, 4)
    for word in words:
        assert word in str(caught.value)
