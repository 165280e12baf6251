"""Pix2Pix and SPADE: their published sizes, where the NIB goes, and what a constant label map becomes."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nibkit.errors import UserError
from nibkit.nib import NIB
from nibkit.registry import build_backbone

NONE, FEATURE = {"form": "none"}, {"form": "feature", "channels": 1}
TINY = {"spade": {"width": 1, "hidden": 4, "ups": 5}, "pix2pix": {"width": 2, "downs": 5}}
CLASSES = 4
every_generator = pytest.mark.parametrize("name", TINY)


def tiny(name, nib=NONE, **options):
    torch.manual_seed(0)
    return build_backbone({"name": name, "in_channels": CLASSES, **TINY[name], **options}, nib)


def label_map(ids):
    return F.one_hot(ids, CLASSES).permute(0, 3, 1, 2).float()


def random_map(*size, seed=0):
    blocks = torch.randint(0, CLASSES, (1, size[0] // 16, size[1] // 16), generator=torch.Generator().manual_seed(seed))
    return label_map(blocks.repeat_interleave(16, 1).repeat_interleave(16, 2))


@pytest.mark.parametrize(
    ("spec", "millions"),
    [
        ({"name": "spade", "in_channels": 36, "width": 64, "hidden": 128}, 93.05),
        ({"name": "pix2pix", "in_channels": 3, "width": 64, "downs": 8}, 54.41),
    ],
    ids=["spade", "pix2pix"],
)
def test_published_numbers_of_weights(spec, millions):
    with torch.device("meta"), pytest.MonkeyPatch.context() as patch:
        for name in ("xavier_normal_", "normal_", "zeros_"):  # nothing to fill on this device
            patch.setattr(nn.init, name, lambda weight, *_: weight)
        network = build_backbone(spec, NONE)
    assert sum(weight.numel() for weight in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


@every_generator
@pytest.mark.parametrize("size", [(32, 64), (40, 70)])
@pytest.mark.parametrize("training", [True, False])
def test_pictures_have_the_size_of_the_map_and_the_range_of_images(name, size, training):
    network = tiny(name, FEATURE).train(training)
    picture = network(torch.rand(2, CLASSES, *size))
    assert picture.shape == (2, 3, *size)
    assert float(picture.detach().abs().max()) <= 1


@every_generator
@pytest.mark.parametrize("form", ["symmetric", "feature", "impulse", "additive"])
def test_every_form_of_the_nib_can_be_chosen(name, form):
    nib = {"form": form, "channels": 1} | ({"distribution": "bernoulli", "scale": 0.5} if form == "impulse" else {})
    assert tiny(name, nib)(random_map(64, 32)).isfinite().all()


@pytest.mark.parametrize(("place", "count"), [("branches", 1 + 7 * 2 + 4), ("first", 1), ("map", 1)])
def test_spade_has_its_nib_where_it_is_asked_for(place, count):
    network = tiny("spade", FEATURE, nib_place=place)
    assert sum(isinstance(module, NIB) for module in network.modules()) == count


def test_without_nib_every_place_is_the_same_network():
    weights = [tiny("spade", nib_place=place).state_dict() for place in ("branches", "first", "map")]
    assert all(weights[0].keys() == other.keys() for other in weights)


def test_pix2pix_reads_the_map_by_one_nib():
    assert sum(isinstance(module, NIB) for module in tiny("pix2pix", FEATURE).modules()) == 1


@pytest.mark.parametrize("place", ["branches", "map"])
def test_spades_branches_vary_on_a_constant_map_with_nib_and_not_without(place):
    """What a branch gives for a constant map, beyond the border's reach: constant, unless a NIB is in front."""

    def spread_of_branches(network):
        seen = []
        norms = [module for module in network.modules() if hasattr(module, "gamma_beta")]
        hooks = [norm.gamma_beta.register_forward_hook(lambda _m, _i, answer: seen.append(answer)) for norm in norms]
        with torch.no_grad():
            network(label_map(torch.zeros(1, 256, 256, dtype=torch.int64)))
        for hook in hooks:
            hook.remove()
        large = [answer[..., 3:-3, 3:-3] for answer in seen if answer.shape[-1] >= 16]
        return [float((a.amax(dim=(-2, -1)) - a.amin(dim=(-2, -1))).max()) for a in large]

    assert max(spread_of_branches(tiny("spade", nib_place=place))) <= 1e-6
    assert min(spread_of_branches(tiny("spade", FEATURE, nib_place=place))) > 1e-6
    assert min(spread_of_branches(tiny("spade", FEATURE, nib_place="first"))) <= 1e-6


def test_each_branch_reads_the_noise_of_its_own_size():
    """At half the size the field is that of the smaller map, not a shrunk one: no pixel of noise is skipped."""
    network = tiny("spade", FEATURE)
    origins = []
    for module in network.modules():
        if isinstance(module, NIB):
            module.register_forward_pre_hook(lambda _, seen: origins.append((seen[0].shape[-1], seen[1])))
    network(random_map(64, 64), torch.tensor([[96, 160]]))
    assert {(size, *origin[0].tolist()) for size, origin in origins} == {
        (size, 96 * size // 64, 160 * size // 64) for size in (2, 4, 8, 16, 32, 64)
    }


def test_spatial_norm_is_the_formula_of_the_paper():
    network = tiny("spade").eval()
    block = network.blocks[0]
    norm, x, label = block.norm1, torch.randn(1, 16, 4, 6), random_map(64, 96)
    from nibkit.backbones.spade import LabelMap

    shrunk = label[..., ::16, ::16]
    hidden = F.relu(F.conv2d(shrunk, norm.shared.weight, norm.shared.bias, padding=1))
    both = F.conv2d(hidden, norm.gamma_beta.weight, norm.gamma_beta.bias, padding=1)
    gamma, beta = both[:, :16], both[:, 16:]
    expected = (x - norm.norm.running_mean[:, None, None]) / (norm.norm.running_var[:, None, None] + 1e-5).sqrt()
    assert torch.allclose(norm(x, LabelMap(label, torch.zeros(1, 2).long())), expected * (1 + gamma) + beta, atol=1e-5)


def test_spades_weights_have_a_spectral_norm_of_one():
    network = tiny("spade")
    for _ in range(30):
        network(random_map(32, 64))
    weight = network.blocks[0].conv1.weight.flatten(1)
    assert float(torch.linalg.matrix_norm(weight.detach(), 2)) == pytest.approx(1, abs=0.02)


def test_pix2pix_used_live_varies_by_dropout_and_otherwise_does_not():
    live = tiny("pix2pix", downs=6).eval()
    still = tiny("pix2pix", downs=6, live=False).eval()
    label = random_map(64, 64)
    assert not torch.equal(live(label), live(label))
    assert torch.equal(still(label), still(label))


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"name": "spade", "ups": 7}, "backbone.ups=7"),
        ({"name": "spade", "nib_place": "last"}, "branches, first, map"),
        ({"name": "pix2pix", "downs": 3}, "backbone.downs=3"),
        ({"name": "pix2pix", "dropout": 1.0}, "backbone.dropout=1.0"),
    ],
)
def test_impossible_options_are_refused(spec, word):
    with pytest.raises(UserError, match=word):
        build_backbone(spec, NONE)
