"""ONNX files: onnxruntime answers as PyTorch does, at any size, with the noise as an input."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from nibkit import onnx_export, weights
from nibkit.cli import main
from nibkit.errors import UserError
from nibkit.onnx_export import describe, noise_for, save_onnx
from nibkit.refine import Refined, Refinement
from nibkit.registry import backbone_names, build_backbone
from nibkit.weights import load_weights, save_weights

TINY = {"resnet": {"width": 3, "blocks": 1}, "unet": {"width": 2},
        "autoencoder": {"width": 2, "latent": 4, "in_channels": 1, "out_channels": 1},
        "grayscale_encoder": {"width": 2}, "grayscale_decoder": {"width": 2, "blocks": 1},
        "subpixel": {"width": 2, "blocks": 1}}  # fmt: skip
NETWORKS = [name for name in backbone_names(tileable=True) if name != "invertible_grayscale"]  # that is two of them
NONE, SYMMETRIC = {"form": "none"}, {"form": "symmetric", "seed": 3}
DYNAMIC = {"form": "impulse", "noise": "dynamic", "distribution": "bernoulli", "scale": 0.5}
FEATURE = {"form": "feature", "channels": 2, "noise": "blue"}
SIZES = [(1, 1, 1), (2, 19, 26), (1, 24, 32), (3, 37, 5)]  # batch, height, width; multiples of 8 and not


def tiny(name, nib, **options):
    torch.manual_seed(0)
    return build_backbone({"name": name, **TINY.get(name, {}), **options}, nib).eval()


def picture(batch, height, width, channels=1):
    """Smooth, with texture."""
    generator = torch.Generator().manual_seed(height * width)
    ramp = torch.linspace(-0.9, 0.9, height)[:, None] + torch.zeros(width)
    return (ramp + 0.3 * torch.randn(batch, channels, height, width, generator=generator)).clamp(-1, 1)


class Exported:
    """A network and the session of its file."""

    def __init__(self, network, path):
        self.network = network
        save_onnx(path, network, task="dithering", about="of\n a test")
        self.path = path
        self.session = onnxruntime.InferenceSession(str(path))
        self.metadata = self.session.get_modelmeta().custom_metadata_map

    def run(self, image, noise=None):
        feed = {"image": image.numpy()} | ({} if noise is None else {"noise": noise})
        return torch.from_numpy(self.session.run(["answer"], feed)[0])

    def both(self, batch, height, width):
        """Return the answers of PyTorch and of onnxruntime to one picture and one noise."""
        image, noise = picture(batch, height, width, self.network.in_channels), None
        if "noise" in [node.name for node in self.session.get_inputs()]:
            torch.manual_seed(7)  # a dynamic field is drawn from torch's generator
            noise = noise_for(self.metadata, height, width, batch)
        torch.manual_seed(7)
        with torch.inference_mode():
            return self.network(image), self.run(image, noise)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Return the session of a network by name, made once."""
    folder, made = tmp_path_factory.mktemp("onnx"), {}

    def get(name, nib, **options):
        key = json.dumps([name, nib, options])
        if key not in made:
            made[key] = Exported(tiny(name, nib, **options), folder / f"{len(made)}.onnx")
        return made[key]

    return get


def check_agreement(pair):
    for size in SIZES:
        expected, found = pair.both(*size)
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_backbone_answers_as_in_pytorch(exported, name):
    check_agreement(exported(name, SYMMETRIC))


def test_without_nib_the_image_is_the_only_input(exported):
    pair = exported("resnet", NONE)
    assert [node.name for node in pair.session.get_inputs()] == ["image"]
    check_agreement(pair)
    with pytest.raises(UserError, match="has no NIB and takes no noise"):
        noise_for(pair.metadata, 8, 8)


@pytest.mark.parametrize(
    ("nib", "options"),
    [(DYNAMIC, {"padding": "zeros"}), (FEATURE, {"in_channels": 3, "out_channels": 2})],
    ids=["dynamic impulses, zero padding", "feature of another number of channels, RGB"],
)
def test_other_noises_and_channels(exported, nib, options):
    check_agreement(exported("resnet", nib, **options))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("padding", ["extend", "zeros"])
@pytest.mark.parametrize("nib", [NONE, DYNAMIC, FEATURE, {"form": "symmetric", "noise": "grid"}], ids=str)
def test_every_backbone_with_every_noise(exported, name, padding, nib):
    check_agreement(exported(name, nib, padding=padding))


HALVES = {half: {"name": "resnet", **TINY["resnet"]} for half in ("encoder", "decoder")}


@pytest.fixture
def pair():
    return tiny("invertible_grayscale", SYMMETRIC, **HALVES)


def test_a_pair_is_refused_but_each_half_is_a_graph(pair, tmp_path):
    with pytest.raises(UserError, match=r"no single ONNX graph; .*save_onnx\(PATH, network\.encoder, task=\.\.\.\)"):
        save_onnx(tmp_path / "pair.onnx", pair, task="invertible_grayscale")
    assert not list(tmp_path.iterdir())
    for half in (pair.encoder, pair.decoder):
        check_agreement(Exported(half, tmp_path / "half.onnx"))


def test_the_command_refuses_a_pair_in_one_sentence(pair, tmp_path, capsys):
    spec = {"name": "invertible_grayscale", **HALVES}
    save_weights("pair.safetensors", spec, SYMMETRIC, pair.state_dict(), task="invertible_grayscale")
    sentence = refusal(capsys, ["pair.safetensors", "pair.onnx"])
    assert sentence.startswith("an encoder and its decoder are no single ONNX graph")
    assert [path.name for path in tmp_path.iterdir()] == ["pair.safetensors"]


def test_another_noise_another_answer(exported):
    pair, image = exported("resnet", SYMMETRIC), picture(1, 20, 20)
    first, moved = (noise_for(pair.metadata, 20, 20, origin=origin) for origin in ((0, 0), (5, 9)))
    assert (pair.run(image, first) - pair.run(image, moved)).abs().max() > 1e-2
    with torch.inference_mode():
        torch.testing.assert_close(
            pair.run(image, moved), pair.network(image, torch.tensor([[5, 9]])), rtol=0, atol=1e-5
        )


def test_noise_that_is_too_small_is_an_error_and_not_a_wrong_answer(exported):
    pair = exported("unet", SYMMETRIC)
    noise = noise_for(pair.metadata, 20, 20)
    with pytest.raises(Exception, match=r"(?i)indices|bounds"):
        pair.run(picture(1, 20, 20), noise[..., 8:])


def test_inputs_and_metadata(exported):
    pair = exported("unet", SYMMETRIC)
    assert [(node.name, node.shape) for node in pair.session.get_inputs()] == [
        ("image", ["batch", 1, "height", "width"]),
        ("noise", ["batch", 1, "noise_height", "noise_width"]),
    ]
    expected = {
        "format_version": "1", "task": "dithering", "about": "of a test", "in_channels": "1", "margin": "95",
        "multiple": "8", "extension": "96", "refinement": "{}",
    }  # fmt: skip
    assert pair.metadata.items() >= expected.items()
    assert json.loads(pair.metadata["nib"]) == SYMMETRIC
    assert pair.metadata["noise"].startswith(
        "[B, 1, ceil(H / 8) * 8 + 2 * 96, ceil(W / 8) * 8 + 2 * 96] float32: "
        "Stationary(distribution=Normal(std=0.3), seed=3), from 96 pixels above and left"
    )


def test_the_file_tells_nothing_of_the_machine(exported):
    content = exported("unet", SYMMETRIC).path.read_bytes()
    assert b".py" not in content
    assert str(Path(onnx_export.__file__).parent).encode() not in content


def test_noise_for_a_network_and_for_its_metadata():
    network = tiny("unet", SYMMETRIC)
    noise = noise_for(network, 9, 16, batch=2)
    assert (noise.shape, noise.dtype) == ((2, 1, 16 + 192, 16 + 192), np.float32)
    assert np.array_equal(noise, noise_for(describe(network), 9, 16, 2))
    field = network.stem.noise(1, 1, 9, 16, torch.zeros(1, 2, dtype=torch.int64))
    assert np.array_equal(noise[:1, :, 96:105, 96:112], field.numpy())
    with pytest.raises(UserError, match="height=0, width=4 and batch=1 must be at least 1"):
        noise_for(network, 0, 4)
    for foreign in ({}, {"in_channels": "1", "nib": "{"}, {"in_channels": "x", "nib": "{}"}):
        with pytest.raises(UserError, match="not those of an ONNX file of nibkit"):
            noise_for(foreign, 4, 4)


def test_the_network_stays_as_it_is(exported):
    network = exported("resnet", SYMMETRIC).network
    assert torch.equal(network.stem.noise(1, 1, 4, 4, torch.zeros(1, 2).long()),
                       tiny("resnet", SYMMETRIC).stem.noise(1, 1, 4, 4, torch.zeros(1, 2).long()))  # fmt: skip


def refined_share(name, sweeps, folder, sizes):
    """Return which share of a refined halftone's pixels differ between PyTorch and onnxruntime."""
    base = tiny(name, SYMMETRIC)
    base.tail.weight.data *= 100  # a fresh network is near a tie at every pixel, a trained one is not
    network = Refined(base, Refinement(sweeps)).eval()
    pair = Exported(network, folder / "refined.onnx")
    answers = [pair.both(*size) for size in sizes]
    assert all(set(found.unique().tolist()) <= {-1.0, 1.0} for _, found in answers)
    assert json.loads(pair.metadata["refinement"])["sweeps"] == sweeps
    return sum(int((a != b).sum()) for a, b in answers) / sum(a.numel() for a, _ in answers)


@pytest.mark.slow
def test_a_refined_network_is_one_graph(tmp_path):
    assert refined_share("resnet", 1, tmp_path, [*SIZES, (2, 200, 301)]) < 1e-4


@pytest.mark.slow
def test_a_tie_within_rounding_flips_few_dots(tmp_path):
    # noise for a picture and many sweeps: where PyTorch flips 4e-4 itself, the image moved by one rounding
    assert refined_share("unet", 3, tmp_path, [*SIZES, (2, 200, 301)]) < 4e-4


@pytest.fixture(scope="session")
def stored(tmp_path_factory):
    """A weights file that asks for refinement, in a folder of its own."""
    path, spec = tmp_path_factory.mktemp("stored") / "mine.safetensors", {"name": "resnet", **TINY["resnet"]}
    state = tiny("resnet", SYMMETRIC).state_dict()
    save_weights(path, spec, SYMMETRIC, state, task="halftoning", about="mine", refinement={"sweeps": 2, "sigma": 1.2})
    return path


def test_the_command_takes_a_shipped_name(stored, monkeypatch, capfd):
    monkeypatch.setattr(weights, "FOLDER", stored.parent)
    main(["export", "mine", "out.onnx", "--refine", "0"])
    assert capfd.readouterr() == ("wrote out.onnx\n", "")
    session = onnxruntime.InferenceSession("out.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    assert (metadata["task"], metadata["about"]) == ("halftoning", "mine")
    image = picture(1, 9, 14)
    answer = session.run(None, {"image": image.numpy(), "noise": noise_for(metadata, 9, 14)})[0]
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(answer), load_weights("mine")(image), rtol=0, atol=1e-5)


def test_the_command_passes_on_what_the_weights_ask_for(stored, monkeypatch):
    written = []
    monkeypatch.setattr(onnx_export, "save_onnx", lambda path, network, **texts: written.append((network, texts)))
    main(["export", str(stored), "out.onnx", "--about", "new"])
    main(["export", str(stored), "out.onnx", "--refine", "7"])
    assert [network.refinement for network, _ in written] == [Refinement(2, sigma=1.2), Refinement(7, sigma=1.2)]
    assert [texts for _, texts in written] == [
        {"task": "halftoning", "about": "new"}, {"task": "halftoning", "about": "mine"},
    ]  # fmt: skip
    main(["export", str(stored), "out.safetensors", "--refine", "7"])
    assert weights.read_weights("out.safetensors").refinement == {"sweeps": 7, "sigma": 1.2}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{mine}", "x.onx"], "OUT 'x.onx' has no suffix that can be written; end it in .safetensors or .onnx"),
        (["{mine}", "none/x.onnx"], "the folder 'none' of OUT does not exist; make it first"),
        (["what", "x.onnx"], "unknown weights 'what'"),
        (["none.safetensors", "x.onnx"], "weights 'none.safetensors' do not exist"),
        (["none.ckpt", "x.onnx"], "checkpoint 'none.ckpt' does not exist"),
        (["{mine}", "x.onnx", "--half"], "--half is for .safetensors; an .onnx is written in single precision"),
        (["{mine}", "x.onnx", "--refine", "-1"], "argument --refine: '-1' is no whole number from 0 to 100"),
    ],
)
def test_bad_input(stored, tmp_path, capsys, arguments, sentence):
    assert refusal(capsys, [argument.format(mine=stored) for argument in arguments]).startswith(sentence)
    assert not list(tmp_path.iterdir())


def test_an_answer_that_cannot_be_refined(capsys):
    spec = {"name": "resnet", **TINY["resnet"], "in_channels": 3}
    save_weights("rgb.safetensors", spec, NONE, build_backbone(spec, NONE).state_dict(), task="color")
    sentence = "the answer of 'rgb.safetensors' is no halftone that could be refined; use --refine 0"
    assert refusal(capsys, ["rgb.safetensors", "x.onnx", "--refine", "3"]) == sentence


@pytest.mark.parametrize(
    ("absent", "named"), [(["onnx"], "onnx"), (["onnx", "onnxscript"], "onnx and onnxscript")], ids=str
)
def test_missing_packages_are_told_in_one_sentence(stored, tmp_path, capsys, monkeypatch, absent, named):
    find = onnx_export.find_spec
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None if name in absent else find(name))
    sentence = refusal(capsys, [str(stored), "x.onnx"])
    assert sentence == f'to write ONNX, {named} must be installed: pip install "nibkit[export]"'
    assert not list(tmp_path.iterdir())


def refusal(capsys, arguments):
    """Return the one sentence with which the command refuses."""
    with pytest.raises(SystemExit) as stop:
        main(["export", *arguments])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.count("\n") == 1
    return error.removeprefix("nibkit export: error: ").strip()


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def no_space(path, content):
        raise OSError(28, "No space left on device")

    class Model:
        metadata_props = type("Texts", (), {"add": lambda self, key, value: None})()
        SerializeToString = staticmethod(bytes)

    monkeypatch.setattr(onnx_export, "_translate", lambda network: Model())
    (tmp_path / "x.onnx").write_bytes(b"before")
    monkeypatch.setattr("pathlib.Path.write_bytes", no_space)
    with pytest.raises(UserError, match=r"cannot write 'x\.onnx': No space left on device"):
        save_onnx("x.onnx", tiny("resnet", NONE), task="dithering")
    assert (tmp_path / "x.onnx").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]


@pytest.mark.slow
def test_the_file_needs_no_pytorch(tmp_path):
    save_onnx(tmp_path / "x.onnx", tiny("resnet", NONE), task="dithering")
    code = (
        "import sys, numpy, onnxruntime; session = onnxruntime.InferenceSession('x.onnx');"
        "answer = session.run(None, {'image': numpy.zeros((1, 1, 5, 7), numpy.float32)})[0];"
        "assert answer.shape == (1, 1, 5, 7) and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
