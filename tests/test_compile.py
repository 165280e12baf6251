"""torch.compile: every backbone, with and without NIB, answers as before."""

import shutil

import pytest
import torch

from nibkit.refine import Refined, Refinement
from nibkit.registry import backbone_names, build_backbone

TINY = {"resnet": {"width": 3, "blocks": 1}, "unet": {"width": 2},
        "autoencoder": {"width": 2, "latent": 4, "in_channels": 1, "out_channels": 1},
        "grayscale_encoder": {"width": 2, "in_channels": 1, "out_channels": 1},
        "grayscale_decoder": {"width": 2, "blocks": 1, "in_channels": 1, "out_channels": 1},
        "subpixel": {"width": 2, "blocks": 1, "in_channels": 1, "out_channels": 1},
        "invertible_grayscale": {"encoder": {"width": 2}, "decoder": {"width": 2, "blocks": 1}, "in_channels": 1,
                                 "out_channels": 1}}  # fmt: skip
NONE, SYMMETRIC = {"form": "none"}, {"form": "symmetric"}
BLUE = {"form": "symmetric", "noise": "blue", "distribution": "uniform", "scale": 1.0}
every_backbone = pytest.mark.parametrize("name", backbone_names(tileable=True))
# a pair rounds to 8 bit inside, which makes a whole level of the last bit by which inductor differs
every_network = pytest.mark.parametrize(
    "name", [name for name in backbone_names(tileable=True) if name != "invertible_grayscale"]
)
compiler = pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="no C++ compiler here")


@pytest.fixture(autouse=True)
def _forget():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def tiny(name, nib, **options):
    torch.manual_seed(0)
    return build_backbone({"name": name, **TINY.get(name, {}), **options}, nib).eval()


def picture(height, width):
    return torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def check(network, sizes=((20, 26), (33, 17)), **options):
    compiled = torch.compile(network, **options)
    for size in sizes:
        image, origin = picture(*size), torch.tensor([[5, 9], [-1000, 3]])
        with torch.no_grad():
            torch.testing.assert_close(compiled(image, origin), network(image, origin), rtol=0, atol=1e-5)


def gradients(network, run):
    """Return the gradient of each parameter of ``network`` for ``run``, the network or its compiled form."""
    network.zero_grad()
    run(picture(16, 24)).square().mean().backward()
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


@every_backbone
def test_a_compiled_backbone_is_one_graph_of_any_size_and_answers_as_before(name):
    check(tiny(name, SYMMETRIC), backend="eager", fullgraph=True, dynamic=True)


def test_without_nib():
    check(tiny("resnet", NONE), backend="eager", fullgraph=True, dynamic=True)


@pytest.mark.slow
@every_backbone
@pytest.mark.parametrize("nib", [NONE, SYMMETRIC, BLUE], ids=["none", "stationary", "blue"])
def test_with_every_noise_and_for_each_size_anew(name, nib):
    check(tiny(name, nib), backend="eager")


@pytest.mark.slow
@every_backbone
def test_gradients_of_a_compiled_backbone(name):
    network = tiny(name, SYMMETRIC).train()
    expected, found = (gradients(network, run) for run in (network, torch.compile(network, backend="aot_eager")))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_compiled_refined_network_answers_as_before():
    check(Refined(tiny("resnet", SYMMETRIC), Refinement(sweeps=1)).eval(), sizes=[(20, 26)], backend="eager")


@compiler
@pytest.mark.slow
@every_network
@pytest.mark.parametrize("nib", [NONE, SYMMETRIC, BLUE], ids=["none", "stationary", "blue"])
def test_compiled_by_inductor(name, nib):
    check(tiny(name, nib))
