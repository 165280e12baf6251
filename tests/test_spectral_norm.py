"""Our spectral norm against torch's own: values, gradients, checkpoints and first draws."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm as torchs

from nibkit.spectral_norm import spectral_norm

PLACE = "parametrizations.weight."


def pair(layout=torch.contiguous_format, **options):
    """Return a convolution with our norm and its twin with torch's, begun by the same draws."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, (4, 2), **options).double()
    layers = []
    for norm in (spectral_norm, torchs):
        torch.manual_seed(1)
        layers.append(norm(copy.deepcopy(conv)).to(memory_format=layout))
    return layers


def image(seed=2):
    return torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_same_state(ours, theirs):
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_it_begins_as_torchs(layout):
    assert_same_state(*pair(layout))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_passes_and_gradients_are_torchs(layout):
    layers = pair(layout)
    for _ in range(3):  # in training each pass refines the estimate
        answers = [layer(image()) for layer in layers]
        torch.testing.assert_close(*answers)
        for answer in answers:
            answer.square().sum().backward()
    assert_same_state(*layers)
    torch.testing.assert_close(*(dict(layer.named_parameters())[PLACE + "original"].grad for layer in layers))


def test_two_passes_before_one_backward_are_torchs():
    """A discriminator sees real and generated images before it learns from either."""
    layers = pair()
    for layer in layers:
        (layer(image(3)).square().sum() + layer(image(4)).square().sum()).backward()
    torch.testing.assert_close(*(dict(layer.named_parameters())[PLACE + "original"].grad for layer in layers))


def test_the_gradient_is_that_of_finite_differences():
    layer = pair()[0].eval()  # u and v are constants there
    module = layer.parametrizations.weight[0]
    weight = layer.parametrizations.weight.original.detach().requires_grad_()
    assert torch.autograd.gradcheck(module, (weight,))


def test_evaluation_does_not_touch_the_estimate():
    layer = pair()[0].eval()
    before = copy.deepcopy(layer.state_dict())
    layer(image())
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


def test_checkpoints_of_torchs_norm_are_read():
    ours, theirs = pair()
    theirs(image())
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours.eval()(image()), theirs.eval()(image()))


def test_under_autocast_the_norm_is_found_in_full():
    layers = pair()
    ours = layers[0].float()
    with torch.autocast("cpu", torch.bfloat16):
        weight = ours.weight
    assert weight.dtype == torch.float32
    assert float(torch.linalg.matrix_norm(weight.detach().flatten(1), 2)) == pytest.approx(1, abs=1e-3)
