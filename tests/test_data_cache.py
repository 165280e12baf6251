import multiprocessing
import pickle
import random

import albumentations as A
import numpy as np
import pytest
import torch
from conftest import draw
from PIL import Image

from nibkit.config import load_config
from nibkit.data.cache import DecodeCache, pack, unpack
from nibkit.data.folder import FolderData, ImageFiles
from nibkit.data.image_sets import ImageSets
from nibkit.data.images import read_image, to_tensor
from nibkit.data.label_files import LabelFolders
from nibkit.data.scan import ImageFile
from nibkit.data.sets import FIELD, InMemory, TrainingCrops
from nibkit.errors import UserError

SIZE = (44, 36)  # width and height
EXACT = {"gray.png": (1, 3), "colour.png": (3,), "colour.jpg": (3,), "opaque.png": (3,), "palette.png": (3,),
         "bits.png": (1, 3)}  # fmt: skip


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """Files of many kinds, by name."""
    folder = tmp_path_factory.mktemp("kinds")
    gray, colour = (Image.fromarray(draw(seed, 36, 44, seed or None)) for seed in (0, 3))
    alpha = Image.fromarray(draw(5, 36, 44))
    pictures = {
        "gray.png": gray, "colour.png": colour, "colour.jpg": colour, "palette.png": colour.quantize(17),
        "opaque.png": colour.convert("RGBA"), "bits.png": gray.convert("1"),
        "clear.png": Image.merge("RGBA", [*colour.split(), alpha]),
        "deep.png": Image.fromarray(draw(7, 36, 44).astype(np.uint16) * 257 + 19),
        "float.tif": Image.fromarray(draw(8, 36, 44).astype(np.float32) / 200),
    }  # fmt: skip
    for name, picture in pictures.items():
        picture.save(folder / name)
    return {name: folder / name for name in pictures}


def sources(paths, channels, size=None, megabytes=1024.0):
    """The same files with a cache and without."""
    files = [ImageFile(path, *SIZE) for path in paths]
    return [ImageFiles(files, channels, size, cache) for cache in (DecodeCache(megabytes), None)]


def same_bits(first, second):
    assert first.dtype == second.dtype == np.float32
    assert first.shape == second.shape
    assert first.tobytes() == second.tobytes()


def test_every_8_bit_value_is_unpacked_as_files_are_read():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    same_bits(unpack(values), (values / 255).astype(np.float32))
    assert pack(unpack(values)).dtype == np.uint8


@pytest.mark.parametrize("wrong", [1e-6, float("nan"), -0.0])
def test_values_that_bytes_cannot_hold_stay_floats(wrong):
    pixels = np.full((3, 4, 1), 51 / 255, dtype=np.float32)
    pixels[1, 2] = wrong
    assert pack(pixels) is pixels


@pytest.mark.parametrize("size", [None, (30, 50)])
@pytest.mark.parametrize("channels", [1, 3])
def test_kept_images_are_those_of_the_files(kinds, channels, size):
    cached, plain = sources(kinds.values(), channels, size)
    for index, name in enumerate(kinds):
        first, again, fresh = cached.read(index), cached.read(index), plain.read(index)
        same_bits(first, fresh)
        same_bits(again, fresh)
        if size is None:
            same_bits(fresh, read_image(kinds[name], channels))
            assert (cached.packed(index).dtype == np.uint8) == (channels in EXACT.get(name, ())), name
        again[:] = 0.5  # what was given away is no more the cache's
        same_bits(cached.read(index), fresh)


def test_files_are_decoded_once(kinds, monkeypatch):
    decoded = []
    monkeypatch.setattr("nibkit.data.folder.read_image", lambda *a: (decoded.append(a[0].name), read_image(*a))[1])
    cached, plain = sources(kinds.values(), 3)
    for _ in range(3):
        for index in range(len(kinds)):
            cached.read(index)
    assert decoded == list(kinds)
    for _ in range(3):
        plain.read(0)
    assert len(decoded) == len(kinds) + 3


def test_the_budget_is_kept_and_the_first_stay(kinds, monkeypatch):
    decoded = []
    monkeypatch.setattr("nibkit.data.folder.read_image", lambda *a: (decoded.append(a[0].name), read_image(*a))[1])
    room = 2.5 * SIZE[0] * SIZE[1] * 3  # bytes: two 8-bit pictures
    cached, plain = sources([kinds[name] for name in EXACT], 3, megabytes=room / 2**20)
    for _ in range(2):
        for index in range(len(EXACT)):
            same_bits(cached.read(index), plain.read(index))
    assert cached.cache.used == 2 * SIZE[0] * SIZE[1] * 3 <= cached.cache.budget
    assert cached.cache.full
    names = list(EXACT)
    assert decoded == [n for n in names for _ in "ab"] + [
        n for n in names for _ in ("ab" if n not in names[:2] else "a")
    ]


def test_a_cache_of_nothing_keeps_nothing():
    cache, read = DecodeCache(0), []
    for _ in range(2):
        cache.get("a", lambda: (read.append(1), (np.zeros(1),))[1])
    assert (len(read), cache.used, cache.full) == (2, 0, True)


def test_processes_share_the_budget_and_begin_empty():
    cache = DecodeCache(6, num_workers=2)
    assert cache.budget == 2 * 2**20
    cache.get("a", lambda: (np.zeros(2**18),))
    assert cache.used == 2**21
    sent = pickle.loads(pickle.dumps(cache))
    assert (sent.used, sent.budget, sent.full) == (0, 2**21, False)
    pool = multiprocessing.get_context("fork").Pool(1)
    assert pool.apply(used_here, (), {}) == 0
    pool.close()  # it ends by itself: told to by a signal, it would do what this process's handlers do
    pool.join()
    assert cache.used == 2**21


INHERITED = DecodeCache(1)
INHERITED.get("a", lambda: (np.zeros(9),))


def used_here():
    """What a forked process keeps of what it inherits."""
    return INHERITED.used


def plain_sample(source, size, augment, seed, epoch, index):
    """A sample read whole, and cropped and augmented by one albumentations pipeline, as was done before."""
    rng = np.random.default_rng([seed, epoch, index])
    pipeline = A.Compose([A.RandomCrop(size, size), *augment])
    pipeline.set_random_state(rng, random.Random(int(rng.integers(2**31))))
    pixels = pipeline(image=source.read(index % len(source)))["image"]
    return to_tensor(pixels), rng.integers(0, FIELD, 2), rng.integers(0, 256, pixels.shape[-1]) / 255


AUGMENTATIONS = [
    [],
    [A.D4()],
    [A.RandomBrightnessContrast(p=0.5), A.HorizontalFlip()],
    [A.OneOf([A.GaussNoise(p=1), A.Compose([A.D4(), A.GaussianBlur(p=0.5)])]), A.CoarseDropout(p=0.5)],
]


@pytest.mark.parametrize("augment", AUGMENTATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_crops_are_those_of_whole_images_that_are_augmented(kinds, channels, augment):
    cached, plain = sources(kinds.values(), channels)
    memory = InMemory([(str(i), lambda i=i: plain.read(i)) for i in range(len(plain))])
    for source in (cached, plain, memory):
        pipeline = A.Compose(augment) if augment else None
        for size in (20, 36):
            crops = TrainingCrops(source, size, pipeline, 100, seed=3)
            for index in range(2 * len(kinds)):
                sample = crops[1, index]
                image, origin, level = plain_sample(plain, size, augment, 3, 1, index)
                assert torch.equal(sample["image"], image)
                assert sample["origin"].tolist() == origin.tolist()
                assert torch.equal(sample["level"], torch.from_numpy(level).float())


def test_augmentation_leaves_kept_images_as_they_are():
    pixels = np.full((16, 16, 1), 0.25, dtype=np.float32)

    class Blacken:
        def set_random_state(self, *_):
            pass

        def __call__(self, *, image, force_apply):
            image[:] = 0
            return {"image": image}

    crops = TrainingCrops(InMemory([("a", lambda: pixels)]), 16, Blacken(), 4, 0)
    assert crops[0, 0]["image"].max() == -1
    assert (pixels == 0.25).all()


def test_an_image_smaller_than_the_crop_is_named():
    crops = TrainingCrops(InMemory([("small", lambda: np.zeros((30, 16, 1), dtype=np.float32))]), 20, None, 1, 0)
    with pytest.raises(UserError, match=r"^image 'small' is smaller than data\.crop_size=20; lower it"):
        crops[0, 0]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_neither_cache_nor_workers_change_a_batch(images, workers):
    def batches(megabytes, count):
        data = FolderData(root=str(images), crop_size=24, batch_size=2, samples_per_epoch=12, channels=3,
                          augment=[A.D4()], cache_mb=megabytes, num_workers=count)  # fmt: skip
        data.prepare()
        loader = data.train_dataloader()
        return [batch for _ in range(2) for batch in loader]

    for megabytes in (0, 0.01, 1024):
        for first, second in zip(batches(megabytes, workers), batches(0, 0), strict=True):
            assert first.keys() == second.keys()
            assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "much", None, True])
def test_bad_budgets_are_refused(images, value):
    for make in (
        lambda: FolderData(root=str(images), cache_mb=value),
        lambda: ImageSets(train=str(images), test=["builtin_photos"], cache_mb=value),
        lambda: LabelFolders(root=str(images), num_classes=2, cache_mb=value),
    ):
        with pytest.raises(UserError, match=r"^data\.cache_mb=.* is no amount of memory; give megabytes of at least 0"):
            make()


@pytest.mark.parametrize("data", ["folder", "sets", "voc2012", "div2k", "cityscapes"])
def test_all_data_of_files_have_the_key(data):
    assert load_config([f"data={data}"]).data.cache_mb == 1024
    with pytest.raises(UserError, match=r"^data\.cache_mb=-1 is out of range; give a number of at least 0"):
        load_config([f"data={data}", "data.cache_mb=-1"])
    with pytest.raises(UserError, match=r"^data\.cache_mb=much has the wrong type; give a number of at least 0"):
        load_config([f"data={data}", "data.cache_mb=much"])


@pytest.mark.parametrize("data", ["labelled", "camvid", "facades", "cityscapes"])
def test_all_labels_of_files_have_the_key(data):
    settings = ["task=semantic_synthesis", f"data=labels/{data}", "data.num_classes=4"]
    assert load_config([*settings, "data.cache_mb=0.5"]).data.cache_mb == 0.5
