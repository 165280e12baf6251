"""VGG features against torchvision's own networks; wrong and missing files."""

import os
import socket
from http.client import IncompleteRead
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torchvision.transforms.functional import normalize

from nibkit.errors import UserError
from nibkit.losses import Contrast
from nibkit.vgg import PATIENCE, check_vgg, vgg_features

CONV4_1 = {"vgg16": 17, "vgg19": 19}
CONV2_2 = 7
every_network = pytest.mark.parametrize("network", CONV4_1)


@pytest.fixture(scope="module")
def models():
    """The features of torchvision's whole networks, with random weights; only they get memory."""
    noise = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        wholes = {name: getattr(torchvision.models, name)() for name in CONV4_1}
    networks = {name: whole.features.to_empty(device="cpu") for name, whole in wholes.items()}
    for weight in (weight for network in networks.values() for weight in network.parameters()):
        fan_in = weight[0].numel() if weight.dim() > 1 else 100
        weight.data.normal_(0, (2 / fan_in) ** 0.5, generator=noise)
    return networks


def state_to(network, last, prefix="features."):
    """The weights of the features 0 to last, by their names in torchvision's files."""
    state = network.state_dict()
    return {f"{prefix}{key}": value for key, value in state.items() if int(key.partition(".")[0]) <= last}


def write(path, state):
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


def images(seed=0, size=32):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def expected_features(network, last, image):
    """Torchvision's features of an image in [-1, 1], normalised by torchvision."""
    with torch.no_grad():
        image = normalize((image + 1) / 2, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
        for layer in network[: last + 1]:
            image = layer(image)
    return image


@every_network
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_features_are_those_of_torchvision(network, suffix, models, tmp_path):
    path = write(tmp_path / f"cut{suffix}", state_to(models[network], CONV4_1[network]))
    features = vgg_features(weights_path=path)
    expected = expected_features(models[network], CONV4_1[network], images())
    assert expected.shape == (2, 512, 4, 4)
    assert expected.min() < 0  # before the ReLU
    torch.testing.assert_close(features(images()), expected)


def test_contrast_is_the_difference_of_features(models, tmp_path):
    path = write(tmp_path / "cut.safetensors", state_to(models["vgg16"], 17))
    contrast = Contrast(vgg_features(weights_path=path), size=None)
    of_gray, of_image = (
        expected_features(models["vgg16"], 17, one) for one in (images()[:, :1].repeat(1, 3, 1, 1), images())
    )
    expected = (57.63 * (of_gray - of_image)).square().mean().item()
    assert contrast(images()[:, :1], images()).item() == pytest.approx(expected, rel=1e-3)
    assert contrast(images()[:, :1], images()[:, :1].repeat(1, 3, 1, 1)).item() == 0


@every_network
def test_whole_half_precision_file_without_prefix(network, models, tmp_path):
    """Of both networks the file is told apart by its own convolutions, whatever is asked for."""
    state = {key: value.half() for key, value in state_to(models[network], 99, prefix="").items()}
    path = write(tmp_path / "whole.pth", state | {"classifier.0.weight": torch.zeros(2, 2)})
    features = vgg_features("vgg16", path)
    assert {weight.dtype for weight in features.parameters()} == {torch.float32}
    expected = expected_features(models[network], CONV4_1[network], images())
    assert (features(images()) - expected).std() < 0.01 * expected.std()


def test_another_layer_and_a_file_that_ends_with_it(models, tmp_path):
    path = write(tmp_path / "cut.safetensors", state_to(models["vgg16"], CONV2_2))
    expected = expected_features(models["vgg16"], CONV2_2, images())
    torch.testing.assert_close(vgg_features(weights_path=path, layer="conv2_2")(images()), expected)
    with pytest.raises(UserError, match=r"end with conv2_2, but conv4_1 is needed"):
        vgg_features(weights_path=path)


def test_features_are_frozen_but_pass_gradients(models, tmp_path):
    path = write(tmp_path / "cut.safetensors", state_to(models["vgg19"], 19))
    features = vgg_features(weights_path=path)
    assert not features.training
    assert not any(weight.requires_grad for weight in features.parameters())
    gray = images()[:, :1].requires_grad_()
    Contrast(features, size=None)(gray, images()).backward()
    assert gray.grad.isfinite().all()
    assert gray.grad.abs().sum() > 0


def test_building_draws_no_random_numbers(models, tmp_path):
    """A run with the term so begins with the same network as one without."""
    path = write(tmp_path / "cut.safetensors", state_to(models["vgg16"], 17))
    before = torch.get_rng_state()
    vgg_features(weights_path=path)
    assert torch.equal(torch.get_rng_state(), before)


def test_unknown_names_are_refused(models, tmp_path):
    path = write(tmp_path / "cut.safetensors", state_to(models["vgg16"], 17))
    with pytest.raises(UserError, match="unknown VGG network 'vgg18'"):
        vgg_features("vgg18", path)
    with pytest.raises(UserError, match=r"unknown layer of vgg16 'conv4_4'.*choose from: conv1_1, "):
        vgg_features(weights_path=path, layer="conv4_4")


def without(key):
    return lambda state: {name: value for name, value in state.items() if name != key}


WRONG_STATES = {
    "no features": (lambda state: {"encoder.weight": torch.zeros(2)}, "hold no 'features.N.weight'"),
    "empty": (lambda state: {}, "hold no 'features.N.weight'"),
    "batch norm": (
        lambda state: state | {"features.1.weight": torch.zeros(64)},
        r"features 0, 1, 2, .*neither VGG16 nor VGG19",
    ),
    "gap": (lambda state: {k: v for k, v in state.items() if ".5." not in k}, "neither VGG16 nor VGG19"),
    "no bias": (without("features.7.bias"), "not those of vgg16: a weight or bias is missing"),
    "shape": (lambda state: state | {"features.5.weight": torch.zeros(128, 32, 3, 3)}, "has another shape"),
}


@pytest.mark.parametrize(("change", "message"), WRONG_STATES.values(), ids=WRONG_STATES.keys())
def test_files_of_other_networks_are_refused(change, message, models, tmp_path):
    path = write(tmp_path / "wrong.safetensors", change(state_to(models["vgg16"], 17)))
    with pytest.raises(UserError, match=message) as refusal:
        check_vgg(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".png"])
def test_broken_files_are_refused(suffix, models, tmp_path):
    whole = write(tmp_path / f"whole{suffix}", state_to(models["vgg16"], CONV2_2)).read_bytes()
    for name, content in {"cut": whole[: len(whole) // 2], "text": b"not weights", "empty": b""}.items():
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}{suffix}' are truncated or no file of tensors"):
            check_vgg(path)


def test_what_is_no_dict_of_tensors_is_refused(tmp_path):
    torch.save([1, 2, 3], tmp_path / "list.pth")
    with pytest.raises(UserError, match="no file of tensors"):
        check_vgg(tmp_path / "list.pth")
    torch.save({"features.0.weight": "a word"}, tmp_path / "words.pth")
    with pytest.raises(UserError, match="neither VGG16 nor VGG19"):
        check_vgg(tmp_path / "words.pth")


class Dangerous:
    def __reduce__(self):
        return os.mkdir, ("pickles_run_code",)


def test_files_do_not_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"features.0.weight": Dangerous()}, tmp_path / "code.pth")
    with pytest.raises(UserError, match="no file of tensors"):
        check_vgg(tmp_path / "code.pth")
    assert not (tmp_path / "pickles_run_code").exists()


def test_missing_files_are_refused(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(UserError, match="do not exist; give a"):
            check_vgg(str(path))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Where torchvision's files are looked for: a folder that does not exist yet."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.mark.parametrize(
    "failure", [URLError("no host"), TimeoutError(), IncompleteRead(b""), RuntimeError("invalid hash value")]
)
def test_without_network_the_way_out_is_named(failure, hub, monkeypatch):
    def fail(*args, **kwargs):
        raise failure

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    for refused in (check_vgg, vgg_features):
        with pytest.raises(UserError) as refusal:
            refused()
        message = str(refusal.value)
        for part in ("VGG19", "vgg19-dcbb9e9d.pth", str(hub), "task.vgg_weights=", "task.contrast_weight=0"):
            assert part in message
        assert "pytorch.org" not in message
        assert "\n" not in message


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="vgg19-dcbb9e9d"):
        check_vgg()


def test_the_default_is_downloaded_once(hub, models, monkeypatch):
    calls, patience = [], socket.getdefaulttimeout()

    def download(url, dst, hash_prefix, **kwargs):
        calls.append((url.rpartition("/")[2], hash_prefix, socket.getdefaulttimeout()))
        torch.save(state_to(models["vgg19"], 19), dst)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    check_vgg()
    expected = expected_features(models["vgg19"], 19, images())
    torch.testing.assert_close(vgg_features()(images()), expected)
    assert calls == [("vgg19-dcbb9e9d.pth", "dcbb9e9d", PATIENCE)]
    assert socket.getdefaulttimeout() == patience


@pytest.mark.skipif("NIBKIT_TEST_VGG" not in os.environ, reason="NIBKIT_TEST_VGG names no file of VGG16 or VGG19")
def test_real_weights_see_an_edge_more_than_a_tone():
    """Trained features change more by stripes than by an equally large change of tone."""
    contrast = Contrast(vgg_features(weights_path=os.environ["NIBKIT_TEST_VGG"]))
    image = torch.zeros(1, 3, 64, 64)
    stripes = 0.2 * (torch.arange(64) // 4 % 2 * 2.0 - 1).expand(1, 1, 64, 64)
    striped, brighter = contrast(stripes, image), contrast(torch.full_like(stripes, 0.2), image)
    assert striped > 2 * brighter > 0
