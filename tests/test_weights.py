"""Weights files: what is written is loaded again, and what cannot be used is told in one sentence."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from nibkit import weights
from nibkit.cli import main
from nibkit.config import load_config
from nibkit.errors import UserError
from nibkit.make import make
from nibkit.registry import build_backbone
from nibkit.weights import load_weights, read_weights, save_weights, shipped

BACKBONE, NIB = {"name": "resnet", "width": 3, "blocks": 1}, {"form": "symmetric", "scale": 0.5}


def network(seed=0):
    torch.manual_seed(seed)
    return build_backbone(BACKBONE, NIB).eval()


def save(path, task="dithering", **options):
    net = network()
    save_weights(path, BACKBONE, NIB, net.state_dict(), task=task, **options)
    return net


def answer(net):
    with torch.inference_mode():
        return net(torch.linspace(-1, 1, 400).reshape(1, 1, 20, 20))


def test_a_saved_network_answers_as_before(tmp_path):
    net = save(tmp_path / "x.safetensors", about="  of\n a test ")
    loaded = load_weights(str(tmp_path / "x.safetensors"), "dithering")
    assert not loaded.training
    assert torch.equal(answer(loaded), answer(net))
    assert torch.equal(answer(load_weights(str(tmp_path / "x.safetensors"))), answer(net))
    assert read_weights(str(tmp_path / "x.safetensors")).about == "of a test"


def test_the_metadata_are_plain_texts(tmp_path):
    save(tmp_path / "x.safetensors", about="of a test")
    with safe_open(tmp_path / "x.safetensors", framework="numpy") as file:
        found = file.metadata()
    assert (found["format_version"], found["task"], found["about"]) == ("1", "dithering", "of a test")
    assert (json.loads(found["backbone"]), json.loads(found["nib"])) == (BACKBONE, NIB)


def test_half_precision_is_loaded_as_float32(tmp_path):
    net = save(tmp_path / "x.safetensors", half=True)
    assert {tensor.dtype for tensor in load_file(tmp_path / "x.safetensors").values()} == {torch.float16}
    loaded = load_weights(str(tmp_path / "x.safetensors"))
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}
    torch.testing.assert_close(answer(loaded), answer(net), rtol=0, atol=1e-2)


def test_shipped_names(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    assert shipped() == []
    net = save(tmp_path / "dithering.safetensors")
    save(tmp_path / "comic.safetensors")
    assert shipped() == ["comic", "dithering"]
    assert torch.equal(answer(load_weights("dithering", "dithering")), answer(net))
    with pytest.raises(UserError) as caught:
        load_weights("ditherin")
    assert str(caught.value) == (
        "unknown weights 'ditherin' (did you mean 'dithering'?); choose from: comic, dithering, "
        "or a path to a .safetensors or .ckpt file"
    )


@pytest.mark.parametrize("name", shipped())
def test_what_is_shipped_loads_and_has_a_card(name):
    assert load_weights(name)
    assert (weights.FOLDER / f"{name}.md").is_file()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A task, and its checkpoint as Lightning writes one."""
    config = load_config(["task=dithering", "backbone.width=2", "backbone.blocks=1", "nib.scale=2"])
    task = make("task", config.task).eval()
    checkpoint = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams)}
    task.on_save_checkpoint(checkpoint)
    path = tmp_path_factory.mktemp("trained") / "best.ckpt"
    torch.save(checkpoint, path)
    return task, str(path)


def test_a_training_checkpoint(trained):
    task, checkpoint = trained
    torch.testing.assert_close(answer(load_weights(checkpoint, "dithering")), answer(task.backbone))
    assert answer(task.backbone).std() > 1e-3


def test_the_name_of_a_task():
    assert weights._plain_name("tasks.dithering.DitheringTask") == "dithering"
    assert weights._plain_name("mine.tasks.DeepHalftoningTask") == "deep_halftoning"


def raw(path, metadata=None, tensors=None):
    save_file({"x": torch.zeros(2)} if tensors is None else tensors, path, metadata)


def groups(**changes):
    return {
        "format_version": "1",
        "task": "dithering",
        "backbone": json.dumps(BACKBONE),
        "nib": json.dumps(NIB),
        **changes,
    }


def test_files_that_cannot_be_used(tmp_path):
    save(tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "text.safetensors").write_text("this is no network")
    (tmp_path / "folder.safetensors").mkdir()
    raw(tmp_path / "other.safetensors")
    raw(tmp_path / "future.safetensors", groups(format_version="2"))
    raw(tmp_path / "json.safetensors", groups(backbone="{"))
    raw(tmp_path / "list.safetensors", groups(nib="[1]"))
    raw(tmp_path / "tensors.safetensors", groups())
    raw(tmp_path / "type.safetensors", groups(backbone=json.dumps({**BACKBONE, "width": "wide"})))
    raw(tmp_path / "unknown.safetensors", groups(backbone=json.dumps({"name": "resnt"})))
    raw(tmp_path / "option.safetensors", groups(backbone=json.dumps({**BACKBONE, "widht": 3})))
    (tmp_path / "text.ckpt").write_text("this is no checkpoint")
    torch.save({"state_dict": {}, "hyper_parameters": {}}, tmp_path / "hollow.ckpt")
    for name, sentence in {
        "none.safetensors": "do not exist; give a .safetensors or .ckpt file",
        "folder.safetensors": "do not exist",
        "cut.safetensors": "are truncated or no safetensors file",
        "empty.safetensors": "are truncated or no safetensors file",
        "text.safetensors": "are truncated or no safetensors file",
        "other.safetensors": "are no weights of nibkit",
        "future.safetensors": "have format 2, this nibkit reads 1; update nibkit",
        "json.safetensors": "are broken",
        "list.safetensors": "are broken",
        "tensors.safetensors": "are broken: their tensors do not fit their backbone",
        "type.safetensors": "are broken",
        "unknown.safetensors": "unknown backbone 'resnt' (did you mean 'resnet'?); choose from: autoencoder, gray",
        "option.safetensors": "backbone 'resnet' has no option 'widht' (did you mean 'width'?)",
        "none.ckpt": "does not exist",
        "text.ckpt": "is truncated or no checkpoint",
        "hollow.ckpt": "holds no network of nibkit",
    }.items():
        with pytest.raises(UserError) as caught:
            load_weights(str(tmp_path / name))
        assert sentence in str(caught.value), name
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_another_task_is_refused(tmp_path):
    save(tmp_path / "x.safetensors", task="halftoning")
    with pytest.raises(UserError, match="are of task 'halftoning', but weights of 'dithering' are needed here"):
        load_weights(str(tmp_path / "x.safetensors"), "dithering")


def test_values_that_are_not_finite_are_not_written(tmp_path):
    state = network().state_dict()
    state["tail.bias"][0] = 1e6  # too large for half precision
    with pytest.raises(UserError, match="not finite in half"):
        save_weights(tmp_path / "x.safetensors", BACKBONE, NIB, state, task="dithering", half=True)
    assert not list(tmp_path.iterdir())


def test_export(trained, tmp_path, capsys):
    _, checkpoint = trained
    main(["export", checkpoint, "x.safetensors", "--about", "tiny"])
    main(["export", checkpoint, "half.safetensors", "--half"])
    assert capsys.readouterr().out == "wrote x.safetensors\nwrote half.safetensors\n"
    assert torch.equal(answer(load_weights("x.safetensors", "dithering")), answer(load_weights(checkpoint)))
    assert read_weights("x.safetensors").about == "tiny"
    assert (tmp_path / "half.safetensors").stat().st_size < (tmp_path / "x.safetensors").stat().st_size


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{ckpt}"], "the following arguments are required: OUT.safetensors; see nibkit export --help"),
        (["{ckpt}", "x.pt"], "OUT 'x.pt' has no suffix that can be written; end it in .safetensors"),
        (["{ckpt}", "none/x.safetensors"], "the folder 'none' of OUT does not exist; make it first"),
        (["none.ckpt", "x.safetensors"], "checkpoint 'none.ckpt' does not exist"),
        (["{ckpt}", "x.safetensors", "--hlf"], "unrecognized arguments: --hlf; see nibkit export --help"),
        (["what", "x.safetensors"], "unknown weights 'what'"),
    ],
)
def test_bad_input_of_export(trained, tmp_path, capsys, arguments, sentence):
    with pytest.raises(SystemExit) as stop:
        main(["export", *(a.format(ckpt=trained[1]) for a in arguments)])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"nibkit export: error: {sentence}")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
