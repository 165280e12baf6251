"""Void-and-cluster masks against Ulichney's rules, energies from scratch; their blue noise."""

import numpy as np
import pytest
import torch

from nibkit.classical import blue_noise_mask, void_and_cluster
from nibkit.metrics.spectrum import low_frequency_ratio, power_spectrum


def naive_energy(dots, sigma):
    """A periodic Gaussian, cut at five sigma, around every dot."""
    size, reach = len(dots), int(np.ceil(5 * sigma))
    offset = (np.arange(size) + size // 2) % size - size // 2
    bell = np.where(abs(offset) <= reach, np.exp(-(offset**2) / (2 * sigma**2)), 0)
    return sum(np.roll(np.outer(bell, bell), tuple(dot), axis=(0, 1)) for dot in np.argwhere(dots))


@pytest.mark.parametrize(("size", "sigma", "seed"), [(17, 1.5, 0), (16, 1.4, 1)])
def test_every_rank_is_what_ulichney_asks_for(size, sigma, seed):
    """Equal energies are chosen among by rounding, so the choice must be the best, not a certain one of the best."""
    rank, initial = blue_noise_mask(size, sigma, seed), round(size * size / 10)
    for place in range(size * size):
        chosen, dots = rank == place, rank < place
        if place < initial:  # phase 1: the tightest cluster of the dots that were left
            left = naive_energy(dots | chosen, sigma)
            assert left[chosen] > left[dots | chosen].max() - 1e-9
        elif place < size * size / 2:  # phase 2: the largest void
            energy = naive_energy(dots, sigma)
            assert energy[chosen] < energy[~dots].min() + 1e-9
        else:  # phase 3: the tightest cluster of empty pixels
            energy = naive_energy(~dots, sigma)
            assert energy[chosen] > energy[~dots].max() - 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_in_the_initial_pattern_the_tightest_cluster_leaves_the_largest_void(seed):
    rank, initial = blue_noise_mask(20, 1.5, seed), 40
    dots = (rank < initial - 1).astype(bool)  # the last of the initial dots is the tightest cluster
    energy = naive_energy(dots, 1.5)
    assert energy[rank == initial - 1] < energy[~dots].min() + 1e-9


def test_ranks_are_a_permutation_that_depends_on_the_seed():
    masks = [blue_noise_mask(64, 1.5, seed) for seed in (0, 1)]
    for mask in masks:
        np.testing.assert_array_equal(np.sort(mask, axis=None), np.arange(64 * 64))
    assert (masks[0] != masks[1]).any()


@pytest.mark.parametrize("share", [0.02, 0.05, 0.12])
def test_dots_keep_apart_across_the_seams_too(share):
    """The distance of each dot's nearest neighbour, on the torus, is near that of a hexagonal grid."""
    dots = np.argwhere(blue_noise_mask(64) < share * 64**2)
    steps = abs(dots[:, None] - dots[None])
    steps = np.minimum(steps, 64 - steps)
    distance = np.hypot(*np.moveaxis(steps, -1, 0)) + 99 * np.eye(len(dots))
    hexagonal = np.sqrt(2 / (np.sqrt(3) * share))
    assert distance.min() >= 0.4 * hexagonal
    assert distance.min(axis=1).mean() > 0.7 * hexagonal  # a Poisson process has .47 of it
    border = ((dots < 2) | (dots > 61)).any(axis=1)
    assert distance.min(axis=1)[border].mean() == pytest.approx(distance.min(axis=1).mean(), rel=0.15)


def test_every_level_is_blue_noise_and_has_its_share_of_dots():
    for level in range(8, 248, 8):
        tone = level / 255
        halftone = void_and_cluster(torch.full((1, 1, 128, 128), 2 * tone - 1))
        assert float((halftone > 0).double().mean()) == pytest.approx(tone, abs=1 / 64**2)
        assert low_frequency_ratio(power_spectrum(halftone), tone) < 0.2  # white noise: 1


def test_the_mask_repeats_and_lighter_never_loses_a_dot():
    gray = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (1, 1, 17, 17)))
    wide = void_and_cluster(gray.repeat(1, 1, 2, 3), size=17)
    assert torch.equal(wide, void_and_cluster(gray, size=17).repeat(1, 1, 2, 3))
    assert (void_and_cluster((gray + 0.2).clamp(max=1), size=17) >= void_and_cluster(gray, size=17)).all()
