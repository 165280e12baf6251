"""The noise incentive block against the paper's formulas, written with two convolutions."""

from importlib.resources import files

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from nibkit.errors import UserError
from nibkit.nib import FORMS, NIB, PlainStem, make_noise, make_stem
from nibkit.noise import Bernoulli, BlueNoise, Dynamic, Grid, Normal, Stationary, Uniform
from nibkit.registry import backbone_names, build_backbone

CONFIGS = {
    path.name.removesuffix(".yaml"): OmegaConf.to_container(OmegaConf.create(path.read_text()))
    for path in files("nibkit.configs").joinpath("nib").iterdir()
    if path.name.endswith(".yaml")
}
NOISY = [name for name, config in CONFIGS.items() if config["form"] != "none"]
STATIONARY = [name for name in NOISY if CONFIGS[name]["noise"] != "dynamic"]
# what the two convolutions must hold so that their sum is the image itself: (f1, f2, bias)
NIB_FORMS = [form for form in FORMS if form != "additive"]  # a control, which does not keep the image
IMPULSES = {"impulse": {"distribution": "bernoulli"}}  # what the form cannot do without
PLAIN_WEIGHTS = {"symmetric": (0.5, 0.5, 0.0), "impulse": (2.0, 2.0, -1.0), "feature": (1.0, 0.0, 0.0)}


def paper(form, f1, f2, image, noise):
    if form == "symmetric":
        return f1(image + noise) + f2(image - noise)
    if form == "impulse":
        unit = (image + 1) / 2
        return f1(unit * noise) + f2(unit * (1 - noise))
    return f1(image) + f2(noise)


def images(channels=1, size=(9, 12), batch=2):
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def constant(level, size=24):
    return torch.full((1, 1, size, size), level)


def set_taps(nib, first, second, bias):
    """Make f1 and f2 of a one-channel 1x1 NIB two plain factors."""
    with torch.no_grad():
        nib.conv.weight.copy_(torch.tensor([first, second]).reshape(1, 2, 1, 1))
        nib.conv.bias.fill_(bias)
    return nib


def spread(features):
    features = features.detach()
    return float((features.amax(dim=(-2, -1)) - features.amin(dim=(-2, -1))).max())


@pytest.mark.parametrize("form", NIB_FORMS)
@pytest.mark.parametrize("noise_channels", [None, 1])
@pytest.mark.parametrize(
    "conv", [{}, {"padding": 1}, {"padding": 1, "stride": 2}, {"padding": 1, "padding_mode": "replicate"}], ids=str
)
def test_the_fused_convolution_is_the_papers_sum_of_two(form, noise_channels, conv):
    noise = Stationary(Bernoulli() if form == "impulse" else Normal(), 4)
    nib = NIB(3, 5, 3, **conv, form=form, noise=noise, noise_channels=noise_channels)
    f1 = nn.Conv2d(3, 5, 3, **conv)
    f2 = nn.Conv2d(nib.conv.in_channels - 3, 5, 3, **conv, bias=False)
    f1.load_state_dict({"weight": nib.conv.weight[:, :3], "bias": nib.conv.bias})
    f2.load_state_dict({"weight": nib.conv.weight[:, 3:]})
    origin = torch.tensor([[0, 0], [-7, 100]])
    image = images(3)
    field = noise(2, noise_channels or 3, 9, 12, origin)
    expected = paper(form, f1, f2, image, field)
    torch.testing.assert_close(nib(image, origin), expected, rtol=1e-5, atol=1e-6)


def test_feature_takes_any_number_of_noise_channels():
    nib = NIB(3, 4, form="feature", noise_channels=7)
    assert nib.conv.in_channels == 10
    assert nib(images(3)).shape == (2, 4, 9, 12)


@pytest.mark.parametrize("noise_channels", [None, 1])
@pytest.mark.parametrize("kernel", [{}, {"padding": 1, "stride": 2}], ids=str)
def test_the_additive_control_is_one_convolution_of_the_noisy_image(noise_channels, kernel):
    stem = make_stem(3, 5, 3, {"form": "additive", "seed": 4, "channels": noise_channels}, **kernel)
    image, origin = images(3), torch.tensor([[0, 0], [-7, 100]])
    noisy = image + Stationary(Normal(0.3), 4)(2, noise_channels or 3, 9, 12, origin)
    expected = nn.functional.conv2d(noisy, stem.conv.weight, stem.conv.bias, **kernel)
    assert stem.conv.in_channels == 3
    torch.testing.assert_close(stem(image, origin), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(stem.planes(image, origin), noisy)


@pytest.mark.parametrize("form", NIB_FORMS)
def test_the_image_is_kept_in_full(form):
    noise = Stationary(Bernoulli() if form == "impulse" else Normal())
    nib = set_taps(NIB(1, 1, form=form, noise=noise), *PLAIN_WEIGHTS[form])
    image = images()
    torch.testing.assert_close(nib(image), image, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("form", "taps"), [("symmetric", (0.5, -0.5, 0.0)), ("feature", (0.0, 1.0, 0.0))])
def test_the_noise_does_not_depend_on_the_image(form, taps):
    nib = set_taps(NIB(1, 1, form=form), *taps)
    field = Stationary(Normal(0.3), 0)(2, 1, 9, 12, torch.zeros(2, 2, dtype=torch.int64))
    for image in (images(), torch.zeros(2, 1, 9, 12), -images()):
        torch.testing.assert_close(nib(image), field, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("level", [-0.6, 0.0, 0.7])
def test_shipped_configs_break_constant_images_but_for_none(name, level):
    torch.manual_seed(0)
    stem = make_stem(1, 8, 1, CONFIGS[name])
    features = stem(constant(level))
    assert features.shape == (1, 8, 24, 24)
    if name == "none":
        assert isinstance(stem, PlainStem)
        assert spread(features) == 0
    else:
        assert isinstance(stem, NIB)
        assert spread(features) > 0.02


@pytest.mark.parametrize(
    ("name", "form", "noise"),
    [
        ("symmetric", "symmetric", Stationary(Normal(0.3), 0)),
        ("weak", "symmetric", Stationary(Normal(0.03), 0)),
        ("uniform", "symmetric", Stationary(Uniform(0.3), 0)),
        ("dynamic", "symmetric", Dynamic(Normal(0.3))),
        ("grid", "symmetric", Grid(0.3)),
        ("impulse", "impulse", Dynamic(Bernoulli(0.5))),
        ("feature", "feature", Dynamic(Normal(0.3))),
        ("additive", "additive", Stationary(Normal(0.3), 0)),  # the control
        ("blue", "symmetric", BlueNoise(Uniform(1.0), 0)),  # beyond the paper
    ],
)
def test_shipped_configs_are_the_papers_modes(name, form, noise):
    stem = make_stem(1, 4, 1, CONFIGS[name])
    assert stem.noise == noise
    assert stem.form is FORMS[form]


def test_impulse_works_at_mid_gray_where_a_bare_product_stays_flat():
    nib = NIB(1, 4, form="impulse", noise=Stationary(Bernoulli()))
    assert spread(nib(constant(0.0))) > 0.02
    mask = nib.noise(1, 1, 24, 24, torch.zeros(1, 2, dtype=torch.int64))
    assert spread(constant(0.0) * mask) == 0


@pytest.mark.parametrize("name", STATIONARY)
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_a_tile_with_its_origin_equals_the_crop_of_the_whole(name, kernel_size):
    stem = make_stem(1, 4, kernel_size, CONFIGS[name], padding=kernel_size // 2)
    image, edge = images(size=(20, 20)), kernel_size // 2
    whole = stem(image, torch.tensor([[0, 0], [-50, 31]]))
    tile = stem(image[..., 5:16, 3:14], torch.tensor([[5, 3], [-45, 34]]))
    inside = slice(edge, 11 - edge)
    expected = whole[..., 5:16, 3:14][..., inside, inside]
    torch.testing.assert_close(tile[..., inside, inside], expected, rtol=1e-5, atol=1e-6)


def test_the_default_origin_is_zero_and_others_read_elsewhere():
    nib, image = NIB(1, 4), images()
    assert torch.equal(nib(image), nib(image, torch.zeros(2, 2, dtype=torch.int64)))
    assert (nib(image) - nib(image, torch.ones(2, 2, dtype=torch.int64))).abs().max() > 0.01


def test_images_of_a_batch_do_not_influence_each_other():
    nib, image, origin = NIB(1, 4), images(), torch.tensor([[3, 4], [-9, 70]])
    torch.testing.assert_close(nib(image, origin)[1:], nib(image[1:], origin[1:]))


@pytest.mark.parametrize("form", FORMS)
def test_double_precision(form):
    nib, image = NIB(1, 4, form=form), images()
    single = nib(image)
    double = nib.double()(image.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-5)


def test_plain_stem_is_an_ordinary_convolution_and_ignores_the_origin():
    stem, image = make_stem(3, 5, 3, {"form": "none"}, padding=1, stride=2), images(3)
    expected = nn.functional.conv2d(image, stem.weight, stem.bias, stride=2, padding=1)
    assert torch.equal(stem(image, torch.tensor([[1, 1], [8, -3]])), expected)
    assert set(stem.state_dict()) == {"weight", "bias"}


@pytest.mark.parametrize("form", ["none", *FORMS])
def test_a_stem_without_bias(form):
    stem, image = make_stem(3, 5, 3, {"form": form, **IMPULSES.get(form, {})}, padding=1, bias=False), images(3)
    assert [name for name, _ in stem.named_parameters()] == ["weight" if form == "none" else "conv.weight"]
    planes, weight = (image, stem.weight) if form == "none" else (stem.planes(image), stem.conv.weight)
    torch.testing.assert_close(stem(image), nn.functional.conv2d(planes, weight, padding=1))


def test_an_empty_spec_is_the_papers_default():
    stem = make_stem(2, 3, 1, {})
    assert (stem.form, stem.noise) == (FORMS["symmetric"], Stationary(Normal(0.3), 0))


def test_the_seed_changes_the_field():
    image = constant(0.0)
    first, second = make_stem(1, 4, 1, {"seed": 1}), make_stem(1, 4, 1, {"seed": 2})
    second.load_state_dict(first.state_dict())
    assert (first(image) - second(image)).abs().max() > 0.01


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"form": "symetric"}, ["nib.form", "symetric", "did you mean 'symmetric'?", "none", "impulse"]),
        ({"froms": "none"}, ["key of nib", "froms", "form, noise"]),
        ({"form": "none", "sclae": 1}, ["key of nib", "did you mean 'scale'?"]),
        ({"noise": "stationery"}, ["nib.noise", "did you mean 'stationary'?", "blue, dynamic, grid"]),
        ({"distribution": "gauss"}, ["nib.distribution", "bernoulli, normal, uniform"]),
        ({"channels": 2}, ["nib.channels=2", "3 channels", "use 1 or 3"]),
        ({"form": "feature", "channels": 0}, ["nib.channels=0"]),
    ],
    ids=str,
)
def test_a_bad_spec_is_named_with_the_choices(spec, words):
    with pytest.raises(UserError) as caught:
        make_stem(3, 4, 1, spec)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("distribution", "scale"),
    [("normal", 0.0), ("normal", -0.3), ("uniform", float("inf")), ("normal", float("nan")), ("bernoulli", 1.0)],
)
def test_a_scale_out_of_range_is_refused(distribution, scale):
    with pytest.raises(UserError, match=r"nib\.scale="):
        make_noise("stationary", distribution, scale, 0)


def test_noise_by_name():
    assert make_noise("blue", "uniform", 1.0, 3) == BlueNoise(Uniform(1.0), 3)
    assert make_noise("stationary", "normal", 0.3, 3) == Stationary(Normal(0.3), 3)
    assert make_noise("dynamic", "bernoulli", 0.3, 3) == Dynamic(Bernoulli(0.3))
    assert make_noise("grid", "normal", 0.3, 3) == Grid(0.3)


@pytest.mark.parametrize("form", ["symmetric", "feature"])
@pytest.mark.parametrize("backbone", [name for name in backbone_names(tileable=True) if name != "invertible_grayscale"])
def test_a_quiet_start_is_free_of_noise_but_can_learn_it(form, backbone):
    torch.manual_seed(0)
    network = build_backbone({"name": backbone, "width": 4}, {"form": form, "start": "quiet"}).eval().double()
    image = torch.rand(1, network.in_channels, 32, 32) * 2 - 1
    here, there = (network(image, torch.tensor([[y, 0]])) for y in (0, 8192))
    torch.testing.assert_close(here, there, rtol=0, atol=1e-9)  # other noise, the same answer
    network(image).square().mean().backward()
    stem = network.stem.conv
    toward_noise = stem.weight.grad[:, network.in_channels :]
    if form == "symmetric":
        toward_noise = stem.weight.grad[:, : network.in_channels] - toward_noise
    assert toward_noise.abs().max() > 1e-6
    loud = build_backbone({"name": backbone, "width": 4}, {"form": form}).eval()
    assert (loud(image, torch.tensor([[0, 0]])) - loud(image, torch.tensor([[8192, 0]]))).abs().max() > 1e-3


def test_a_quiet_start_keeps_the_variance_of_the_image():
    torch.manual_seed(0)
    quiet, plain = (make_stem(1, 4096, 1, nib) for nib in ({"form": "symmetric", "start": "quiet"}, {"form": "none"}))
    quiet.begin()
    on_image = quiet.conv.weight[:, :1] + quiet.conv.weight[:, 1:]
    assert float((on_image.std() / plain.weight.std()).detach()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("form", ["impulse", "additive"])
def test_a_quiet_start_needs_a_form_that_has_one(form):
    with pytest.raises(UserError, match=f"nib.start=quiet cannot be had with nib.form={form}"):
        NIB(1, 2, form=form, start="quiet")
