"""Inception of FID: the features of torch-fidelity; missing and wrong files, told before anything is trained."""

import hashlib
import os
import pickle
import socket
from unittest import mock
from urllib.error import URLError

import pytest
import torch
import torch_fidelity.feature_extractor_inceptionv3 as reference
from torchmetrics.image.fid import NoTrainInceptionV3

from nibkit.errors import UserError
from nibkit.inception import FILE_NAMES, find_inception, inception_features
from nibkit.metrics.frechet import inception_metrics, to_uint8
from nibkit.vgg import PATIENCE


class Untrained(reference.FeatureExtractorInceptionV3):
    """Keeps its random weights."""

    def load_state_dict(self, *args, **kwargs):
        pass


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file as torch-fidelity's, of random weights."""
    noise = torch.Generator().manual_seed(0)
    with mock.patch.object(reference, "load_state_dict_from_url"), torch.device("meta"):
        network = Untrained("inception-v3-compat", ["2048"])
    state = {name: torch.zeros(value.shape, dtype=value.dtype) for name, value in network.state_dict().items()}
    for name, value in state.items():
        if value.dim() > 1:
            value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=noise)
        elif name.endswith(("bn.weight", "running_var")):
            value.fill_(1)
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(state, path)
    return path


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty folder of torch.hub's checkpoints."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def photographs(seed=0, count=2):
    return torch.rand(count, 3, 24, 48, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_features_are_those_of_torchmetrics_without_antialiasing(weights):
    images = to_uint8(photographs())
    state = torch.get_rng_state()
    found = inception_features(weights)
    assert torch.equal(torch.get_rng_state(), state)
    assert not found.training
    assert not any(value.requires_grad for value in found.parameters())
    expected = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(weights), antialias=False)(images)
    assert expected.shape == (2, 2048)
    assert expected.std() > 0.01
    torch.testing.assert_close(found(images), expected)


def test_fid_and_kid_are_of_its_features(weights):
    real, fake = photographs(), photographs(seed=1)
    metrics = inception_metrics(str(weights), kid=True)
    metrics.update(real, fake)
    with mock.patch("nibkit.metrics.frechet.DISTANCES", (lambda *sets: sets[0], lambda *sets: sets[1])):
        figures = metrics.compute()  # the features themselves; eigenvalues of 2048 x 2048 would take a minute
    assert list(figures) == ["fid", "kid", "fid_images"]
    network = inception_features(weights)
    torch.testing.assert_close(figures["fid"], network(to_uint8(real)))
    torch.testing.assert_close(figures["kid"], network(to_uint8(fake)))
    assert inception_metrics(str(weights), kid=False).kernel_name is None


@pytest.mark.parametrize("name", FILE_NAMES)
def test_the_file_in_the_folder_of_torch_hub_is_found_by_either_name(name, hub):
    (hub / name).touch()
    assert find_inception() == hub / name
    assert find_inception(download=True) == hub / name


def assert_says_all(error, *parts):
    message = str(error.value)
    ways = (FILE_NAMES[0], "checkpoints", "metrics.fid.weights_path", "metrics.fid.mode=off",
            "metrics.frechet.weights_path=FILE")  # fmt: skip
    for part in (*ways, *parts):
        assert part in message
    assert "\n" not in message


def test_a_missing_file_is_told_with_all_ways_out(hub):
    with pytest.raises(UserError) as error:
        find_inception()
    assert_says_all(error, "are missing", str(hub), "metrics.fid.mode=on")
    with pytest.raises(UserError) as error:
        find_inception("nowhere.pth", download=True)
    assert_says_all(error, "'nowhere.pth' does not exist")


def test_a_download_that_fails_is_told(hub, monkeypatch):
    patience = []

    def fail(*args, **kwargs):
        patience.append(socket.getdefaulttimeout())
        raise URLError("no route")

    monkeypatch.setattr("torch.hub.urlopen", fail)
    with pytest.raises(UserError) as error:
        find_inception(download=True)
    assert_says_all(error, "cannot be downloaded (URLError)")
    assert patience == [PATIENCE]
    assert list(hub.iterdir()) == []


def test_a_download_of_another_file_is_refused(hub, tmp_path, monkeypatch):
    (tmp_path / "wrong").write_bytes(b"not the network")
    monkeypatch.setattr(reference, "URL_INCEPTION_V3", (tmp_path / "wrong").as_uri())
    with pytest.raises(UserError) as error:
        find_inception(download=True)
    assert_says_all(error, "cannot be downloaded (RuntimeError)")
    assert list(hub.iterdir()) == []


def test_what_was_downloaded_is_found_and_not_downloaded_again(hub, tmp_path, monkeypatch):
    (tmp_path / "right").write_bytes(b"the network")
    monkeypatch.setattr(reference, "URL_INCEPTION_V3", (tmp_path / "right").as_uri())
    monkeypatch.setattr("nibkit.inception.SHA256", hashlib.sha256(b"the network").hexdigest()[:8])
    path = find_inception(download=True)
    assert path.read_bytes() == b"the network"
    (tmp_path / "right").unlink()
    assert find_inception(download=True) == path


class Code:
    """Would run when unpickled."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("content", ["cut", "text", "code", "list"])
def test_files_that_are_broken_or_no_tensors_are_told(content, weights, tmp_path):
    path = tmp_path / "bad.pth"
    if content == "cut":
        path.write_bytes(weights.read_bytes()[:1_000_000])
    elif content == "text":
        path.write_text("weights")
    elif content == "code":
        path.write_bytes(pickle.dumps(Code()))
    else:
        torch.save([1, 2], path)
    with pytest.raises(UserError) as error:
        inception_metrics(str(path))
    assert_says_all(error, f"'{path}'", "truncated or no file of tensors")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("change", ["renamed", "shape", "more", "fewer"])
def test_other_networks_are_told(change, weights, tmp_path):
    state = torch.load(weights, weights_only=True, mmap=True)
    keep = {name: value for name, value in state.items() if value.numel() < 10}
    state = {name: value.new_zeros(()).expand(value.shape) for name, value in state.items()} | keep  # takes no room
    if change == "renamed":
        state["classifier.weight"] = state.pop("fc.weight")
    elif change == "shape":
        state["fc.weight"] = torch.zeros(1000, 1).expand(1000, 2048)  # of torchvision's
    elif change == "more":
        state["AuxLogits.fc.weight"] = torch.zeros(2)
    else:
        del state["Mixed_7c.branch1x1.bn.running_mean"]
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(UserError) as error:
        inception_metrics(str(tmp_path / "other.pth"))
    assert_says_all(error, "is not the Inception of FID")
