import hashlib
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import torch
from conftest import trainer_of

from nibkit.data.builtin import COMICS, PHOTOS, BuiltinData
from nibkit.data.comic import comic_page
from nibkit.data.folder import FolderData
from nibkit.data.sets import ConstantColours, EpochSampler, GrayLevels, ShareSampler, WholeImages
from nibkit.errors import UserError


def folder_data(images, ranks=(0, 1), **options):
    """The data of a process: its rank, and the number of processes."""
    data = FolderData(root=str(images), **({"crop_size": 24, "batch_size": 2, "samples_per_epoch": 12} | options))
    data.trainer = trainer_of(*ranks)
    data.prepare()
    return data


def train_batches(images, workers=0, epoch=0, augment=None, **options):
    """All training batches of an epoch."""
    augment = [A.SquareSymmetry()] if augment is None else augment
    loader = folder_data(images, num_workers=workers, augment=augment, **options).train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def equal(first, second):
    return len(first) == len(second) and all(
        torch.equal(a[key], b[key]) for a, b in zip(first, second, strict=True) for key in ("image", "origin", "level")
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(images, workers):
    assert equal(train_batches(images, workers, epoch=1), train_batches(images, 0, epoch=1))


def test_samples_depend_on_seed_and_epoch(images):
    first = train_batches(images)
    assert equal(first, train_batches(images))
    assert not equal(first, train_batches(images, epoch=1))
    assert not equal(first, train_batches(images, seed=1))


def test_ranks_share_the_batches_of_one_process(images):
    one = train_batches(images, batch_size=4)
    ranks = [train_batches(images, batch_size=2, ranks=(r, 2)) for r in range(2)]
    for whole, *parts in zip(one, *ranks, strict=True):
        origins = torch.cat([part["origin"] for part in parts])
        pixels = torch.cat([part["image"] for part in parts])
        for origin, image in zip(whole["origin"], whole["image"], strict=True):
            twin = (origins == origin).all(dim=1)
            assert twin.sum() == 1
            assert torch.equal(pixels[twin][0], image)


def test_each_epoch_crops_the_same_image_anew(images):
    data = folder_data(images)
    crops = data.train_dataloader().dataset
    first, again, later = crops[0, 3], crops[0, 3], crops[1, 3]
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(first["image"], later["image"])
    assert not torch.equal(first["origin"], later["origin"])


def test_ranks_share_the_evaluation_sets(images):
    for stage in ("val", "test"):
        whole = getattr(folder_data(images, channels=3), f"{stage}_dataloader")()
        parts = [getattr(folder_data(images, ranks=(r, 2), channels=3), f"{stage}_dataloader")() for r in range(2)]
        for loader, *shares in zip(whole, *parts, strict=True):
            names = [name for batch in loader for name in batch["name"]]
            shared = [name for share in shares for batch in share for name in batch["name"]]
            assert sorted(shared) == sorted(names)


def test_a_rank_without_a_whole_batch_is_refused(images):
    assert len(train_batches(images, batch_size=4, samples_per_epoch=6)) == 1
    with pytest.raises(UserError, match=r"data\.batch_size=4 is larger than the 3 samples per epoch of each of 2"):
        train_batches(images, batch_size=4, samples_per_epoch=6, ranks=(0, 2))


def test_crops_of_an_image_really_vary(images):
    # 60 samples of 5 images: 12 of each
    batches = train_batches(images, samples_per_epoch=60, augment=[])
    crops = {hashlib.sha256(image.numpy().tobytes()).hexdigest() for batch in batches for image in batch["image"]}
    assert len(crops) > 50
    origins = torch.cat([batch["origin"] for batch in batches])
    assert len(origins.unique(dim=0)) == 60
    assert origins.min() >= 0
    assert origins.max() > 2**18


def test_levels_cover_the_tones(images):
    level = torch.cat([b["level"] for b in train_batches(images, samples_per_epoch=200, batch_size=20)])
    assert level.min() < 0.1
    assert level.max() > 0.9
    assert abs(level.mean() - 0.5) < 0.1


def test_epoch_sampler_shuffles_each_epoch_anew():
    sampler = EpochSampler(50, seed=0)
    first = [index for _, index in sampler]
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(first) == list(range(50))
    assert [index for _, index in second] != first != list(range(50))
    assert {epoch for epoch, _ in second} == {1}


@pytest.mark.parametrize("world", [2, 3])
def test_training_ranks_are_disjoint_and_equally_long(world):
    shares = [[index for _, index in EpochSampler(50, 0, rank, world)] for rank in range(world)]
    assert {len(share) for share in shares} == {50 // world}
    assert len({index for share in shares for index in share}) == world * (50 // world)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_neither_repeats_nor_drops(world):
    samplers = [ShareSampler(7, rank, world) for rank in range(world)]
    assert sorted(index for sampler in samplers for index in sampler) == list(range(7))
    assert [len(s) for s in samplers] == [len(list(s)) for s in samplers]


def test_whole_images_are_centre_cropped(images):
    data = FolderData(root=str(images), crop_size=32, batch_size=1)
    data.prepare()
    source = data.evaluation_images["test"]["photo"]
    whole, cropped = WholeImages(source, "photo")[0], WholeImages(source, "photo", 20)[0]
    height, width = whole["image"].shape[-2:]
    top, left = (height - 20) // 2, (width - 20) // 2
    assert torch.equal(cropped["image"], whole["image"][:, top : top + 20, left : left + 20])
    assert torch.equal(WholeImages(source, "photo", 1000)[0]["image"], whole["image"])
    assert whole["origin"].tolist() == [0, 0]


def test_gray_levels():
    sample = GrayLevels([0.25], 8, "tone", 3)[0]
    assert sample["image"].shape == (3, 8, 8)
    assert (sample["image"] == -0.5).all()
    assert sample["level"].tolist() == [0.25] * 3


def test_constant_colours():
    sample = ConstantColours([(9, 9, 9), (255, 0, 51)], 8)[1]
    assert sample["image"].shape == (3, 8, 8)
    assert [channel.unique().tolist() for channel in sample["image"]] == [[1], [-1], [pytest.approx(-0.6)]]
    assert sample["level"].tolist() == pytest.approx([1, 0, 0.2])
    assert sample["origin"].tolist() == [0, 0]
    assert (sample["set"], sample["name"]) == ("colour", "colour 255 0 51")


@pytest.mark.parametrize(("stage", "values"), [("val", [0, 128, 255]), ("test", [0, 51, 102, 153, 204, 255])])
def test_colour_data_has_constant_colours_over_the_cube(images, stage, values):
    def sets(channels):
        loaders = getattr(folder_data(images, channels=channels), f"{stage}_dataloader")()
        return {batch["set"][0]: loader for loader in loaders for batch in loader}

    assert list(sets(3)) == [*sets(1), "colour"]
    batches = list(sets(3)["colour"])
    assert {batch["image"].shape[1:] for batch in batches} == {(3, 64, 64)}
    levels = (torch.cat([batch["level"] for batch in batches]) * 255).round().int().tolist()
    assert levels == [[r, g, b] for r in values for g in values for b in values]
    names = [name for batch in batches for name in batch["name"]]
    assert names == [f"colour {r} {g} {b}" for r, g, b in levels]


def test_test_loaders_hold_every_level_from_5_to_95_percent():
    data = BuiltinData()
    data.prepare()
    _, _, tone, spectrum = data.test_dataloader()
    levels = torch.cat([batch["level"] for batch in tone]).flatten()
    assert torch.equal((levels * 255).round(), torch.arange(13.0, 243.0))
    assert next(iter(spectrum))["image"].shape == (1, 1, 512, 512)


@pytest.fixture(scope="module")
def builtin():
    data = BuiltinData(crop_size=64)
    data.prepare()
    return data


def test_builtin_split_is_disjoint():
    for parts in (PHOTOS, {stage: list(seeds) for stage, seeds in COMICS.items()}):
        every = [*parts["train"], *parts["val"], *parts["test"]]
        assert len(set(every)) == len(every)
    pair = {"motorcycle_left.png", "motorcycle_right.png"}
    assert any(pair <= set(names) for names in PHOTOS.values())


def test_builtin_test_images_are_never_trained_on(builtin):
    def prints(source):
        return {hashlib.sha256(source.read(i).tobytes()).hexdigest() for i in range(len(source))}

    trained = prints(builtin.train_images)
    judged = [prints(source) for sets in builtin.evaluation_images.values() for source in sets.values()]
    assert len(trained) == len(builtin.train_images) == 21
    assert [len(j) for j in judged] == [2, 1, 2, 4]
    assert trained.isdisjoint(*[set().union(*judged)])
    assert len(set().union(*judged)) == 9


def test_builtin_training_draws_from_its_train_images_alone(builtin, monkeypatch):
    read = []
    whole = type(builtin.train_images).read

    def counted(self, index):
        read.append(self.name(index))
        return whole(self, index)

    monkeypatch.setattr(type(builtin.train_images), "read", counted)
    builtin.samples_per_epoch, builtin.batch_size = 42, 2
    assert sum(len(batch["image"]) for batch in builtin.train_dataloader()) == 42
    allowed = {Path(name).stem for name in PHOTOS["train"]} | {f"comic {seed}" for seed in COMICS["train"]}
    assert set(read) == allowed


def test_comic_pages_are_repeatable():
    state = np.random.get_state()[1].copy()
    first = comic_page(5)
    assert first.shape == (512, 512, 3)
    assert first.dtype == np.float32
    assert 0 <= first.min() < first.max() <= 1
    np.testing.assert_array_equal(first, comic_page(5))
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert not np.array_equal(first, comic_page(6))


@pytest.mark.parametrize("seed", [0, 1, 100, 200, 201, 202, 203])
def test_comic_pages_are_mostly_constant_with_outlines(seed):
    page = comic_page(seed)
    flat = (page[1:, 1:] == page[:-1, 1:]).all(-1) & (page[1:, 1:] == page[1:, :-1]).all(-1)
    assert flat.mean() > 0.6
    assert ((page == 0).all(-1)).mean() > 0.005  # black outlines
    assert ((page == 1).all(-1)).mean() > 0.02  # white gutters
    assert len(np.unique(page.reshape(-1, 3), axis=0)) > 10
