"""The registry: names are unique, mistakes are explained, and a new backbone gets its NIB for nothing."""

import pytest
import torch
from torch import nn

from nibkit import registry
from nibkit.backbones import Backbone, ResNet
from nibkit.errors import UserError
from nibkit.registry import (
    backbone_names,
    build_backbone,
    build_discriminator,
    discriminator_names,
    register_backbone,
    register_discriminator,
)

NONE = {"form": "none"}
CHOICES = (
    "autoencoder, grayscale_decoder, grayscale_encoder, invertible_grayscale, pix2pix, resnet, segmenter, spade, "
    "subpixel, unet"
)


class Wide(Backbone):
    margin = 2

    def __init__(self, in_channels=1, out_channels=1, *, nib, padding="extend"):
        super().__init__(in_channels, out_channels, nib, padding)
        self.stem = self.make_stem(4, kernel_size=3)
        self.tail = nn.Conv2d(4, out_channels, 3, **self.conv_padding(3))

    def body(self, image, origin):
        return self.tail(self.stem(image, origin))


@pytest.fixture
def own_registry(monkeypatch):
    for kind, names in ((registry._BACKBONES, backbone_names()), (registry._DISCRIMINATORS, discriminator_names())):
        assert names  # nibkit's own register when first asked for
        monkeypatch.setattr(kind, "classes", dict(kind.classes))


def test_the_shipped_backbones_are_registered():
    assert {"invertible_grayscale", "grayscale_encoder", "grayscale_decoder", "resnet", "subpixel"} <= set(
        backbone_names()
    )
    assert backbone_names() == sorted(backbone_names())


@pytest.mark.usefixtures("own_registry")
def test_a_second_class_of_one_name_is_refused_and_the_first_place_named():
    with pytest.raises(ValueError, match=r"'resnet' is already registered by nibkit\.backbones\.resnet\.ResNet"):
        register_backbone("resnet")(Wide)
    assert isinstance(build_backbone({"name": "resnet", "blocks": 1, "width": 2}, NONE), ResNet)


@pytest.mark.usefixtures("own_registry")
def test_the_same_class_may_be_registered_again():
    assert register_backbone("resnet")(ResNet) is ResNet


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "resnt"}, ["unknown backbone 'resnt'", "did you mean 'resnet'?", CHOICES]),
        ({}, ["unknown backbone", CHOICES]),
        ({"name": "resnet", "widht": 3}, ["'resnet' has no option 'widht'", "did you mean 'width'?", "blocks"]),
        ({"name": "unet", "blocks": 3}, ["'unet' has no option 'blocks'", "train_margin"]),
        ({"name": "unet", "nib": {}}, ["'unet' has no option 'nib'"]),
        ({"name": "subpixel", "start": "normal"}, ["'subpixel' has no option 'start'", "blocks"]),
        ({"name": "invertible_grayscale", "width": 3}, ["'invertible_grayscale' has no option 'width'", "decoder_nib"]),
        ({"name": "invertible_grayscale", "decoder": {"widht": 3}}, ["'grayscale_decoder' has no option 'widht'"]),
        (
            {"name": "invertible_grayscale", "encoder": {"name": "resnt"}},
            ["unknown backbone 'resnt'", "did you mean 'resnet'?"],
        ),
    ],
    ids=str,
)
def test_a_wrong_name_or_option_is_answered_with_the_choices(spec, words):
    with pytest.raises(UserError) as caught:
        build_backbone(spec, NONE)
    for word in words:
        assert word in str(caught.value)


def test_the_spec_is_left_as_it_was():
    spec = {"name": "resnet", "blocks": 1, "width": 2}
    build_backbone(spec, NONE)
    assert spec == {"name": "resnet", "blocks": 1, "width": 2}


@pytest.mark.usefixtures("own_registry")
def test_a_newly_registered_backbone_works_with_and_without_nib():
    register_backbone("wide")(Wide)
    assert "wide" in backbone_names()
    gray = torch.full((1, 1, 11, 13), 0.2)
    flat = build_backbone({"name": "wide"}, NONE)(gray)
    dotted = build_backbone({"name": "wide"}, {"form": "symmetric"})(gray)
    assert flat.shape == dotted.shape == gray.shape
    assert flat.max() - flat.min() < 1e-6
    assert dotted.max() - dotted.min() > 1e-3


class Mean(nn.Module):
    def __init__(self, in_channels, gain=1.0):
        super().__init__()
        self.in_channels, self.gain = in_channels, gain

    def forward(self, x):
        return [[self.gain * x.mean(dim=1, keepdim=True)]]


@pytest.mark.usefixtures("own_registry")
def test_a_newly_registered_discriminator_is_built_from_plain_values():
    assert register_discriminator("mean")(Mean) is Mean
    assert "mean" in discriminator_names()
    assert discriminator_names() == sorted(discriminator_names())
    spec = {"name": "mean", "gain": 2.0}
    discriminator = build_discriminator(spec, 5)
    assert discriminator.in_channels == 5
    assert float(discriminator(torch.ones(1, 5, 2, 2))[0][-1].mean()) == 2
    assert spec == {"name": "mean", "gain": 2.0}


@pytest.mark.usefixtures("own_registry")
def test_kinds_are_apart_and_names_within_a_kind_unique():
    register_discriminator("resnet")(Mean)  # a backbone's name is free here
    assert isinstance(build_discriminator({"name": "resnet"}, 1), Mean)
    assert isinstance(build_backbone({"name": "resnet", "blocks": 1, "width": 2}, NONE), ResNet)
    with pytest.raises(UserError, match="unknown backbone 'patchgan'"):
        build_backbone({"name": "patchgan"}, NONE)
    with pytest.raises(ValueError, match=r"discriminator 'patchgan' is already registered by nibkit\.discriminators\."):
        register_discriminator("patchgan")(Mean)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "patchgn"}, ["unknown discriminator 'patchgn'", "did you mean 'patchgan'?", "multiscale, patchgan"]),
        ({"name": "multiscale", "scale": 3}, ["'multiscale' has no option 'scale'", "did you mean 'scales'?", "width"]),
        ({"name": "patchgan", "in_channels": 3}, ["'patchgan' has no option 'in_channels'", "width, layers"]),
    ],
    ids=str,
)
def test_a_wrong_discriminator_is_answered_with_the_choices(spec, words):
    with pytest.raises(UserError) as caught:
        build_discriminator(spec, 3)
    for word in words:
        assert word in str(caught.value)


def test_what_no_config_gives_is_not_offered():
    with pytest.raises(UserError) as caught:
        build_discriminator({"name": "patchgan", "blocks": 3}, 3)
    assert str(caught.value).endswith("choose from: width, layers")
