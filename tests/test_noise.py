"""Noise fields against scipy and against the same hash in Python integers."""

import numpy as np
import pytest
import torch
from scipy import stats

from nibkit import hashing
from nibkit.classical.void_and_cluster import blue_noise_mask
from nibkit.hashing import hashed_uniform, mix_bits
from nibkit.noise import (
    Bernoulli,
    BlueNoise,
    Dynamic,
    Grid,
    Normal,
    Stationary,
    Uniform,
    blue_noise_field,
)

ORIGINS = [(0, 0), (-13, -21), (-5, 2**20), (2**20 + 3, 2**20 - 7), (2**31 - 20, -(2**31) - 20)]
DISTRIBUTIONS = [Normal(), Uniform(), Bernoulli(0.3)]
MASK = 0xFFFFFFFF


def field(distribution=None, seed=0, size=(512, 512), origin=(0, 0), channels=1):
    return Stationary(distribution or Normal(), seed)(1, channels, *size, torch.tensor([origin]))[0]


def correlation(a, b):
    return float(np.corrcoef(a.flatten(), b.flatten())[0, 1])


def strongest_echo(plane):
    """The largest autocorrelation of a plane at any shift but zero, as a share of its variance."""
    centred = plane.double() - plane.double().mean()
    echo = torch.fft.ifft2(torch.fft.fft2(centred).abs().square()).real
    echo = echo / echo[0, 0].clone()
    echo[0, 0] = 0
    return float(echo.abs().max())


def mix_integer(x):
    x &= MASK
    x = (x ^ (x >> 16)) * 0x7FEB352D & MASK
    x = (x ^ (x >> 15)) * 0x846CA68B & MASK
    return x ^ (x >> 16)


def test_mix_bits_is_exact_in_64_bit_arithmetic():
    words = [0, 1, 0x80000000, MASK, -1, 2**40 + 5, *np.random.default_rng(0).integers(0, MASK, 500).tolist()]
    assert mix_bits(torch.tensor(words)).tolist() == [mix_integer(word) for word in words]


def test_words_of_32_bits_are_mixed_to_the_same_bits():
    edges = [0, 1, 0x7FFFFFFF, 0x80000000, MASK]
    words = torch.tensor([*edges, *np.random.default_rng(1).integers(0, MASK, 500, endpoint=True).tolist()])
    mixed = hashing._mix_words(hashing._words(words))
    assert mixed.dtype == torch.int32
    assert torch.equal(mixed.long() & MASK, mix_bits(words))


def plain_uniform(key, channels, height, width, origin):
    """Return the field by 64-bit arithmetic alone."""
    rows, columns = (origin[:, axis, None].long() + torch.arange(n) for axis, n in enumerate((height, width)))
    stream = mix_bits(mix_bits(key[:, None]) + torch.arange(channels))
    row_hash = mix_bits(rows[:, None] ^ stream[..., None])
    column_hash = mix_bits((columns + 0x9E3779B9)[:, None] ^ mix_bits(stream)[..., None])
    bits = mix_bits(row_hash[..., None] ^ column_hash[..., None, :])
    return ((bits >> 9).float() + 0.5) / 2**23


@pytest.mark.parametrize("size", [(1, 1), (37, 50), (64, 33)])
def test_the_field_has_the_bits_of_64_bit_arithmetic(size):
    key = torch.tensor([0, -1, 2**62, 77, MASK])
    field = hashed_uniform(key, 2, *size, torch.tensor(ORIGINS))
    assert torch.equal(field, plain_uniform(key, 2, *size, torch.tensor(ORIGINS)))


def test_each_input_bit_flips_half_of_the_output_bits():
    words = torch.arange(4096)
    for bit in range(32):
        changed = mix_bits(words) ^ mix_bits(words ^ (1 << bit))
        flipped = sum((changed >> i) & 1 for i in range(32)).double().mean()
        assert abs(float(flipped) - 16) < 0.8, bit


@pytest.mark.parametrize(("seed", "channel", "y", "x"), [(0, 0, 0, 0), (7, 2, -3, 11), (123456, 1, 2**20, -(2**20))])
def test_a_pixel_never_changes_its_value(seed, channel, y, x):
    # trained networks know the field by heart: another hash would break every checkpoint
    stream = mix_integer(mix_integer(seed) + channel)
    bits = mix_integer(mix_integer(y ^ stream) ^ mix_integer((x + 0x9E3779B9) ^ mix_integer(stream)))
    value = hashed_uniform(torch.tensor([seed]), 3, 1, 1, torch.tensor([[y, x]]))[0, channel, 0, 0]
    assert float(value) == ((bits >> 9) + 0.5) / 2**23


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_a_tile_is_the_crop_of_the_whole(distribution, origin):
    whole = field(distribution, 3, (40, 50), origin, channels=2)
    tile = field(distribution, 3, (13, 19), (origin[0] + 7, origin[1] + 11), channels=2)
    assert torch.equal(tile, whole[:, 7:20, 11:30])


def test_images_of_a_batch_do_not_influence_each_other():
    batch = Stationary(Normal(), 5)(len(ORIGINS), 2, 9, 8, torch.tensor(ORIGINS))
    for image, origin in zip(batch, ORIGINS, strict=True):
        assert torch.equal(image, field(Normal(), 5, (9, 8), origin, channels=2))


def test_origins_may_be_of_any_integer_type():
    narrow = Stationary(Normal())(1, 1, 9, 8, torch.tensor([[-4, 9]], dtype=torch.int32))
    assert torch.equal(narrow[0], field(size=(9, 8), origin=(-4, 9)))


@pytest.mark.parametrize("seed", [1, 2, 1000])
def test_seeds_are_uncorrelated(seed):
    assert abs(correlation(field(seed=0), field(seed=seed))) < 5 / 512


def test_channels_and_axes_are_uncorrelated():
    first, second, third = field(channels=3)
    assert abs(correlation(first, second)) < 5 / 512
    assert abs(correlation(second, third)) < 5 / 512
    assert abs(correlation(first, first.T.contiguous())) < 5 / 512  # but for the diagonal


def test_distant_regions_are_uncorrelated():
    assert abs(correlation(field(), field(origin=(2**20, 0)))) < 5 / 512
    assert abs(correlation(field(), field(origin=(0, -(2**20))))) < 5 / 512


@pytest.mark.parametrize("origin", [(0, 0), (-300, 2**20)])
@pytest.mark.parametrize(
    ("distribution", "reference"),
    [
        # named: without, the address of scipy's object is in the test's name
        pytest.param(Normal(), stats.norm(0, 0.3), id="normal"),
        pytest.param(Normal(0.03), stats.norm(0, 0.03), id="weak normal"),
        pytest.param(Uniform(), stats.uniform(-0.3, 0.6), id="uniform"),
        pytest.param(Uniform(2.0), stats.uniform(-2, 4), id="wide uniform"),
    ],
    ids=str,
)
def test_values_are_distributed_as_named(distribution, reference, origin):
    assert stats.kstest(field(distribution, origin=origin).flatten().numpy(), reference.cdf).pvalue > 1e-3


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_bernoulli_is_one_with_its_probability(p):
    values = field(Bernoulli(p))
    assert set(values.unique().tolist()) == {0.0, 1.0}
    assert abs(float(values.mean()) - p) < 4 * (p * (1 - p)) ** 0.5 / 512


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_the_field_has_no_period(distribution):
    assert strongest_echo(field(distribution)[0]) < 6 / 512
    assert strongest_echo(Grid()(1, 1, 512, 512, torch.zeros(1, 2, dtype=torch.int64))[0, 0]) > 0.99  # the check works


@pytest.mark.parametrize("distribution", [Normal(), Uniform()], ids=str)
@pytest.mark.parametrize("axis", [-2, -1])
def test_neighbours_differ_almost_everywhere(distribution, axis):
    steps = field(distribution).diff(dim=axis)
    assert float((steps != 0).double().mean()) > 0.9999


@pytest.mark.parametrize("bits", [0, MASK])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_extreme_bits_give_finite_noise(monkeypatch, bits, distribution):
    monkeypatch.setattr(hashing, "_mix_words", lambda x: torch.full_like(x, bits - (MASK + 1) if bits else 0))
    uniform = hashed_uniform(torch.tensor([0]), 1, 2, 2, torch.tensor([[0, 0]]))
    assert ((uniform > 0) & (uniform < 1)).all()
    assert distribution(uniform).isfinite().all()


def test_dynamic_noise_is_fresh_for_every_call_and_image():
    dynamic, origin = Dynamic(Normal()), torch.zeros(2, 2, dtype=torch.int64)
    torch.manual_seed(1)
    first, second = dynamic(2, 1, 128, 128, origin), dynamic(2, 1, 128, 128, origin)
    for other in (first[1], second[0], second[1]):
        assert abs(correlation(first[0], other)) < 5 / 128
    torch.manual_seed(1)
    assert torch.equal(first, dynamic(2, 1, 128, 128, origin))


def test_dynamic_noise_is_distributed_as_named():
    values = Dynamic(Normal(0.5))(1, 1, 256, 256, torch.zeros(1, 2, dtype=torch.int64))
    assert stats.kstest(values.flatten().numpy(), stats.norm(0, 0.5).cdf).pvalue > 1e-3


@pytest.mark.parametrize("row", [-3, -2, 0, 1, 2**20 + 1])
def test_grid_rows_alternate_by_their_absolute_number(row):
    stripes = Grid(0.2)(1, 3, 5, 4, torch.tensor([[row, 9]]))
    expected = [0.2 if (row + y) % 2 == 0 else -0.2 for y in range(5)]
    assert stripes.shape == (1, 3, 5, 4)
    assert stripes.dtype == torch.float32
    assert torch.equal(stripes, torch.tensor(expected)[:, None].expand(1, 3, 5, 4))


def blue(distribution=None, seed=0, size=(64, 64), origin=(0, 0), channels=1):
    return BlueNoise(distribution or Uniform(1.0), seed)(1, channels, *size, torch.tensor([origin]))[0]


def low_frequency_share(plane):
    """Power below .15 cycles per pixel, that of white noise being 1."""
    power = torch.fft.fft2(plane.double() - plane.double().mean()).abs().square()
    frequency = torch.fft.fftfreq(len(plane), dtype=torch.float64)
    radius = (frequency[:, None] ** 2 + frequency[None, :] ** 2).sqrt()
    return float(power[(radius > 0) & (radius < 0.15)].mean() / power[radius > 0].mean())


@pytest.mark.slow
def test_the_shipped_mask_is_that_of_void_and_cluster():
    ranks = torch.as_tensor(np.asarray(blue_noise_mask(512))).long() // 4
    assert torch.equal((blue_noise_field() * 65536 - 0.5).long(), ranks)


def test_every_value_of_the_shipped_mask_is_there_four_times():
    mask = blue_noise_field()
    assert (mask.shape, mask.dtype) == ((512, 512), torch.float32)
    assert ((mask > 0) & (mask < 1)).all()
    steps = mask.double() * 65536 - 0.5
    assert torch.equal(torch.bincount(steps.long().flatten(), minlength=65536), torch.full((65536,), 4))
    assert torch.equal(steps, steps.round())


def test_the_shipped_mask_has_no_low_frequencies_and_neither_have_its_dots():
    assert low_frequency_share(field(Uniform(1.0))[0]) > 0.9  # the check works
    assert low_frequency_share(blue_noise_field()) < 0.02
    for level in (0.1, 0.3, 0.5, 0.8):
        assert low_frequency_share((blue_noise_field() < level).float()) < (0.35 if level == 0.1 else 0.15)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_blue_noise_is_distributed_as_named(distribution):
    values, white = blue(distribution, size=(512, 512)).double(), field(distribution).double()
    assert values.isfinite().all()
    assert float(values.mean()) == pytest.approx(float(white.mean()), abs=0.01)
    assert float(values.std()) == pytest.approx(float(white.std()), rel=0.01)


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_a_tile_of_blue_noise_is_the_crop_of_the_whole(distribution, origin):
    whole = blue(distribution, 3, (40, 50), origin, channels=2)
    tile = blue(distribution, 3, (13, 19), (origin[0] + 7, origin[1] + 11), channels=2)
    assert torch.equal(tile, whole[:, 7:20, 11:30])
    assert (whole.shape, whole.dtype) == ((2, 40, 50), torch.float32)


def test_blue_noise_repeats_the_mask_beyond_its_border_and_before_it():
    assert torch.equal(blue(origin=(-512, 1024)), blue())
    assert torch.equal(blue(origin=(-7, -1500)), blue(origin=(505, 36)))
    wide = blue(size=(530, 520))[0]
    assert torch.equal(wide[512:], wide[:18])
    assert torch.equal(wide[:, 512:], wide[:, :8])
    assert torch.equal(wide[:512, :512].flatten().sort().values, (2 * blue_noise_field() - 1).flatten().sort().values)


def test_channels_and_seeds_read_the_mask_at_other_places():
    several = [*blue(channels=3, size=(256, 256)), *(blue(seed=seed, size=(256, 256))[0] for seed in (1, 2, 77))]
    for i, first in enumerate(several):
        for second in several[:i]:
            assert abs(correlation(first, second)) < 0.05
    assert torch.equal(blue(channels=3)[:1], blue())


def test_images_of_a_batch_of_blue_noise_have_places_of_their_own():
    batch = BlueNoise(Normal(), 5)(len(ORIGINS), 2, 9, 8, torch.tensor(ORIGINS))
    for image, origin in zip(batch, ORIGINS, strict=True):
        assert torch.equal(image, blue(Normal(), 5, (9, 8), origin, channels=2))


@pytest.mark.parametrize(("seed", "channel", "y", "x"), [(0, 0, 0, 0), (7, 2, -3, 11), (123, 1, 2**20, -(2**20) - 9)])
def test_a_pixel_of_blue_noise_never_changes_its_value(seed, channel, y, x):
    # trained networks know it, too
    stream = channel + seed * 0x10001
    row, column = mix_integer(stream) % 512, mix_integer(stream + 0x9E3779B9) % 512
    value = blue(Uniform(1.0), seed, (1, 1), (y, x), channels=3)[channel, 0, 0]
    assert float(value) == 2 * float(blue_noise_field()[(y + row) % 512, (x + column) % 512]) - 1
