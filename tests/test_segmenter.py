"""Plugging in a segmenter: every kind of source, what is done to images and classes, and every refusal."""

import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nibkit.checkpoint import AVERAGE
from nibkit.errors import UserError
from nibkit.registry import build_backbone
from nibkit.segmenter import Segmenter, load_segmenter

NAMES = ["red", "green", "blue"]
SIZE = (16, 24)
MODULE = '''
from torch import nn


class Colours(nn.Module):
    """The three channels are the logits of the three classes."""

    def __init__(self, form="plain"):
        super().__init__()
        self.form = form

    def forward(self, x):
        return {"plain": x, "out": {"out": x, "aux": None}, "logits": {"logits": x}, "tuple": (x, None),
                "ids": x.argmax(1), "odd": "?"}[self.form]


class Strict(nn.Module):
    def forward(self, x):
        if x.shape[-1] != 48:
            raise ValueError("48 columns are needed")
        return x


def plain(): return Colours()
def out(): return Colours("out")
def logits(): return Colours("logits")
def tuple_(): return Colours("tuple")
def ids(): return Colours("ids")
def odd(): return Colours("odd")
def strict(): return Strict()
def nothing(): return None
def broken(): raise RuntimeError("no licence")
'''


@pytest.fixture(autouse=True)
def _user_module(tmp_path, monkeypatch):
    """A module of a user's own, which lies where Python finds it."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "my_segmenters.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path / "own"))
    yield
    sys.modules.pop("my_segmenters", None)


def images(height=16, width=24, seed=0):
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def load(source="my_segmenters:plain", names=NAMES, **options):
    return load_segmenter({"source": str(source), **options}, names, SIZE)


def make_checkpoint(path, classes=3, task="tasks.segmentation.SegmentationTask", names=NAMES):
    torch.manual_seed(0)
    backbone, nib = {"name": "segmenter", "out_channels": classes, "width": 2}, {"form": "none"}
    network = build_backbone(backbone, nib).eval()
    with torch.no_grad():  # an untrained network would name one class everywhere
        network.network.tail.bias -= network(images()).mean(dim=(0, 2, 3))
    state = {f"backbone.{name}": value for name, value in network.state_dict().items()}
    hparams = {"backbone": backbone, "nib": nib, "class_names": names}
    torch.save({"state_dict": state, "hyper_parameters": hparams, "nibkit_task": task}, path)
    return network


def test_a_checkpoint_of_nibkit(tmp_path):
    network = make_checkpoint(tmp_path / "best.ckpt")
    ids = load(tmp_path / "best.ckpt")(images())
    assert ids.dtype == torch.int64
    assert torch.equal(ids, network(images()).argmax(dim=1))
    assert len(ids.unique()) > 1


def test_a_checkpoint_with_averaged_weights_judges_by_them(tmp_path):
    make_checkpoint(tmp_path / "best.ckpt")
    checkpoint = torch.load(tmp_path / "best.ckpt", weights_only=True)
    checkpoint[AVERAGE] = {"network.tail.bias": torch.tensor([0.0, 1e6, 0.0])}
    torch.save(checkpoint, tmp_path / "best.ckpt")
    assert (load(tmp_path / "best.ckpt")(images()) == 1).all()


@pytest.mark.parametrize("suffix", ["pt", "ts"])
def test_a_torchscript_file(tmp_path, suffix):
    torch.jit.script(nn.Conv2d(3, 3, 1)).save(str(path := tmp_path / f"net.{suffix}"))
    expected = torch.jit.load(str(path))(images()).argmax(dim=1)
    assert torch.equal(load(path)(images()), expected)


@pytest.mark.parametrize("factory", ["plain", "out", "logits", "tuple_"])
def test_a_module_of_the_users_own_in_every_form_of_answer(factory):
    assert torch.equal(load(f"my_segmenters:{factory}")(images()), images().argmax(dim=1))


def test_images_are_normalised_as_the_network_wants_them():
    seen = []
    network = nn.Identity()
    network.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    for normalization in ("symmetric", "imagenet", "unit"):
        Segmenter(network, range(3), normalization=normalization)(images())
    zero_to_one = (images() + 1) / 2
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    assert torch.allclose(seen[0], images(), atol=1e-6)
    imagenet = ((zero_to_one.permute(0, 2, 3, 1) - mean) / deviation).permute(0, 3, 1, 2)
    assert torch.allclose(seen[1], imagenet, atol=1e-5)
    assert torch.allclose(seen[2], zero_to_one)


def test_images_are_enlarged_to_the_size_that_the_network_wants_and_its_logits_brought_back():
    ids = load("my_segmenters:strict", size=[32, 48])(images())
    large = F.interpolate(images(), size=(32, 48), mode="bicubic", antialias=True).clamp(-1, 1)
    back = F.interpolate(large, size=SIZE, mode="bilinear", antialias=True)
    assert torch.equal(ids, back.argmax(dim=1))
    assert not torch.equal(ids, images().argmax(dim=1))


def test_logits_of_another_size_are_brought_back_to_the_images():
    quarter = nn.AvgPool2d(4)
    ids = Segmenter(quarter, range(3))(images())
    expected = F.interpolate(quarter(images()), size=SIZE, mode="bilinear", align_corners=False).argmax(dim=1)
    assert torch.equal(ids, expected)


def test_classes_of_the_network_become_those_of_the_data_and_the_others_are_never_named():
    four = nn.Conv2d(3, 4, 1)
    logits = four(images())
    ids = Segmenter(four, [1, None, 0, 1])(images())
    mapping = {0: 1, 1: 0, 2: 1}
    expected = logits[:, [0, 2, 3]].argmax(dim=1).apply_(mapping.__getitem__)
    assert torch.equal(ids, expected)
    assert (logits.argmax(dim=1) == 1).any()


def test_a_segmenter_is_used_as_in_evaluation_and_never_trained():
    segmenter = Segmenter(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout(0.5)), range(3))
    assert torch.equal(segmenter(images()), segmenter(images()))
    assert not any(weight.requires_grad for weight in segmenter.parameters())


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"source": "gone.ckpt"}, r"metrics\.segmenter\.source: .*gone.ckpt' does not exist"),
        ({"source": "gone.pt"}, "gone.pt' does not exist; give a .ckpt"),
        ({"source": "no_such_module:make"}, "module named 'no_such_module'"),
        ({"source": "my_segmenters:gone"}, "has no attribute 'gone'"),
        ({"source": "my_segmenters:nothing"}, "returned NoneType"),
        ({"source": "my_segmenters:broken"}, "failed with RuntimeError: no licence"),
        ({"source": "my_segmenters:ids"}, r"is no segmenter: it answers torch.int64 of shape \[1, 16, 24\]"),
        ({"source": "my_segmenters:odd"}, "is no segmenter: it answers str"),
        ({"source": "my_segmenters:strict"}, "fails on an image of 16x24 pixels: 48 columns.*metrics.segmenter.size"),
        ({"size": [32]}, r"metrics.segmenter.size=\[32\] is no size"),
        ({"normalization": "caffe"}, "unknown metrics.segmenter.normalization 'caffe'.*imagenet, symmetric, unit"),
        ({"weights": 1}, "unknown option of metrics.segmenter 'weights'"),
        ({"names": NAMES[:2]}, "names 3 classes, but the data have 2.*class_map"),
        ({"class_map": [0, 1]}, "names 3 classes, but metrics.segmenter.class_map has 2 entries"),
        ({"class_map": [0, 1, 3]}, "class_map has 3; give classes from 0 to 2, or null"),
        ({"class_map": [0, 1, True]}, "class_map has True"),
        ({"class_map": [0, 1, None]}, r"leads to no class 2 \('blue'\)"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(options, word):
    with pytest.raises(UserError, match=word) as error:
        load(**options)
    assert "\n" not in str(error.value)


def test_files_that_hold_no_segmenter_are_refused(tmp_path):
    for name, word in (("torn.ckpt", "truncated or no checkpoint"), ("torn.pt", "truncated or no TorchScript file")):
        (tmp_path / name).write_bytes(b"PK\x03\x04 and no more")
        with pytest.raises(UserError, match=word):
            load(tmp_path / name)
    torch.save({"weight": torch.zeros(3)}, tmp_path / "state.pt")
    with pytest.raises(UserError, match="no TorchScript file"):
        load(tmp_path / "state.pt")


def test_a_file_that_may_not_be_read_is_refused(public, nobody):
    torch.jit.script(nn.Conv2d(3, 3, 1)).save(str(path := public / "net.pt"))
    path.chmod(0)
    with nobody(), pytest.raises(UserError, match=r"net\.pt' cannot be read: Permission denied"):
        load(path)


def test_checkpoints_of_other_tasks_and_classes_are_refused(tmp_path):
    make_checkpoint(tmp_path / "a.ckpt", task="tasks.dithering.DitheringTask")
    with pytest.raises(UserError, match="of task 'dithering', but weights of 'segmentation'"):
        load(tmp_path / "a.ckpt")
    make_checkpoint(tmp_path / "b.ckpt", names=["red", "verde", "blue"])
    with pytest.raises(UserError, match="calls class 1 'verde', which is 'green' in the data"):
        load(tmp_path / "b.ckpt")
    assert load(tmp_path / "b.ckpt", class_map=[2, 0, 1])(images()).max() <= 2


def test_a_checkpoint_that_does_not_say_its_classes_is_taken_by_their_number(tmp_path):
    make_checkpoint(tmp_path / "best.ckpt", names=None)
    assert load(tmp_path / "best.ckpt")(images()).shape == (2, *SIZE)
