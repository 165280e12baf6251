"""The perceptual loss and the stages of VGG, against torchvision's own networks with hooks."""

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch.nn import functional as F
from torchvision.transforms.functional import normalize

from nibkit.errors import UserError
from nibkit.losses import Perceptual
from nibkit.vgg import PERCEPTUAL_LAYER, VggStages, check_vgg, vgg_features

CONV5_1 = {"vgg16": 24, "vgg19": 28}
# the numbers of relu1_1 to relu5_1 among torchvision's features
RELUS = {"vgg16": (1, 6, 11, 18, 25), "vgg19": (1, 6, 11, 20, 29)}
every_network = pytest.mark.parametrize("network", CONV5_1)


@pytest.fixture(scope="module")
def models():
    """The features of torchvision's networks, with random weights."""
    noise = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        wholes = {name: getattr(torchvision.models, name)() for name in CONV5_1}
    networks = {name: whole.features.to_empty(device="cpu").eval() for name, whole in wholes.items()}
    for weight in (weight for network in networks.values() for weight in network.parameters()):
        fan_in = weight[0].numel() if weight.dim() > 1 else 100
        weight.data.normal_(0, (2 / fan_in) ** 0.5, generator=noise)
    return networks


@pytest.fixture(scope="module")
def files(models, tmp_path_factory):
    """Files of the convolutions up to conv5_1."""
    folder = tmp_path_factory.mktemp("vgg")
    for name, last in CONV5_1.items():
        save_file(state_to(models[name], last), folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in CONV5_1}


def state_to(network, last):
    state = network.state_dict()
    return {f"features.{key}": value for key, value in state.items() if int(key.partition(".")[0]) <= last}


def stages(path):
    return VggStages(vgg_features(weights_path=path, layer=PERCEPTUAL_LAYER))


def images(seed, size=32):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def hooked(model, relus, image):
    """Return what torchvision's network answers at these layers to an image that torchvision normalises."""
    seen = {}
    hooks = [
        model[number].register_forward_hook(lambda _, __, answer, number=number: seen.update({number: answer.clone()}))
        for number in relus
    ]
    with torch.no_grad():
        model[: relus[-1] + 1](normalize((image + 1) / 2, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]))
    for hook in hooks:
        hook.remove()
    return [seen[number] for number in relus]


@every_network
def test_stages_are_torchvisions_relus(network, models, files):
    answers = stages(files[network])(images(0))
    assert [tuple(answer.shape[1:]) for answer in answers] == [
        (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)
    ]  # fmt: skip
    for answer, expected in zip(answers, hooked(models[network], RELUS[network], images(0)), strict=True):
        torch.testing.assert_close(answer, expected)
        assert answer.min() == 0  # after the ReLU
        assert answer.max() > 0


def test_the_whole_file_of_torchvision_gives_the_same(models, files, tmp_path):
    torch.save(state_to(models["vgg16"], 99), tmp_path / "whole.pth")
    whole, cut = (stages(path)(images(0)) for path in (tmp_path / "whole.pth", files["vgg16"]))
    assert all(torch.equal(a, b) for a, b in zip(whole, cut, strict=True))


def test_a_stages_answer_is_not_changed_by_the_next(files):
    """VGG's ReLUs work in place: an answer must be of its own memory, and after its ReLU."""
    network = stages(files["vgg16"])
    alone, x = [], images(0)
    for stage in network.stages:
        x = stage(x)
        alone.append(x.clone())
    assert all(torch.equal(a, b) for a, b in zip(network(images(0)), alone, strict=True))


@every_network
def test_the_loss_is_the_weighted_sum_of_mean_differences(network, models, files):
    fake, real = images(1), images(2)
    loss = Perceptual(vgg_features(weights_path=files[network], layer=PERCEPTUAL_LAYER))
    pairs = zip(*(hooked(models[network], RELUS[network], image) for image in (fake, real)), strict=True)
    parts = [float((f - r).abs().mean()) for f, r in pairs]
    expected = parts[0] / 32 + parts[1] / 16 + parts[2] / 8 + parts[3] / 4 + parts[4]
    assert loss(fake, real).item() == pytest.approx(expected, rel=1e-4)
    assert loss(fake, fake).item() == 0


def test_its_gradient_reaches_the_generated_image_only(files):
    loss = Perceptual(vgg_features(weights_path=files["vgg16"], layer=PERCEPTUAL_LAYER))
    fake, real = images(1).requires_grad_(), images(2).requires_grad_()
    loss(fake, real).backward()
    assert fake.grad.isfinite().all()
    assert (fake.grad != 0).float().mean() > 0.9
    assert real.grad is None
    assert all(not weight.requires_grad and weight.grad is None for weight in loss.parameters())


def test_its_gradient_is_torchs_through_torchvision(models, files):
    """No layer in place spoils a gradient."""
    fake, real = images(1), images(2)
    ours, theirs = fake.clone().requires_grad_(), fake.clone().requires_grad_()
    Perceptual(vgg_features(weights_path=files["vgg19"], layer=PERCEPTUAL_LAYER))(ours, real).backward()
    wanted = hooked(models["vgg19"], RELUS["vgg19"], real)
    x = normalize((theirs + 1) / 2, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    total = 0.0
    for number, layer in enumerate(models["vgg19"][:30]):
        x = F.relu(x) if isinstance(layer, torch.nn.ReLU) else layer(x)
        if number in RELUS["vgg19"]:
            stage = RELUS["vgg19"].index(number)
            total = total + (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1)[stage] * F.l1_loss(x, wanted[stage])
    (gradient,) = torch.autograd.grad(total, theirs)
    torch.testing.assert_close(ours.grad, gradient, rtol=1e-3, atol=1e-7)


def test_sixteen_pixels_are_enough(files):
    loss = Perceptual(vgg_features(weights_path=files["vgg16"], layer=PERCEPTUAL_LAYER))
    assert loss(images(1, 16), images(2, 16)).item() > 0


def test_a_file_that_ends_too_early_is_refused_before_training(models, files, tmp_path):
    path = tmp_path / "cut.safetensors"
    save_file(state_to(models["vgg19"], 19), path)
    check_vgg(path)  # enough for the contrast loss
    with pytest.raises(UserError, match=r"end with conv4_1, but conv5_1 is needed") as refusal:
        check_vgg(path, layer=PERCEPTUAL_LAYER)
    assert str(path) in str(refusal.value)
    for whole in files.values():
        check_vgg(whole, layer=PERCEPTUAL_LAYER)
