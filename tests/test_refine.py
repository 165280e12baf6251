"""Refinement against the energy that it lowers, taken by brute force."""

import itertools

import numpy as np
import pytest
import torch
from conftest import draw
from scipy import signal
from torch.nn import functional

from nibkit.errors import UserError
from nibkit.filters import autocorrelation, band_matrix, gaussian_filter, gaussian_kernel, separable
from nibkit.losses.structure import structure_loss
from nibkit.noise import blue_noise_field
from nibkit.refine import (
    CELL,
    PATTERNS,
    PHASES,
    REACH,
    SHIFTS,
    Refined,
    Refinement,
    best_patterns,
    put_blocks,
    take_blocks,
    tone_gain,
)
from nibkit.registry import build_backbone
from nibkit.structure_gain import StructureGain, structure_estimate
from nibkit.tiles import answer_strips

EVERY_PHASE = list(itertools.product(range(CELL), repeat=2))
BLUE = {"form": "symmetric", "noise": "blue", "distribution": "uniform", "scale": 1.0}


def random_pair(height, width, batch=1, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    gray = torch.rand(batch, 1, height, width, generator=generator, dtype=dtype) * 1.6 - 0.8
    return torch.where(gray > torch.rand(gray.shape, generator=generator) * 2 - 1, 1.0, -1.0).to(dtype), gray


def picture(height, width, seed=0):
    return torch.from_numpy(draw(seed, height, width)).float()[None, None] / 127.5 - 1


def thresholded(gray):
    """Return the dots of an image against the blue-noise mask."""
    mask = blue_noise_field()[: gray.shape[-2], : gray.shape[-1]].to(gray)
    return torch.where((gray + 1) / 2 > mask, 1.0, -1.0).to(gray)


def energy(halftone, gray, sigma=1.5):
    """|G * e|^2 / (2 |G|^2) of one image, the error e being 0 beyond the border and G reaching there."""
    taps = gaussian_kernel(sigma).numpy()
    kernel = np.outer(taps, taps)
    filtered = signal.convolve2d((halftone - gray)[0, 0].double().numpy(), kernel, mode="full")
    return float((filtered**2).sum() / (2 * (kernel**2).sum()))


def normalised(sigma):
    near = autocorrelation(sigma)
    return tuple(value / near[0] for value in near)


def coupling(sigma):
    side = normalised(sigma)[1]
    places = list(itertools.product(range(2), repeat=2))
    return torch.tensor([
        [0.0 if a == b else side ** (abs(a[0] - b[0]) + abs(a[1] - b[1])) for b in places] for a in places
    ])  # fmt: skip


def own_part_removed(halftone, gray, phase, sigma):
    field = take_blocks(tone_gain(halftone, gray, normalised(sigma)), phase)
    return field - torch.einsum("ij,bjyx->biyx", coupling(sigma).to(field), take_blocks(halftone, phase))


def with_pattern(halftone, y, x, pattern):
    trial = halftone.clone()
    trial[0, 0, y : y + 2, x : x + 2] = pattern.reshape(2, 2)
    return trial


def test_the_patterns_are_all_sixteen_and_numbered_by_their_bits():
    assert PATTERNS.shape == (16, 4)
    for number, pattern in enumerate(PATTERNS):
        assert [int(bit) for bit in f"{number:04b}"] == ((pattern + 1) / 2).tolist()


@pytest.mark.parametrize("phase", EVERY_PHASE)
def test_blocks_are_taken_from_their_place_and_put_back(phase):
    image = torch.arange(2 * 8 * 12.0).reshape(2, 1, 8, 12)
    blocks = take_blocks(image, phase)
    assert blocks.shape == (2, 4, 2, 3)
    for row, column, (i, (dy, dx)) in itertools.product(
        range(2), range(3), enumerate(itertools.product(range(2), repeat=2))
    ):
        y, x = (phase[0] + 4 * row + dy) % 8, (phase[1] + 4 * column + dx) % 12
        assert torch.equal(blocks[:, i, row, column], image[:, 0, y, x])
    assert torch.equal(put_blocks(image, blocks, phase), image)
    replaced = put_blocks(image, -1 - blocks, phase)
    assert torch.equal(take_blocks(replaced, phase), -1 - blocks)
    assert int((replaced != image).sum()) == blocks.numel()  # and no other pixel


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_sweep_meets_every_pixel_once(shift):
    met = torch.zeros(1, 1, 8, 12)
    for y, x in PHASES:
        phase = ((y + shift[0]) % CELL, (x + shift[1]) % CELL)
        met = put_blocks(met, take_blocks(met, phase) + 1, phase)
    assert torch.equal(met, torch.ones_like(met))


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0])
def test_tone_gain_is_half_of_what_a_white_pixel_adds_to_the_energy(sigma):
    halftone, gray = random_pair(7, 9)
    gain = tone_gain(halftone, gray, normalised(sigma))
    for y, x in np.ndindex(7, 9):
        white, black = halftone.clone(), halftone.clone()
        white[..., y, x], black[..., y, x] = 1, -1
        assert float(gain[0, 0, y, x]) == pytest.approx(
            (energy(white, gray, sigma) - energy(black, gray, sigma)) / 2, abs=1e-5
        )


@pytest.mark.parametrize("sigma", [1.0, 1.5])
@pytest.mark.parametrize("phase", [(0, 0), (1, 2), (2, 1)])
def test_the_best_pattern_of_every_block_is_that_of_all_sixteen(phase, sigma):
    halftone, gray = random_pair(8, 8)
    chosen = best_patterns(own_part_removed(halftone, gray, phase, sigma), coupling(sigma).double())
    assert set(chosen.unique().tolist()) <= {-1.0, 1.0}
    for row, column in np.ndindex(2, 2):  # the border ones too: none of them wraps around
        y, x = phase[0] + 4 * row, phase[1] + 4 * column
        energies = [energy(with_pattern(halftone, y, x, s), gray, sigma) for s in PATTERNS.double()]
        own = energy(with_pattern(halftone, y, x, chosen[0, :, row, column]), gray, sigma)
        assert own == pytest.approx(min(energies), abs=1e-5)
        before = energy(halftone, gray, sigma)
        assert own <= before + 1e-5  # a block that moves alone never makes it worse


def test_best_patterns_against_a_loop():
    field = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pairs = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64).triu(1)
    chosen = best_patterns(field, pairs + pairs.T)
    for image, y, x in np.ndindex(2, 3, 5):
        energies = {s: s @ field[image, :, y, x] + s @ pairs @ s for s in PATTERNS.double()}
        assert torch.equal(chosen[image, :, y, x], min(energies, key=energies.get))


def test_of_equal_patterns_the_first_is_taken():
    field = torch.randint(-2, 3, (2, 4, 30, 40), generator=torch.Generator().manual_seed(0)).double()
    matrix = torch.ones(4, 4, dtype=torch.float64) - torch.eye(4)  # whole numbers: many ties
    assert torch.equal(best_patterns(field, matrix), plain_patterns(field, matrix))


def plain_patterns(field, matrix):
    """Return the best patterns by looking at all energies, with ``[B, 4, h, w]`` in and out."""
    patterns = PATTERNS.to(field)
    pairs = (patterns @ matrix.triu() * patterns).sum(dim=1)
    energy = torch.einsum("si,biyx->byxs", patterns, field) + pairs
    return patterns[torch.from_numpy(energy.numpy().argmin(axis=-1))].movedim(-1, 1)


def plain_refinement(halftone, gray, sweeps, structure, sigma=1.5):
    """Return the refined halftone by the definition: whole band matrices, rolled cells, all energies."""
    near = autocorrelation(sigma)
    bands = [band_matrix(normalised(sigma), side) for side in gray.shape[-2:]]
    matrix = coupling(sigma).to(gray)
    for sweep in range(sweeps):
        pull = plain_estimate(halftone, gray) * (structure / (4 * near[0] ** 2))
        for y, x in PHASES:
            place = [(start + shift) % CELL for start, shift in zip((y, x), SHIFTS[sweep % 4], strict=True)]
            gain = separable(halftone - gray, *bands) - halftone + pull
            cells, gains = (
                functional.pixel_unshuffle(z.roll((-place[0], -place[1]), dims=(-2, -1)), CELL)
                for z in (halftone, gain)
            )
            block = [0, 1, 4, 5]
            others = gains[:, block] - torch.einsum("ij,bjyx->biyx", matrix, cells[:, block])
            cells[:, block] = plain_patterns(others, matrix)
            halftone = functional.pixel_shuffle(cells, CELL).roll(place, dims=(-2, -1))
    return halftone


def plain_estimate(halftone, gray):
    """Return what a flip changes in structure by the formula of SSIM, all of it anew."""
    h, g = (halftone + 1) / 2, (gray + 1) / 2
    kernel = tuple(gaussian_kernel(1.5).tolist()[5:])
    bands = [band_matrix(kernel, side) for side in gray.shape[-2:]]
    u, v, mean, square = (separable(z, *bands) for z in (h, h * g, g, g * g))
    variance = (square - mean**2).clamp(min=0)
    count = variance / (variance + 0.03**2)

    def flipped(step):
        moved = u + step
        top = (
            count
            * (2 * moved * mean + 0.01**2)
            / ((moved**2 + mean**2 + 0.01**2) * (moved - moved**2 + variance + 0.03**2))
        )
        return top * (2 * v + 0.03**2 - 2 * moved * mean), top * 2 * step

    changes = []
    for step in ((1 - u).clamp(1e-4, 0.03), -u.clamp(1e-4, 0.03)):
        p, r = flipped(step)
        changes.append([separable(z, *bands) for z in ((p - flipped(0)[0]) / step.abs(), r / step.abs())])
    (whiter, with_g), (blacker, less_g) = changes
    return torch.where(h > 0.5, blacker + g * less_g, -(whiter + g * with_g))


@pytest.mark.parametrize("size", [(8, 12), (96, 112), (200, 136)])
@pytest.mark.parametrize("batch", [1, 2])
def test_the_estimate_of_structure_is_that_of_the_formula(size, batch):
    gray = torch.cat([picture(*size, seed) for seed in range(batch)])
    estimate, expected = structure_estimate(thresholded(gray), gray), plain_estimate(thresholded(gray), gray)
    torch.testing.assert_close(estimate, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    wide, expected = gray.double(), plain_estimate(thresholded(gray).double(), gray.double())
    estimate = structure_estimate(thresholded(gray).double(), wide)
    torch.testing.assert_close(estimate, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


def test_estimates_of_an_image_do_not_influence_each_other():
    gray = picture(40, 44)
    gain = StructureGain(gray)
    first, second = thresholded(gray), random_pair(40, 44, dtype=torch.float32)[0]
    gains = [gain(halftone) for halftone in (first, second, first)]
    assert torch.equal(gains[0], gains[2])
    assert torch.equal(gains[1], structure_estimate(second, gray))


@pytest.mark.parametrize(("seed", "size"), [(0, (96, 112)), (1, (204, 156)), (2, (4, 40)), (3, (320, 352))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_refined_halftones_are_those_of_the_definition(seed, size, dtype):
    gray = picture(*size, seed).to(dtype)
    halftone = thresholded(gray)
    assert torch.equal(Refinement(5)(halftone, gray), plain_refinement(halftone, gray, 5, 0.1))


def test_autocast_changes_no_dot():
    gray = picture(40, 44)
    with torch.autocast("cpu", torch.bfloat16):
        halftone = Refinement(2)(thresholded(gray), gray)
    assert torch.equal(halftone, Refinement(2)(thresholded(gray), gray))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("start", ["white", "blue"])
def test_sweeps_lower_the_tone_energy(seed, start):
    gray = picture(96, 112, seed)
    torch.manual_seed(0)
    halftone = thresholded(gray) if start == "blue" else torch.where(gray > torch.rand_like(gray) * 2 - 1, 1.0, -1.0)

    def inside(x):  # where the border has no say
        return float(gaussian_filter(x - gray, 1.5, padding="valid")[..., 11:-11, 11:-11].square().mean())

    energies = [inside(Refinement(sweeps, structure=0)(halftone, gray)) for sweeps in range(6)]
    assert energies[0] == inside(halftone)  # no sweep, no change
    assert energies[5] < (0.6 if start == "blue" else 0.1) * energies[0]
    assert energies[5] < energies[3] < energies[1]
    assert energy(Refinement(5, structure=0)(halftone, gray), gray) < 0.8 * energy(halftone, gray)


def test_structure_is_followed_by_its_weight():
    gray = picture(80, 88, 3)
    halftone = thresholded(gray)
    losses = [float(structure_loss(Refinement(4, weight)(halftone, gray), gray, True)) for weight in (0, 0.1, 0.5)]
    assert losses[0] > losses[1] + 0.003
    assert losses[1] > losses[2] + 0.003


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (33, 40)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_of_any_size_stay_binary(size, dtype):
    halftone, gray = random_pair(*size, batch=2, dtype=dtype)
    refined = Refinement()(halftone, gray)
    assert (refined.shape, refined.dtype) == (gray.shape, dtype)
    assert set(refined.unique().tolist()) <= {-1.0, 1.0}


@pytest.mark.parametrize("level", [-1.0, 1.0])
@pytest.mark.parametrize("start", [-1.0, 1.0])
def test_black_and_white_have_no_dots(level, start):
    # black tries hardest: its windows have no variance, and no mean
    gray = torch.full((1, 1, 24, 28), level)
    assert torch.equal(Refinement()(torch.full_like(gray, start), gray), gray)


def test_every_gray_level_has_dots_and_its_mean():
    levels = torch.arange(0.05, 0.951, 0.05)
    gray = (2 * levels - 1)[:, None, None, None].expand(-1, 1, 64, 64)
    wide = torch.nn.functional.pad(gray, (REACH,) * 4, mode="replicate")
    refined = Refinement(3)(thresholded(wide), wide)[..., REACH:-REACH, REACH:-REACH]
    assert (refined.std(dim=(1, 2, 3)) > 0.1).all()
    assert ((refined.mean(dim=(1, 2, 3)) + 1) / 2 - levels).abs().max() < 0.005


def test_images_of_a_batch_do_not_influence_each_other():
    halftone, gray = random_pair(20, 24, batch=3, dtype=torch.float32)
    together = Refinement(2)(halftone, gray)
    assert torch.equal(together[1:2], Refinement(2)(halftone[1:2], gray[1:2]))


@pytest.mark.parametrize("corner", [(52, 64), (56, 48)])
def test_a_tile_with_its_surroundings_is_refined_as_in_the_whole(corner):
    gray = picture(200, 216, 1)
    halftone = thresholded(gray)
    y, x = corner
    around = (..., slice(y - REACH, y + 60 + REACH), slice(x - REACH, x + 60 + REACH))
    whole = Refinement()(halftone, gray)[..., y : y + 60, x : x + 60]
    tile = Refinement()(halftone[around], gray[around])[..., REACH:-REACH, REACH:-REACH]
    assert (tile != halftone[..., y : y + 60, x : x + 60]).float().mean() > 0.05  # there was something to do
    assert (tile != whole).float().mean() < 1e-3


@pytest.mark.parametrize(
    "values", [{"sweeps": -1}, {"structure": -0.1}, {"structure": float("nan")}, {"sigma": 0}, {"sigma": float("nan")}]
)
def test_values_out_of_range_are_refused_in_one_sentence(values):
    with pytest.raises(UserError, match=f"refinement with .*{next(iter(values))}=.*out of range") as caught:
        Refinement(**values)
    assert "\n" not in str(caught.value)


def refined_network(name="resnet", nib=BLUE, **options):
    torch.manual_seed(0)
    network = build_backbone({"name": name, "width": 2, **({"blocks": 1} if name == "resnet" else {}), **options}, nib)
    return Refined(network, Refinement(2)).eval()


@pytest.mark.parametrize("name", ["resnet", "unet"])
@pytest.mark.parametrize("size", [(1, 1), (7, 9), (33, 40)])
def test_a_refined_network_answers_a_halftone_of_any_size(name, size):
    network = refined_network(name)
    with torch.inference_mode():
        answer = network(picture(*size))
    assert answer.shape == (1, 1, *size)
    assert set(answer.unique().tolist()) <= {-1.0, 1.0}


def test_a_refined_network_is_the_refinement_of_its_networks_halftone():
    network, gray, origin = refined_network(), picture(24, 28), torch.tensor([[8, -12]])
    wide = torch.nn.functional.pad(gray, (REACH,) * 4, mode="replicate")
    with torch.inference_mode():
        first = torch.where(network.network(wide, origin - REACH) > 0, 1.0, -1.0)
        expected = Refinement(2)(first, wide)[..., REACH:-REACH, REACH:-REACH]
        assert torch.equal(network(gray, origin), expected)
        assert not torch.equal(network(gray, origin + 4), expected)  # the noise is read elsewhere


def test_tiles_of_a_refined_network_are_the_whole(monkeypatch):
    monkeypatch.setattr("nibkit.tiles.block_side", lambda network: 64)
    network = refined_network()
    plane = draw(2, 130, 150).astype(np.uint16) * 257
    with torch.inference_mode():
        strips = torch.cat(list(answer_strips(network, plane)), dim=1)
        whole = network(picture(130, 150, 2))[0]
    assert strips.shape == whole.shape == (1, 130, 150)
    assert (strips != whole).float().mean() < 1e-3
