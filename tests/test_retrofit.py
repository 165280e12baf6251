"""A NIB for networks that are there already: public architectures, and everything that happens to a network."""

import copy
import io
import shutil
from datetime import timedelta

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.nn import functional as F

import nibkit
from nibkit.errors import UserError
from nibkit.ranks import settle
from nibkit.retrofit import NoiseBranch
from nibkit.stem import find_stem

DIFFUSION = {
    "sample_size": 16, "block_out_channels": (8, 16), "norm_num_groups": 4, "attention_head_dim": 8,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
compiler = pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="no C++ compiler here")


def torchvisions(name, **options):
    import torchvision

    return torchvision.models.get_model(name, weights=None, **options)


def timms(name, **options):
    return pytest.importorskip("timm").create_model(name, **options)


def segmenter(kind):
    return getattr(pytest.importorskip("segmentation_models_pytorch"), kind)("resnet18", encoder_weights=None)


def diffusers(kind, **options):
    return getattr(pytest.importorskip("diffusers"), kind)(**options)


# architecture: (how it is made, its stem, what it is called with where that is not an image of 64x64 pixels)
PUBLIC = {
    "torchvision resnet18": (lambda: torchvisions("resnet18"), "conv1", None),
    "torchvision mobilenet_v3_small": (lambda: torchvisions("mobilenet_v3_small"), "features.0.0", None),
    "torchvision swin_t": (lambda: torchvisions("swin_t"), "features.0.0", None),
    "torchvision lraspp": (
        lambda: torchvisions("lraspp_mobilenet_v3_large", weights_backbone=None), "backbone.0.0", None,
    ),
    "timm tf_efficientnet_b0 (its own padding)": (lambda: timms("tf_efficientnet_b0"), "conv_stem", None),
    "timm resnetv2 (standardised weights)": (lambda: timms("resnetv2_50x1_bit"), "stem.conv", None),
    "timm convnext_atto": (lambda: timms("convnext_atto"), "stem.0", None),
    "smp Unet": (lambda: segmenter("Unet"), "encoder.conv1", None),
    "smp FPN": (lambda: segmenter("FPN"), "encoder.conv1", None),
    "diffusers UNet2DModel": (lambda: diffusers("UNet2DModel", **DIFFUSION), "conv_in", (torch.rand(1, 3, 16, 16), 5)),
    "diffusers AutoencoderKL": (
        lambda: diffusers("AutoencoderKL", block_out_channels=(8,), norm_num_groups=4), "encoder.conv_in", None,
    ),
}  # fmt: skip


def answer(model, example):
    """Return a network's answer in evaluation mode, whatever it comes wrapped in."""
    torch.manual_seed(7)
    found = model.eval()(*(example or (torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)),)))
    found = found["out"] if isinstance(found, dict) and "out" in found else found
    return getattr(found, "sample", found)


def small(**options):
    """A generator: its first convolution has every option that a stem can have."""
    torch.manual_seed(0)
    stem = {"kernel_size": 3, "stride": 2, "padding": 1} | options
    return nn.Sequential(
        nn.Conv2d(2, 4, **stem), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1)
    )


def image(side=20, batch=2, seed=3):
    return torch.rand(batch, 2, side, side, generator=torch.Generator().manual_seed(seed))


def learned(model, scale=0.1):
    """Give the noise weights, as learning would."""
    with torch.no_grad():
        for weight in nibkit.nib_weights(model):
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)) * scale)
    return model


@pytest.mark.parametrize("name", PUBLIC)
@torch.no_grad()
def test_a_public_network_answers_the_same_bit_for_bit(name):
    make, stem, example = PUBLIC[name]
    model = make()
    before = answer(model, example)
    assert nibkit.equip(model, example=example) is model
    assert [layer for layer, module in model.named_modules() if hasattr(module, "nib")] == [stem]
    assert torch.equal(answer(model, example), before)
    assert not torch.equal(answer(learned(model), example), before)
    assert nibkit.unequip(model, drop=True) is model
    assert torch.equal(answer(model, example), before)
    assert not any(isinstance(module, NoiseBranch) for module in model.modules())


@pytest.mark.parametrize(
    "options",
    [
        {}, {"kernel_size": (3, 5), "padding": (0, 2), "stride": (1, 3)}, {"dilation": 2, "padding": 2}, {"groups": 2},
        {"bias": False}, {"padding_mode": "reflect"}, {"padding_mode": "circular"}, {"padding": "same", "stride": 1},
    ],
    ids=str,
)  # fmt: skip
def test_any_geometry_is_kept(options):
    model = small(**options)
    before = model(image())
    nibkit.equip(model)
    assert torch.equal(model(image()), before)
    (weight,) = nibkit.nib_weights(model)
    assert weight.shape == model[0].weight.shape
    model(image()).square().sum().backward()
    assert weight.grad.isfinite().all()
    assert weight.grad.any()  # the noise learns from the first step on


def test_it_is_the_symmetric_form():
    """g(I) + h(N) = f1(I + N) + f2(I - N) with f1 = (g + h) / 2 and f2 = (g - h) / 2."""
    model = learned(nibkit.equip(small(stride=1, padding=0).double().eval()))
    conv, x = model[0], image().double()
    noise = conv.nib.noise(2, 2, 20, 20, torch.zeros(2, 2, dtype=torch.int64)).double()
    first, second = (conv.weight + conv.nib.weight) / 2, (conv.weight - conv.nib.weight) / 2
    expected = F.conv2d(x + noise, first, conv.bias) + F.conv2d(x - noise, second)
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize(("options", "expected"), [({}, 0.3), ({"input_range": (0, 255)}, 38.25), ({"std": 0.7}, 0.7)])
def test_the_noise_is_as_strong_as_the_range_asks(options, expected):
    model = nibkit.equip(small(), **options)
    noise = model[0].nib._noise(1, 300, 300)
    assert float(noise.std()) == pytest.approx(expected, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=0.02 * expected)


@pytest.mark.parametrize("noise", ["stationary", "dynamic", "blue"])
def test_noise_is_fixed_in_use_and_read_anywhere_in_training(noise):
    model = learned(nibkit.equip(small(), noise=noise))
    same = torch.equal(model.eval()(image()), model(image()))
    assert same == (noise != "dynamic")
    assert not torch.equal(model.train()(image()), model(image()))


def test_dtype_and_layout_are_the_convolutions():
    model = learned(nibkit.equip(small().to(torch.bfloat16).to(memory_format=torch.channels_last)))
    (weight,) = nibkit.nib_weights(model)
    assert weight.dtype == torch.bfloat16
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert model(image().bfloat16()).dtype == torch.bfloat16
    double = learned(nibkit.equip(small()).double())
    assert double(image().double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert learned(nibkit.equip(small()))(image()).dtype == torch.bfloat16


def test_a_frozen_stem_has_a_frozen_branch():
    model = small().requires_grad_(False)
    assert not nibkit.nib_weights(nibkit.equip(model))[0].requires_grad


def test_state_dicts_go_round():
    model, other = learned(nibkit.equip(small())).eval(), nibkit.equip(small()).eval()
    assert set(model.state_dict()) == {*small().state_dict(), "0.nib.weight"}
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(model(image()), other(image()))


def test_copies_and_pickles_are_networks_of_their_own():
    model = learned(nibkit.equip(small())).eval()
    expected = model(image())
    twin = copy.deepcopy(model)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=False)
    nibkit.unequip(model, drop=True)
    assert torch.equal(twin(image()), expected)
    assert torch.equal(saved(image()), expected)
    assert torch.equal(nibkit.unequip(twin, drop=True)(image()), model(image()))


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=[pytest.mark.slow, compiler])])
def test_a_compiled_network_answers_and_learns_the_same(backend):
    torch.compiler.reset()
    model = learned(nibkit.equip(small())).eval()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    for side in (20, 25):
        torch.testing.assert_close(compiled(image(side)), model(image(side)), rtol=1e-5, atol=1e-6)
    compiled(image()).square().sum().backward()
    assert nibkit.nib_weights(model)[0].grad.any()
    torch.compiler.reset()


def test_a_graph_for_onnx_holds_the_noise(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = learned(nibkit.equip(small())).eval()
    file = tmp_path / "model.onnx"
    with nibkit.held_noise(model, image()):
        torch.onnx.export(model, (image(),), file, dynamo=True, verbose=False)
    (found,) = onnxruntime.InferenceSession(file).run(None, {"input": image(seed=9).numpy()})
    np.testing.assert_allclose(found, model(image(seed=9)).detach().numpy(), rtol=1e-4, atol=1e-5)
    assert model[0].nib.field is None


def test_held_noise_is_that_of_the_field_for_smaller_images_too():
    model = learned(nibkit.equip(small())).eval()
    expected = model(image(12))
    with nibkit.held_noise(model, image(20)):
        assert torch.equal(model(image(12)), expected)


def work(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/rendezvous", timedelta(seconds=60), 2, rank)
    model = nn.parallel.DistributedDataParallel(nibkit.equip(small()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(rank)
    for step in range(3):
        optimizer.zero_grad()
        model(image(seed=10 * rank + step)).square().mean().backward()
        optimizer.step()
    torch.save(nibkit.nib_weights(model)[0].detach(), f"{folder}/{rank}.pt")
    settle()
    distributed.destroy_process_group()


def test_two_processes_learn_one_network(tmp_path):
    multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert torch.equal(first, second)
    assert first.any()


def test_training_lets_the_noise_in():
    """Fed constant grays, a network shall answer with texture: impossible before, easy after."""
    errors = {}
    wanted = torch.where(torch.rand(4, 1, 24, 24, generator=torch.Generator().manual_seed(0)) < 0.5, 1.0, -1.0)
    for equipped in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 1, 1), nn.Tanh())
        if equipped:
            nibkit.equip(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(150):
            optimizer.zero_grad()
            out = model(torch.zeros(4, 1, 26, 26))
            loss = out.mean() ** 2 + (out.std(dim=(-2, -1)) - wanted.std(dim=(-2, -1))).square().mean()
            loss.backward()
            optimizer.step()
        errors[equipped] = float(loss)
    assert errors[False] > 0.5
    assert errors[True] < 0.05


def test_unequipping_before_learning_is_exact_and_needs_no_leave():
    model = small()
    before = model(image())
    assert torch.equal(nibkit.unequip(nibkit.equip(model))(image()), before)
    assert set(model.state_dict()) == set(small().state_dict())
    nibkit.equip(model)  # and again


class TwoEyes(nn.Module):
    """Two convolutions read the image."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.behind = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3), nn.Conv2d(3, 1, 1)

    def forward(self, x):
        return self.behind(self.left(x * 2) + self.right(x.flip(-1)))


class Backwards(nn.Module):
    """The first convolution that is defined is not the first that is used, and the image is scaled before."""

    def __init__(self):
        super().__init__()
        self.last, self.first = nn.Conv2d(3, 1, 1), nn.Conv2d(2, 3, 3)
        self.scale = nn.BatchNorm2d(2)

    def forward(self, x):
        return self.last(self.first(self.scale(x)))


def test_the_stem_is_found_by_what_reads_the_image_not_by_the_order_of_definition():
    model = Backwards().train()
    statistics = model.scale.running_mean.clone()
    state = torch.random.get_rng_state()
    assert find_stem(model, image()) == "first"
    assert model.training
    assert model.scale.training
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())
    assert torch.equal(model.scale.running_mean, statistics)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_arguments_by_name():
    assert find_stem(Backwards(), {"x": image()}) == "first"


def test_both_of_two_readers_can_be_equipped_one_by_one():
    model = TwoEyes()
    before = model(image())
    nibkit.equip(nibkit.equip(model, "left"), "right", seed=1)
    assert len(nibkit.nib_weights(model)) == 2
    assert torch.equal(model(image()), before)
    assert torch.equal(nibkit.unequip(model)(image()), before)


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (TwoEyes, {}, ["2 convolutions", "layer=", "'left' (2 -> 3, 3x3)", "'right'"]),
        (lambda: nn.Sequential(nn.Linear(3, 3), nn.ReLU()), {}, ["no convolution over images", "Linear, ReLU"]),
        (lambda: nn.Conv1d(2, 2, 3), {}, ["no convolution over images", "Conv1d"]),
        (lambda: nn.Conv3d(2, 2, 3), {}, ["no convolution over images", "Conv3d"]),
        (lambda: nibkit.equip(small()), {"layer": "0"}, ["has a NIB already", "unequip"]),
        (lambda: nibkit.equip(small()), {}, ["has a NIB already", "unequip"]),
        (small, {"layer": "o"}, ["no layer 'o'", "'0' (2 -> 4, 3x3)"]),
        (small, {"layer": "1"}, ["'1' is a ReLU"]),
        (small, {"std": 0}, ["std=0", "0.3"]),
        (small, {"std": -1.0}, ["std=-1.0"]),
        (small, {"input_range": (1, 1)}, ["input_range=(1, 1)"]),
        (small, {"noise": "pink"}, ["pink", "blue"]),
        (small, {"noise": "grid"}, ["bad control"]),
        (Backwards, {"example": torch.zeros(1, 7, 9, 9)}, ["could not be tried", "example=", "'first' (2 -> 3, 3x3)"]),
        (lambda: "resnet18", {}, ["nn.Module", "str"]),
    ],
    ids=[str(number) for number in range(15)],
)
def test_mistakes_are_one_sentence_and_change_nothing(make, options, words):
    model = make()
    before = copy.deepcopy(model.state_dict()) if isinstance(model, nn.Module) else None
    with pytest.raises(UserError) as caught:
        nibkit.equip(model, **options)
    for word in words:
        assert word in str(caught.value)
    if before is not None:
        assert before.keys() == model.state_dict().keys()


def test_networks_of_our_own_have_their_nib_built_in():
    from nibkit.registry import build_backbone

    with pytest.raises(UserError, match="nib=none"):
        nibkit.equip(build_backbone({"name": "resnet", "width": 3, "blocks": 1}, {}))
    plain = build_backbone({"name": "resnet", "width": 3, "blocks": 1}, {"form": "none"})
    assert len(nibkit.nib_weights(nibkit.equip(plain))) == 1


def test_taking_away_what_is_not_there_or_has_learned():
    with pytest.raises(UserError, match="no NIB"):
        nibkit.unequip(small())
    model = learned(nibkit.equip(small()))
    with pytest.raises(UserError, match="drop=True"):
        nibkit.unequip(model)
    assert len(nibkit.nib_weights(model)) == 1
