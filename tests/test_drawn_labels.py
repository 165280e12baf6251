import cv2
import numpy as np
import pytest

from nibkit.config import load_config
from nibkit.data.drawn_labels import SEEDS, TEXTURES, VOID, DrawnScenes, draw_labels, draw_scene
from nibkit.data.drawn_textures import noise, photograph_part, photographed
from nibkit.errors import UserError
from nibkit.make import make

LUMINANCE = np.array([0.299, 0.587, 0.114])


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(seed, "train") for seed in range(12)]


def test_the_default_data_of_label_maps_are_the_drawn_scenes():
    data = make("data", load_config(["task=semantic_synthesis"]).data)
    data.prepare()
    assert isinstance(data, DrawnScenes)
    assert (data.num_classes, data.channels, data.scored_classes) == (8, 9, 8)
    assert data.void
    assert [len(data.train_pairs), *map(len, data.evaluation_pairs.values())] == [200, 16, 32]
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (data.batch_size, 3, *data.size)
    assert batch["label"].shape == (data.batch_size, *data.size)
    assert data.palette.shape == (9, 3)


def test_scenes_repeat_and_differ():
    for one, again in zip(draw_scene(3, "test")[:2], draw_scene(3, "test")[:2], strict=True):
        np.testing.assert_array_equal(one, again)
    assert not np.array_equal(draw_scene(3, "train").photo, draw_scene(4, "train").photo)


def test_no_scene_is_in_two_parts_of_the_split():
    seeds = [seed for part in SEEDS.values() for seed in part]
    assert len(seeds) == len(set(seeds)) == 248


def test_scenes_have_all_classes_and_void_at_borders(scenes):
    ids = np.stack([scene.ids for scene in scenes])
    assert ids.dtype == np.uint8
    assert np.unique(ids).tolist() == [*TEXTURES, VOID]
    with_void = [(ids == VOID).mean() for ids in ids if (ids == VOID).any()]
    assert 1 <= len(with_void) < len(scenes)
    assert max(with_void) < 0.15
    bordering = next(ids for ids in ids if (ids == VOID).any())
    inside = cv2.erode((bordering == VOID).astype(np.uint8), np.ones((9, 9)))
    assert not inside.any()  # thin


def test_scenes_have_large_regions():
    largest = [np.bincount(draw_labels(np.random.default_rng(seed)).ravel()).max() / 256**2 for seed in range(40)]
    assert min(largest) > 0.2


def test_large_regions_are_textured_in_their_class(scenes):
    for number in TEXTURES:
        patches = []
        for scene in scenes:
            whole = cv2.erode((scene.ids == number).astype(np.uint8), np.ones((9, 9)), borderValue=0)
            luminance = scene.photo @ LUMINANCE
            mean = cv2.blur(luminance, (9, 9))
            deviation = np.sqrt(np.maximum(cv2.blur(luminance**2, (9, 9)) - mean**2, 0))
            patches += deviation[whole > 0].tolist()
        assert np.median(patches) > 1.5, number  # 8-bit levels; the sky has the least


def test_photos_use_the_range_without_being_clipped(scenes):
    photos = np.stack([scene.photo for scene in scenes])
    assert photos.dtype == np.uint8
    assert photos.shape == (12, 256, 256, 3)
    assert photos.min() < 20
    assert photos.max() > 235
    assert ((photos == 0) | (photos == 255)).mean() < 0.1


@pytest.mark.parametrize("name", ["brick", "grass", "gravel"])
def test_test_scenes_have_other_places_of_the_photographs(name):
    parts = {split: photograph_part(name, split) for split in ("train", "test")}
    crop = photographed(name)(np.random.default_rng(0), 40, 60, "test").astype(np.float32)
    found = {
        split: max(
            float(cv2.matchTemplate(part.astype(np.float32), np.ascontiguousarray(way), cv2.TM_CCOEFF_NORMED).max())
            for way in (crop, crop[:, ::-1])
        )
        for split, part in parts.items()
    }
    assert found["test"] > 0.999
    assert found["train"] < 0.9


def test_a_region_larger_than_the_photograph_is_filled():
    pattern = photographed("brick")(np.random.default_rng(0), 150, 300, "test")
    assert pattern.shape == (150, 300)
    assert np.isfinite(pattern).all()


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_noise_falls_with_frequency(slope):
    fields = [noise(np.random.default_rng(seed), 64, 64, slope) for seed in range(20)]
    power = np.mean([np.abs(np.fft.fft2(field)) ** 2 for field in fields], axis=0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64)))
    used = (frequency > 0.02) & (frequency < 0.45)
    fitted = np.polyfit(np.log(frequency[used]), np.log(power[used]), 1)[0]
    assert fitted == pytest.approx(-2 * slope, abs=0.1)
    assert fields[0].std() == pytest.approx(1)


def test_stretched_noise_varies_less_along_its_grains():
    field = noise(np.random.default_rng(0), 64, 64, 1, (1, 5))
    assert np.abs(np.diff(field, axis=1)).mean() < 0.7 * np.abs(np.diff(field, axis=0)).mean()


def test_noise_of_a_single_pixel_is_finite():
    assert np.isfinite(noise(np.random.default_rng(0), 1, 1, 1)).all()


@pytest.mark.parametrize("options", [{"num_classes": 7}, {"void_id": None}, {"edges": True}])
def test_other_classes_than_those_drawn_are_refused(options):
    (key, value) = next(iter(options.items()))
    with pytest.raises(UserError, match=f"data.{key}={value} is not possible with the drawn scenes of data=builtin"):
        DrawnScenes(**options)
