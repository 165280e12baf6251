"""Estimators: the sampled gradient against expectations in closed form and by enumeration."""

import itertools

import pytest
import torch

from nibkit.errors import UserError
from nibkit.estimators import ESTIMATORS, binarize, get_estimator, per_pixel, relaxed, straight_through
from nibkit.losses import Binarization, BlueNoise, Structure, Tone
from nibkit.losses.tone import tone_loss

TERMS = {"tone": Tone(), "structure": Structure(), "blue": BlueNoise(), "binarization": Binarization()}


def raw_output(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gray_image(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64) * 2 - 1


def gradient(value, leaf):
    return torch.autograd.grad(value, leaf)[0]


def sampled_gradients(output, gray, term, count):
    """Return `count` independent gradients of one image, `[count, 1, H, W]`, and the mean loss."""
    copies = output.detach().expand(count, *output.shape[1:]).clone().requires_grad_()
    loss = per_pixel(copies, gray.expand_as(copies), {"term": term})["term"]
    return count * gradient(loss, copies), loss.detach()


@pytest.mark.parametrize(("sigma", "padding"), [(1.5, "zero"), (2.0, "valid"), (1.0, "reflect")])
def test_per_pixel_is_unbiased_for_the_tone_energy(sigma, padding):
    output, gray, count = raw_output(1, 1, 12, 13).requires_grad_(), gray_image(1, 1, 12, 13), 6000
    # E |A (h - g)|^2 = |A (2p - 1 - g)|^2 + sum over pixels of var(h_a) |A 1_a|^2, with var(h_a) = 4 p (1 - p)
    p = torch.sigmoid(2 * output)
    own = torch.zeros_like(gray)
    for y, x in itertools.product(range(12), range(13)):
        dot = torch.zeros_like(gray)
        dot[..., y, x] = 1
        own[..., y, x] = tone_loss(dot, torch.zeros_like(gray), sigma, padding)
    expected_loss = tone_loss(2 * p - 1, gray, sigma, padding) + (own * 4 * p * (1 - p)).sum()
    expected = gradient(expected_loss, output)

    torch.manual_seed(0)
    samples, loss = sampled_gradients(output, gray, Tone(sigma, padding), count)
    error = samples.mean(dim=0) - expected[0]
    z = error / (samples.std(dim=0) / count**0.5)
    assert z.abs().max() < 5
    assert z.square().mean() < 2  # 1 for an unbiased estimate, neighbours being correlated
    assert error.norm() < 0.05 * expected.norm()
    torch.testing.assert_close(loss, expected_loss.detach(), rtol=0.02, atol=0)


@pytest.mark.parametrize("name", ["tone", "structure"])
def test_per_pixel_is_unbiased_by_enumeration(name):
    # all pixels but four are certain, so the expectation is a sum over 16 halftones
    term, gray, count = TERMS[name], gray_image(1, 1, 12, 12), 4000
    output = 30 * raw_output(1, 1, 12, 12, seed=3).sign()
    open_pixels = [(5, 5), (5, 6), (7, 4), (11, 3)]
    for (y, x), value in zip(open_pixels, (0.1, -0.5, 0.4, 0.8), strict=True):
        output[..., y, x] = value
    output.requires_grad_()
    p = torch.sigmoid(2 * output)
    expected_loss = 0.0
    for colours in itertools.product((-1.0, 1.0), repeat=4):
        halftone, chance = binarize(output.detach()), 1.0
        for (y, x), colour in zip(open_pixels, colours, strict=True):
            halftone[..., y, x] = colour
            chance = chance * (p[0, 0, y, x] if colour > 0 else 1 - p[0, 0, y, x])
        expected_loss = expected_loss + chance * term(halftone, gray)
    expected = gradient(expected_loss, output)

    torch.manual_seed(0)
    samples, loss = sampled_gradients(output, gray, term, count)
    for y, x in open_pixels:
        sample = samples[:, 0, y, x]
        assert (sample.mean() - expected[0, 0, y, x]).abs() < 5 * sample.std() / count**0.5
        assert sample.mean() == pytest.approx(float(expected[0, 0, y, x]), rel=0.2)
    torch.testing.assert_close(loss, expected_loss.detach(), rtol=0.03, atol=0)


def test_per_pixel_of_a_certain_network_is_the_loss_of_its_halftone():
    output, gray = 40 * raw_output(2, 1, 14, 14).sign().requires_grad_(), gray_image(2, 1, 14, 14)
    for name, value in per_pixel(output, gray, TERMS).items():
        torch.testing.assert_close(value.detach(), TERMS[name](binarize(output.detach()), gray))


def test_per_pixel_draws_white_with_its_probability():
    output = torch.full((1, 1, 200, 200), 0.3)
    torch.manual_seed(0)
    seen = []

    class Spy(Tone):
        def forward(self, halftone, gray):
            seen.append(halftone)
            return super().forward(halftone, gray)

    per_pixel(output, torch.zeros_like(output), {"spy": Spy()})
    assert set(seen[0].unique().tolist()) == {-1.0, 1.0}
    assert float(seen[0].mean()) == pytest.approx(torch.tanh(torch.tensor(0.3)).item(), abs=4 / 200)


@pytest.mark.parametrize("name", ["tone", "structure", "blue"])
def test_straight_through_is_the_gradient_at_the_halftone_times_the_slope_of_tanh(name):
    output, gray = raw_output(2, 1, 14, 15).requires_grad_(), gray_image(2, 1, 14, 15)
    value = straight_through(output, gray, {name: TERMS[name]})[name]
    halftone = output.detach().sign().requires_grad_()
    expected = TERMS[name](halftone, gray)
    torch.testing.assert_close(value, expected)
    slope = 1 - torch.tanh(output.detach()) ** 2
    torch.testing.assert_close(gradient(value, output), gradient(expected, halftone) * slope)


def test_relaxed_evaluates_the_hyperbolic_tangent():
    output, gray = raw_output(2, 1, 14, 15).requires_grad_(), gray_image(2, 1, 14, 15)
    soft = torch.tanh(output.detach()).requires_grad_()
    for name, term in TERMS.items():
        value, expected = relaxed(output, gray, {name: term})[name], term(soft, gray)
        torch.testing.assert_close(value, expected)
        slope = 1 - soft.detach() ** 2
        torch.testing.assert_close(gradient(value, output), gradient(expected, soft) * slope)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_gives_scalars_by_name_that_descend(name):
    torch.manual_seed(0)
    gray = gray_image(1, 1, 24, 24) * 0.3
    output = torch.zeros(1, 1, 24, 24, dtype=torch.float64).normal_(std=0.1).requires_grad_()
    optimizer = torch.optim.Adam([output], lr=0.1)
    terms = {"tone": Tone(1.0, "reflect"), "binarization": Binarization()}
    before = terms["tone"](binarize(output.detach()), gray)
    for _ in range(60):
        values = get_estimator(name)(output, gray, terms)
        assert set(values) == set(terms)
        assert all(value.shape == () and value.isfinite() for value in values.values())
        optimizer.zero_grad()
        (values["tone"] + 0.05 * values["binarization"]).backward()
        optimizer.step()
    assert terms["tone"](binarize(output.detach()), gray) < 0.7 * before


def test_binarize_is_white_above_zero():
    values = torch.tensor([-2.0, -1e-9, 0.0, 1e-9, 3.0], dtype=torch.float64)
    assert torch.equal(binarize(values), torch.tensor([-1.0, -1.0, -1.0, 1.0, 1.0], dtype=torch.float64))


def test_an_unknown_estimator_is_answered_with_the_choices():
    with pytest.raises(UserError, match=r"'straight' .*did you mean 'straight_through'.*per_pixel, relaxed"):
        get_estimator("straight")
