"""Learning-rate schedules against their formulas."""

import math

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from nibkit.errors import UserError
from nibkit.schedules import SCHEDULES, check_schedule, make_schedule

RATE = 0.02


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)


def rates(steps, **options):
    """Return the rate of each of `steps` training steps, as a share of the first rate."""
    sgd = optimizer()
    schedule, shares = make_schedule(sgd, **options), []
    for _ in range(steps):
        shares.append(sgd.param_groups[0]["lr"] / RATE)
        sgd.step()
        schedule.step()
    return shares


def test_constant_stays():
    assert rates(5, name="constant", total_steps=5) == pytest.approx([1] * 5)


@pytest.mark.parametrize("name", ["constant", "cosine", "polynomial"])
def test_warmup_rises_in_equal_steps_to_the_full_rate(name):
    shares = rates(6, name=name, warmup=4, total_steps=math.inf)
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


@pytest.mark.parametrize("final", [0.0, 0.01, 0.5])
def test_cosine_goes_down_to_its_final_share_and_stays(final):
    shares = rates(13, name="cosine", final=final, total_steps=10)
    wave = [final + (1 - final) * math.cos(math.pi * step / 20) ** 2 for step in range(10)]
    assert shares == pytest.approx([*wave, final, final, final], abs=1e-12)


@pytest.mark.parametrize("name", ["cosine", "polynomial"])
def test_decay_with_warmup_is_their_product(name):
    shares = rates(8, name=name, warmup=3, final=0.1, total_steps=8)
    plain = rates(8, name=name, final=0.1, total_steps=8)
    rise = [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    assert shares == pytest.approx([r * p for r, p in zip(rise, plain, strict=True)])


@pytest.mark.parametrize(("final", "power"), [(0.0, 0.9), (0.01, 0.9), (0.1, 2.0)])
def test_polynomial_goes_down_to_its_final_share_and_stays(final, power):
    shares = rates(13, name="polynomial", final=final, power=power, total_steps=10)
    decay = [final + (1 - final) * ((10 - step) / 10) ** power for step in range(10)]
    assert shares == pytest.approx([*decay, final, final, final], abs=1e-12)


def test_polynomial_is_the_published_one_by_default():
    # Xia et al. 2018: from 2e-4 to 2e-6 with power .9
    assert rates(8, name="polynomial", total_steps=8) == rates(
        8, name="polynomial", final=0.01, power=0.9, total_steps=8
    )


def test_pix2pix_holds_its_rate_for_half_the_run_and_goes_down_to_nothing():
    # Isola et al. 2017: 100 epochs at the full rate, 100 more in a line down to 0
    shares = rates(13, name="polynomial", power=1, hold=0.5, final=0, total_steps=10)
    assert shares == pytest.approx([1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0, 0, 0], abs=1e-12)


@pytest.mark.parametrize("options", [{"name": "cosine"}, {"name": "polynomial", "power": 0.9}], ids=str)
@pytest.mark.parametrize(("hold", "held"), [(0.2, 4), (0.75, 15), (0.0, 0)])
def test_what_comes_after_the_hold_is_the_whole_decay_in_the_steps_left(options, hold, held):
    shares = rates(24, **options, hold=hold, final=0.1, total_steps=20)
    assert shares[:held] == pytest.approx([1] * held)
    assert shares[held:] == pytest.approx(rates(24 - held, **options, final=0.1, total_steps=20 - held))


def test_warmup_is_within_the_hold():
    shares = rates(8, name="polynomial", power=1, warmup=3, hold=0.5, final=0, total_steps=8)
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25])


@pytest.mark.parametrize("name", ["cosine", "polynomial"])
@pytest.mark.parametrize("hold", [0, 0.5])
def test_a_run_without_end_keeps_its_rate(name, hold):
    assert rates(4, name=name, hold=hold, total_steps=math.inf) == pytest.approx([1] * 4)


def test_a_run_of_no_steps_is_no_error():
    assert rates(1, name="cosine", total_steps=0) == pytest.approx([1])


def test_plateau_lowers_the_rate_when_patience_is_spent():
    sgd = optimizer()
    schedule = make_schedule(sgd, "plateau", patience=1, factor=0.1, total_steps=100)
    assert isinstance(schedule, ReduceLROnPlateau)
    seen = []
    for figure in (1.0, 0.5, 0.6, 0.7, 0.4):
        schedule.step(figure)
        seen.append(sgd.param_groups[0]["lr"] / RATE)
    assert seen == pytest.approx([1, 1, 1, 0.1, 0.1])


def test_the_default_is_cosine():
    assert rates(5, total_steps=5) == rates(5, name="cosine", warmup=0, final=0.01, total_steps=5)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"name": "cosin"}, "did you mean 'cosine'?"),
        ({"warmup": -1}, "warmup=-1"),
        ({"final": 1.5}, "final=1.5"),
        ({"name": "constant", "final": -0.1}, "final=-0.1"),
        ({"name": "polynomial", "power": 0}, "power=0"),
        ({"hold": 1}, "hold=1"),
        ({"hold": -0.5}, "hold=-0.5"),
    ],
    ids=str,
)
def test_bad_values_are_named(options, word):
    with pytest.raises(UserError) as caught:
        make_schedule(optimizer(), **options, total_steps=10)
    assert word in str(caught.value)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_good_spec_passes_the_check(name):
    check_schedule({"name": name, "warmup": 3, "final": 0.1, "patience": 2, "factor": 0.5, "power": 2, "hold": 0.5})
    check_schedule({})


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "linear"}, ["task.schedule.name 'linear'", "constant, cosine, plateau, polynomial"]),
        ({"name": "cosine", "warm_up": 5}, ["option of task.schedule 'warm_up'", "did you mean 'warmup'?"]),
    ],
    ids=str,
)
def test_a_bad_spec_is_found_before_training(spec, words):
    with pytest.raises(UserError) as caught:
        check_schedule(spec)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("value", [{"hold": 1.0}, {"warmup": -3}, {"final": 2.0}, {"power": 0.0}], ids=str)
def test_a_value_out_of_range_is_found_before_training(value):
    ((key, number),) = value.items()
    with pytest.raises(UserError, match=rf"task\.schedule.*{key}={number}"):
        check_schedule({"name": "polynomial", **value})
