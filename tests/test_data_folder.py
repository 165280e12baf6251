import logging
import shutil

import pytest
from PIL import Image

from nibkit.data.folder import FolderData
from nibkit.errors import UserError


def names(source):
    return [source.name(i) for i in range(len(source))]


def folder_data(root, **options):
    data = FolderData(root=str(root), crop_size=32, batch_size=1, **options)
    data.prepare()
    return data


@pytest.fixture
def split_folder(images, tmp_path):
    """Folders train (4), val (2) and test (1)."""
    root = tmp_path / "split"
    files = sorted(p for p in images.rglob("*") if p.is_file())
    for name, part in (("train", files[:4]), ("val", files[4:6]), ("test", files[6:])):
        (root / name / "sub").mkdir(parents=True)
        for path in part:
            shutil.copy(path, root / name / "sub" / path.name)
    return root


def test_seeded_split_of_a_plain_folder(images):
    data = folder_data(images, split_seed=3)
    parts = [names(data.train_images), *(names(data.evaluation_images[s]["photo"]) for s in ("val", "test"))]
    assert [len(part) for part in parts] == [5, 1, 1]
    assert sorted(name for part in parts for name in part) == list("abcdefg")
    again = folder_data(images, split_seed=3, seed=9)  # another run is judged on the same images
    assert names(again.train_images) == parts[0]
    tests = {names(folder_data(images, split_seed=s).evaluation_images["test"]["photo"])[0] for s in range(5)}
    assert len(tests) > 1


def test_folders_train_val_test_are_the_split(split_folder, caplog):
    data = folder_data(split_folder)
    for stage, source in (
        ("train", data.train_images), ("val", data.evaluation_images["val"]["photo"]),
        ("test", data.evaluation_images["test"]["photo"]),
    ):  # fmt: skip
        assert names(source) == sorted(p.stem for p in (split_folder / stage / "sub").iterdir())
    assert "testing on val" not in caplog.text


def test_missing_test_falls_back_to_val_with_a_line_in_the_log(split_folder, caplog):
    shutil.rmtree(split_folder / "test")
    with caplog.at_level(logging.WARNING):
        data = folder_data(split_folder)
    assert names(data.evaluation_images["test"]["photo"]) == names(data.evaluation_images["val"]["photo"])
    assert "no folder test/" in caplog.text
    assert "testing on val/" in caplog.text


def test_train_without_val_is_refused(split_folder):
    shutil.rmtree(split_folder / "val")
    with pytest.raises(UserError, match="has a folder train/ but no val/"):
        folder_data(split_folder)


def test_images_smaller_than_the_crop_are_named(split_folder):
    Image.new("L", (31, 64)).save(split_folder / "train" / "small.png")
    with pytest.raises(
        UserError, match=r"1 image file\(s\) .*small.png \(31x64 pixels, smaller than 32x32\); .*data.crop_size"
    ):
        folder_data(split_folder)


def test_evaluation_images_may_be_smaller_than_the_crop(split_folder):
    Image.new("L", (20, 20)).save(split_folder / "val" / "small.png")
    data = folder_data(split_folder)
    assert "small" in names(data.evaluation_images["val"]["photo"])


def test_too_small_an_evaluation_image_is_named(split_folder):
    Image.new("L", (1, 1)).save(split_folder / "test" / "dot.png")
    with pytest.raises(UserError, match=r"dot.png \(1x1 pixels, smaller than 11x11\)"):
        folder_data(split_folder)


def test_channels_of_samples(images):
    for channels in (1, 3):
        data = folder_data(images, channels=channels)
        batch = next(iter(data.train_dataloader()))
        assert batch["image"].shape == (1, channels, 32, 32)
        assert batch["level"].shape == (1, channels)
        assert next(iter(data.test_dataloader()[0]))["image"].shape[1] == channels


def test_batch_larger_than_the_epoch_is_refused(images):
    with pytest.raises(UserError, match=r"data\.batch_size=6 is larger than an epoch of 5 samples"):
        FolderData(root=str(images), crop_size=32, batch_size=6).prepare()


def test_folder_must_be_given():
    with pytest.raises(UserError, match=r"data\.root is not set"):
        FolderData()
