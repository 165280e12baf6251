"""The losses of the game and feature matching, against torch's own losses and the formulas written out."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nibkit.errors import UserError
from nibkit.losses import GAN_LOSSES, discriminator_loss, feature_matching_loss, generator_loss

every_kind = pytest.mark.parametrize("kind", GAN_LOSSES)
SIZES = ((7, 9), (4, 5))  # of two scales: a mean over all places would not be the mean over scales


def logits(seed, scale=1.0):
    noise = torch.Generator().manual_seed(seed)
    return [(scale * torch.randn(2, 1, *size, generator=noise)).requires_grad_() for size in SIZES]


def of_real(kind, d):
    """Return torch's loss of logits that should be real."""
    if kind == "hinge":
        return F.hinge_embedding_loss(d, -torch.ones_like(d))  # max(0, 1 - d)
    if kind == "least_squares":
        return F.mse_loss(d, torch.ones_like(d))
    return F.binary_cross_entropy_with_logits(d, torch.ones_like(d))


def of_fake(kind, d):
    """Return torch's loss of logits that should be fake."""
    if kind == "hinge":
        return F.hinge_embedding_loss(-d, -torch.ones_like(d))
    if kind == "least_squares":
        return F.mse_loss(d, torch.zeros_like(d))
    return F.binary_cross_entropy_with_logits(d, torch.zeros_like(d))


def test_these_are_the_kinds():
    assert sorted(GAN_LOSSES) == ["bce", "hinge", "least_squares"]


@every_kind
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_discriminators_loss_is_torchs(kind, scale):
    real, fake = logits(0, scale), logits(1, scale)
    expected = sum(of_real(kind, r) + of_fake(kind, f) for r, f in zip(real, fake, strict=True)) / 2
    torch.testing.assert_close(discriminator_loss(kind, real, fake), expected)


@pytest.mark.parametrize("kind", ["bce", "least_squares"])
def test_the_generators_loss_is_torchs(kind):
    fake = logits(2)
    torch.testing.assert_close(generator_loss(kind, fake), sum(of_real(kind, f) for f in fake) / 2)


def test_the_generators_hinge_has_no_bound():
    fake = logits(3, 10)
    expected = -sum(sum(f.flatten().tolist()) / f.numel() for f in fake) / 2
    assert generator_loss("hinge", fake).item() == pytest.approx(expected, rel=1e-5)


@every_kind
def test_values_by_hand(kind):
    one, minus = [torch.full((1, 1, 1, 1), 1.0)], [torch.full((1, 1, 1, 1), -3.0)]
    log = lambda d: float(torch.log1p(torch.exp(torch.tensor(d, dtype=torch.float64))))  # noqa: E731
    expected = {
        "hinge": (3.0, 4.0 + 2.0, 0.0),
        "least_squares": (16.0, 16.0 + 1.0, 9.0),
        "bce": (log(3.0), log(3.0) + log(1.0), log(-1.0) + log(-3.0)),
    }[kind]
    found = generator_loss(kind, minus), discriminator_loss(kind, minus, one), discriminator_loss(kind, one, minus)
    assert [float(value) for value in found] == pytest.approx(expected, rel=1e-5)


@every_kind
def test_gradients_say_who_wants_what(kind):
    real, fake = ([d.detach().sigmoid().requires_grad_() for d in logits(seed)] for seed in (4, 5))  # all in (0, 1)
    discriminator_loss(kind, real, fake).backward()
    assert all((r.grad < 0).all() for r in real)  # downhill is up
    assert all((f.grad > 0).all() for f in fake)
    judged = [d.detach().clone().requires_grad_() for d in fake]
    generator_loss(kind, judged).backward()
    assert all((f.grad < 0).all() for f in judged)


@every_kind
def test_extreme_logits_keep_it_finite(kind):
    real, fake = ([torch.full((1, 1, 2, 2), value, requires_grad=True)] for value in (-1e4, 1e4))
    loss = discriminator_loss(kind, real, fake) + generator_loss(kind, real)
    loss.backward()
    assert loss.isfinite()
    assert real[0].grad.isfinite().all()


@every_kind
def test_half_precision_is_summed_in_single(kind):
    real, fake = ([d.detach().bfloat16() for d in logits(seed)] for seed in (6, 7))
    found = discriminator_loss(kind, real, fake)
    assert found.dtype == torch.float32
    expected = discriminator_loss(kind, [r.float() for r in real], [f.float() for f in fake])
    assert torch.equal(found, expected)


@pytest.mark.parametrize("loss", [generator_loss, lambda kind, fake: discriminator_loss(kind, fake, fake)])
def test_an_unknown_kind_is_refused_with_the_choices(loss):
    with pytest.raises(UserError, match=r"unknown GAN loss 'hinj'.*did you mean 'hinge'\?.*bce, hinge, least_squares"):
        loss("hinj", logits(0))


def test_unequal_numbers_of_scales_are_no_silent_loss():
    with pytest.raises(ValueError, match="zip"):
        discriminator_loss("hinge", logits(0), logits(1)[:1])


def features(seed):
    noise = torch.Generator().manual_seed(seed)
    shapes = [[(2, 3, 8, 8), (2, 5, 4, 4), (2, 1, 3, 3)], [(2, 3, 4, 4), (2, 5, 2, 2), (2, 1, 1, 1)]]
    return [[torch.randn(*shape, generator=noise).requires_grad_() for shape in scale] for scale in shapes]


def test_feature_matching_is_the_sum_over_layers_and_the_mean_over_scales():
    fake, real = features(0), features(1)
    expected = 0.0
    for scale in range(2):
        for layer in range(2):  # the third are the logits
            f, r = fake[scale][layer].flatten().tolist(), real[scale][layer].flatten().tolist()
            expected += sum(abs(a - b) for a, b in zip(f, r, strict=True)) / len(f) / 2
    assert feature_matching_loss(fake, real).item() == pytest.approx(expected, rel=1e-5)
    assert feature_matching_loss(fake, fake).item() == 0


def test_feature_matching_moves_only_the_fake_and_not_by_its_logits():
    fake, real = features(0), features(1)
    feature_matching_loss(fake, real).backward()
    assert all(feature.grad is None for scale in real for feature in scale)
    for scale in fake:
        assert scale[-1].grad is None
        assert all(layer.grad.any() for layer in scale[:-1])


def test_feature_matching_through_a_network_reaches_the_generated_image_only():
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Conv2d(1, 2, 3), nn.Conv2d(2, 1, 3)])

    def seen(image):
        first = layers[0](image)
        return [[first, layers[1](first)]]

    fake, real = (torch.randn(1, 1, 8, 8).requires_grad_() for _ in range(2))
    feature_matching_loss(seen(fake), seen(real)).backward()
    assert fake.grad.any()
    assert real.grad is None


@pytest.mark.parametrize("part", ["scale", "layer"])
def test_features_of_another_discriminator_are_no_silent_loss(part):
    fake, real = features(0), features(1)
    (real if part == "scale" else real[1]).pop()
    with pytest.raises(ValueError, match="zip"):
        feature_matching_loss(fake, real)
