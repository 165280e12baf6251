"""Which layers of a network go flat."""

import pytest
import torch
from PIL import Image
from torch import nn

import nibkit
from nibkit.errors import UserError
from nibkit.layers import LEAST
from nibkit.registry import build_backbone

# the others work on a regular grid of pixels, which varies by itself
TINY = {"resnet": {"width": 3, "blocks": 1}, "unet": {"width": 2}}


def padded():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 2, 5, padding=2))


def test_deviations_are_those_of_the_inner_half():
    model = padded()
    seen = []
    model[0].register_forward_hook(lambda *a: seen.append(a[2]))
    report = nibkit.flatness(model, torch.zeros(2, 3, 32, 32))
    assert [layer.name for layer in report.layers] == ["0", "2", "(output)"]
    inner = seen[1][..., 8:24, 8:24].double()
    expected = (inner - inner.mean((-2, -1), keepdim=True)).square().mean((-2, -1)).sqrt().mean()
    assert report.layers[0].textured == pytest.approx(float(expected))


def test_zeros_around_the_image_do_not_hide_that_a_network_goes_flat():
    report = nibkit.flatness(padded(), torch.zeros(1, 3, 12, 12))
    assert report.suffers
    assert all(layer.flat and layer.constant < 1e-6 < layer.textured for layer in report.layers)


@pytest.mark.parametrize("name", TINY)
def test_networks_of_ours_go_flat_without_nib_and_not_with_it(name):
    torch.manual_seed(0)
    for nib, suffers in (({"form": "none"}, True), ({}, False)):
        report = nibkit.flatness(build_backbone({"name": name, **TINY[name]}, nib).train())
        assert report.suffers == suffers
        assert ("equip" in report.verdict) == suffers


def test_an_equipped_network_is_told_to_learn_and_then_is_cured():
    model = nibkit.equip(padded())
    assert "has not learned" in nibkit.flatness(model).verdict
    with torch.no_grad():
        nibkit.nib_weights(model)[0].normal_()
    report = nibkit.flatness(model)
    assert not report.suffers
    assert "does not go flat" in str(report)


def test_the_network_is_left_as_it_was():
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(2), nn.Dropout(0.5))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    nibkit.flatness(model)
    assert model[0].padding_mode == "reflect"
    assert model.training
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert not model[0]._forward_hooks


def test_a_table_and_a_plot(tmp_path):
    report = nibkit.flatness(padded())
    lines = str(report).splitlines()
    assert lines[0].split() == ["layer", "constant", "textured", "kept"]
    assert len(lines) == 5
    report.plot(tmp_path / "layers.png")
    with Image.open(tmp_path / "layers.png") as plot:
        assert plot.width > 300


class Wrapped(nn.Module):
    """Takes two inputs and answers by a dictionary."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3)

    def forward(self, x, level):
        return {"out": [self.conv(x) * level], "note": "x"}


def test_several_inputs_and_wrapped_answers():
    for example in ((torch.zeros(1, 2, 40, 40), 2.0), {"x": torch.zeros(1, 2, 40, 40), "level": 2.0}):
        report = nibkit.flatness(Wrapped(), example)
        assert report.layers[-1].textured == pytest.approx(2 * report.layers[0].textured)


@pytest.mark.parametrize(
    ("model", "example", "words"),
    [
        (nn.Linear(2, 2), None, ["no convolution", "Linear"]),
        (Wrapped(), None, ["could not be called", "level", "example="]),
        (padded(), ("no image",), ["holds no image"]),
        (padded(), torch.zeros(1, 3, LEAST - 1, LEAST - 1), [f"{LEAST}x{LEAST}", "larger"]),
    ],
    ids=["linear", "two inputs", "no image", "too small"],
)
def test_mistakes_are_one_sentence(model, example, words):
    with pytest.raises(UserError) as caught:
        nibkit.flatness(model, example)
    for word in words:
        assert word in str(caught.value)
