"""The table of methods, and options as a command line states them."""

import pytest
import torch

from nibkit.classical import METHODS, check_options, find_method, method_options, parse_options
from nibkit.errors import UserError


def test_every_option_has_a_default_of_a_plain_type():
    for name in METHODS:
        assert all(type(default) in (int, float, str) for default in method_options(name).values())


def test_what_draws_at_random_takes_a_seed():
    seeded = {name for name in METHODS if "seed" in method_options(name)}
    assert seeded == {"white_noise", "void_and_cluster", "dbs", "pang"}


def test_the_options_of_direct_binary_search():
    expected = {"sigma": 1.5, "start": "ostromoukhov", "seed": 0, "max_sweeps": 1000}
    assert method_options("dbs") == expected


def test_values_take_the_type_of_the_default():
    options = parse_options("dbs", ["sigma=1", "start = white_noise", "seed=7"])
    assert options == {"sigma": 1.0, "start": "white_noise", "seed": 7}
    assert type(options["sigma"]) is float
    assert check_options("dbs", {"sigma": 2, "max_sweeps": 5}) == {"sigma": 2.0, "max_sweeps": 5}
    assert parse_options("floyd_steinberg", []) == {}
    assert find_method("dbs")(torch.zeros(1, 1, 8, 8), **options).shape == (1, 1, 8, 8)


@pytest.mark.parametrize(
    ("name", "setting", "parts"),
    [
        ("dsb", "sigma=1", ["unknown halftoning method 'dsb'", "did you mean 'dbs'", "white_noise"]),
        ("dbs", "sigm=1", ["unknown option of dbs 'sigm'", "did you mean 'sigma'", "max_sweeps"]),
        ("dbs", "sigma", ["'sigma'", "KEY=VALUE", "max_sweeps"]),
        ("dbs", "sigma=wide", ["sigma=wide of dbs must be a number", "1.5"]),
        ("dbs", "sigma=nan", ["sigma=nan of dbs must be a number"]),
        ("dbs", "seed=1.5", ["seed=1.5 of dbs must be a whole number"]),
        ("dbs", "max_sweeps=", ["max_sweeps= of dbs must be a whole number"]),
        ("floyd_steinberg", "seed=1", ["floyd_steinberg has no options", "'seed'"]),
        ("floyd_steinberg", "seed", ["'seed'", "KEY=VALUE"]),
    ],
)
def test_a_wrong_setting_is_told_in_one_sentence(name, setting, parts):
    with pytest.raises(UserError) as told:
        parse_options(name, [setting])
    assert all(part in str(told.value) for part in parts)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "options", "part"),
    [
        ("dbs", {"sigma": 0.0}, "sigma=0.0"),
        ("dbs", {"sigma": float("inf")}, "sigma=inf"),
        ("dbs", {"start": "ostro"}, "unknown start of dbs 'ostro'"),
        ("dbs", {"max_sweeps": -1}, "max_sweeps=-1"),
        ("pang", {"tone_weight": 1.1}, "tone_weight=1.1"),
        ("pang", {"steps": -1}, "steps=-1"),
        ("void_and_cluster", {"size": 16}, "size=17"),
        ("void_and_cluster", {"sigma": -1.5}, "sigma=-1.5"),
        *((name, {"seed": -1}, "seed=-1") for name in ("white_noise", "void_and_cluster", "dbs", "pang")),
        ("white_noise", {"seed": 2**32}, "seed=4294967296"),
    ],
)
def test_a_value_out_of_range_is_told_by_the_method(name, options, part):
    with pytest.raises(UserError, match=part):
        METHODS[name](torch.zeros(1, 1, 4, 4), **options)
