"""Draws belong to their samples: not to the batch, the process or the time at which they are made."""

import pytest
import torch
from scipy import stats

from nibkit.draws import Dropout, draw_keys, drawn_for, evaluation_key, training_key, uniform_like
from nibkit.estimators import get_estimator
from nibkit.losses import Tone
from nibkit.nib import NIB
from nibkit.noise import Dynamic, Normal
from nibkit.registry import build_backbone

KEYS = torch.tensor([training_key(0, 3, index) for index in range(6)])


def whole_and_parts(draw):
    """What ``draw(B, samples)`` gives for six samples at once, and for each alone in another order."""
    with drawn_for({"draw": KEYS}):
        whole = draw(torch.arange(6))
    parts = {}
    for index in (4, 0, 5, 1, 3, 2):
        with drawn_for({"draw": KEYS[index : index + 1]}):
            parts[index] = draw(torch.tensor([index]))
    return whole, torch.cat([parts[index] for index in range(6)])


def noisy(samples):
    nib = NIB(1, 1, noise=Dynamic(Normal(0.3)))
    torch.nn.init.ones_(nib.conv.weight)
    return nib.planes(torch.zeros(len(samples), 1, 5, 7))


def twice(samples):
    return torch.cat(
        (uniform_like(torch.empty(len(samples), 2, 3, 4)), uniform_like(torch.empty(len(samples), 2, 3, 4))), 1
    )


def dropped(samples):
    return Dropout(0.5)(torch.ones(len(samples), 4, 6, 6))


def gradient_of_pixels(samples):
    """The gradient of the estimator that draws pixels, which is no mean over samples here."""
    logits = torch.linspace(-1, 1, 256).reshape(1, 1, 16, 16).repeat(len(samples), 1, 1, 1).requires_grad_()
    terms = get_estimator("per_pixel")(logits, torch.zeros_like(logits).detach(), {"tone": Tone(1.5, "valid")})
    (terms["tone"] * len(samples)).backward()
    return logits.grad


@pytest.mark.parametrize("draw", [noisy, twice, dropped, gradient_of_pixels])
def test_a_sample_draws_the_same_in_any_batch(draw):
    whole, parts = whole_and_parts(draw)
    assert torch.allclose(whole, parts, atol=1e-7)
    assert not torch.allclose(whole[0], whole[1])


def test_what_a_task_puts_behind_the_samples_belongs_to_them_too():
    """Constant grays behind a batch draw as those of the same samples elsewhere, and not as the images."""
    with drawn_for({"draw": KEYS[:4]}):
        both = draw_keys(8)
    with drawn_for({"draw": KEYS[2:4]}):
        alone = draw_keys(4)
    assert both[[2, 3, 6, 7]].tolist() == alone.tolist()
    assert len(set(both.tolist())) == 8


def test_one_draw_after_the_other_is_another():
    with drawn_for({"draw": KEYS}):
        first, second = draw_keys(6), draw_keys(6)
        with drawn_for({"draw": KEYS}):
            again = draw_keys(6)
        third = draw_keys(6)
    assert again.tolist() == first.tolist()
    assert len({*first.tolist(), *second.tolist(), *third.tolist()}) == 18


def test_without_keys_torch_s_generator_decides():
    torch.manual_seed(1)
    first, second = draw_keys(3), draw_keys(3)
    torch.manual_seed(1)
    with drawn_for({"image": torch.zeros(3)}):
        assert draw_keys(3).tolist() == first.tolist()
    assert first.tolist() != second.tolist()


def test_keys_differ_by_seed_epoch_index_and_name():
    places = ((0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 11), (0, 1, 1), (1, 1, 0))
    assert len({training_key(*place) for place in places}) == len(places)
    assert evaluation_key("a") != evaluation_key("b")


def test_drawn_numbers_are_uniform():
    with drawn_for({"draw": KEYS}):
        values = uniform_like(torch.empty(6, 4, 64, 64, dtype=torch.float64))
    assert values.dtype == torch.float64
    assert stats.kstest(values.flatten().numpy(), "uniform").pvalue > 0.001


@pytest.mark.parametrize("live", [False, True])
def test_dropout_keeps_the_mean_and_stays_on_where_it_lives(live):
    layer, ones = Dropout(0.3, live), torch.ones(4, 16, 32, 32)
    with drawn_for({"draw": KEYS[:4]}):
        dropped = layer(ones)
    assert dropped.unique().tolist() == [0.0, pytest.approx(1 / 0.7)]
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(layer.eval()(ones), ones) is not live


def test_pix2pix_draws_by_its_samples():
    torch.manual_seed(0)
    network = build_backbone({"name": "pix2pix", "in_channels": 2, "width": 2, "downs": 6}, {"form": "feature"}).eval()
    image = torch.rand(1, 2, 64, 64)
    answers = []
    for key in (5, 6, 5):
        with drawn_for({"draw": torch.tensor([key])}):
            answers.append(network(image))
    assert torch.equal(answers[0], answers[2])
    assert not torch.equal(answers[0], answers[1])
