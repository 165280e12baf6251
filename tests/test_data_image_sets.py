"""Folders and embedded images as sets to train and to judge on."""

import numpy as np
import pytest
from conftest import draw
from PIL import Image

from nibkit.data.builtin import PHOTOS
from nibkit.data.image_sets import ImageSets, labelled
from nibkit.data.images import read_image
from nibkit.errors import UserError

SMALL = {"crop_size": 32, "batch_size": 1}
WITH = {
    "nothing": ["a", "b", "c/d", "c/e", "f", "g", "h", "i", "j", "k"],
    "train": [f"train/{i}" for i in range(6)],
    "train and val": [*(f"train/{i}" for i in range(6)), "val/x/6", "val/7"],
    "train and test": [*(f"train/{i}" for i in range(6)), "test/8", "test/x/9"],
    "all": [*(f"train/{i}" for i in range(6)), "val/6", "val/7", "test/8", "test/9"],
}


def make(folder, names, size=(40, 36)):
    for i, name in enumerate(names):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(i, *size, 3)).save(path)
    return folder


def image_sets(train, *test, **options):
    data = ImageSets(train=str(train), test=[str(spec) for spec in test], **SMALL, **options)
    data.prepare()
    return data


def files(source, root):
    return [file.path.relative_to(root).with_suffix("").as_posix() for file in source.files]


def split(data, root, label="photo"):
    """The files of a data module that is trained and judged on one folder."""
    judged = data.evaluation_images
    return [files(source, root) for source in (data.train_images, judged["val"]["photo"], judged["test"][label])]


@pytest.mark.parametrize("parts", ["nothing", "train and val", "train and test", "all"])
def test_a_folder_is_trained_validated_and_judged_on_different_images(tmp_path, parts):
    root = make(tmp_path / "photos", WITH[parts])
    found = split(image_sets(root, f"photo={root}"), root)
    every = [name for names in found for name in names]
    assert sorted(every) == sorted(WITH[parts])  # each once
    assert all(found)
    assert split(image_sets(root, f"photo={root}", seed=7), root) == found  # whatever the seed of the run


def test_the_split_of_a_folder(tmp_path):
    def parts(name):
        root = make(tmp_path / name, WITH[name])
        return split(image_sets(root, f"photo={root}"), root)

    assert [len(names) for names in parts("nothing")] == [8, 1, 1]
    train, val, test = parts("train and val")  # judged on val/: the validation images come of train/
    assert (len(train), len(val), test) == (5, 1, ["val/7", "val/x/6"])
    assert val[0].startswith("train/")
    train, val, test = parts("train and test")
    assert (len(train), len(val), test) == (5, 1, ["test/8", "test/x/9"])
    assert parts("all") == [WITH["train"], ["val/6", "val/7"], ["test/8", "test/9"]]


def test_what_a_folder_is_judged_on_when_another_is_trained_on(tmp_path):
    photos = make(tmp_path / "photos", WITH["all"])

    def judged(name):
        root = make(tmp_path / name, WITH[name])
        return files(image_sets(photos, f"x={root}").evaluation_images["test"]["x"], root)

    assert judged("nothing") == sorted(WITH["nothing"])
    assert judged("train and val") == ["val/7", "val/x/6"]
    assert judged("train and test") == ["test/8", "test/x/9"]
    with pytest.raises(UserError, match=r"'x=.*train' has no images to judge on .*give it folders train/ and test/"):
        judged("train")


def test_a_folder_can_be_trained_on_without_images_to_judge_on(tmp_path):
    photos, pages = make(tmp_path / "photos", WITH["train"]), make(tmp_path / "pages", ["a", "b"])
    data = image_sets(photos, pages)
    train, val, test = (data.train_images, data.evaluation_images["val"]["photo"], data.evaluation_images["test"])
    assert sorted(files(train, photos) + files(val, photos)) == WITH["train"]
    assert list(test) == ["pages"]
    with pytest.raises(UserError, match=r"data\.test: 'photo=.*photos' has no images to judge on"):
        image_sets(photos, f"photo={photos}")
    one = make(tmp_path / "one", ["train/a"])
    with pytest.raises(UserError, match=r"data\.train='.*one' has no images to train on beside those to validate"):
        image_sets(one, pages)


def test_only_files_in_use_are_checked(tmp_path):
    photos, pages = make(tmp_path / "photos", WITH["all"]), make(tmp_path / "pages", WITH["all"])
    for unused in (photos / "test" / "8.png", pages / "train" / "0.png", pages / "val" / "6.png"):
        unused.write_bytes(b"")
    assert len(image_sets(photos, pages).train_images) == 6
    (pages / "test" / "8.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"1 image file\(s\) cannot be used: .*pages/test/8.png"):
        image_sets(photos, pages)


@pytest.mark.parametrize("spelling", ["photos/", "./photos", "pages/../photos", "link"])
def test_a_folder_is_the_same_however_it_is_spelled(tmp_path, spelling):
    photos = make(tmp_path / "photos", WITH["nothing"])
    make(tmp_path / "pages", ["a"])
    (tmp_path / "link").symlink_to(photos)
    judged = image_sets("photos", spelling).evaluation_images["test"]
    assert [len(source) for source in judged.values()] == [1]  # not all ten, eight of them trained on


@pytest.mark.parametrize("judged", ["photos/train", "photos/val", "x=link", "photos/val/x"])
def test_judging_on_training_or_validation_images_is_refused(tmp_path, judged):
    make(tmp_path / "photos", [*WITH["all"], "val/x/10"])
    (tmp_path / "link").symlink_to(tmp_path / "photos" / "train")
    label = "x" if "x" in judged else judged.rpartition("/")[2]
    with pytest.raises(UserError, match=rf"image\(s\) of '{label}' are among those to train or validate on, such as '"):
        image_sets("photos", "photos", judged)
    image_sets("photos", "photos/test")


def test_a_part_of_a_folder_that_is_split_cannot_be_judged_on(tmp_path):
    make(tmp_path / "photos", [*(f"a/{i}" for i in range(7)), *(f"b/{i}" for i in range(7))])
    with pytest.raises(UserError, match=r"image\(s\) of 'b' are among those to train or validate on, such as '"):
        image_sets("photos", "photos/b")


def test_names_of_figures():
    assert labelled(["voc2012", "my/pages", "photo=div2k", "flat-art=x/y=z", "./a b", "c/"]) == {
        "voc2012": "voc2012", "pages": "my/pages", "photo": "div2k", "flat-art": "x/y=z", "a b": "./a b", "c": "c/",
    }  # fmt: skip
    assert labelled(["a/b=c"]) == {"b=c": "a/b=c"}  # a folder: a name has no slash


def test_the_name_of_the_working_folder(tmp_path):
    assert labelled(["."]) == {tmp_path.name: "."}
    assert labelled([".."]) == {tmp_path.parent.name: ".."}


@pytest.mark.parametrize(
    ("judged", "told"),
    [
        (["my/pages", "your/pages"], "data.test: two sets are called 'pages'; give one another name: NAME=your/pages"),
        (["x=voc2012", "x=div2k"], "data.test: two sets are called 'x'; give one another name: NAME=div2k"),
        (["my/tone"], "data.test: 'tone' is the name of constant grays; give another: NAME=my/tone"),
        (["spectrum=a"], "data.test: 'spectrum' is the name of constant grays; give another: NAME=a"),
        (["photo="], "data.test: 'photo=' names no image set; write SET or NAME=SET"),
        ([""], "data.test: '' names no image set; write SET or NAME=SET"),
    ],
)
def test_names_that_clash_are_refused(judged, told):
    with pytest.raises(UserError) as error:
        labelled(judged)
    assert str(error.value) == told


def test_unknown_sets_are_refused_at_the_command_line(refused):
    known = "known sets: voc2012, div2k, div2k_1024, cityscapes, comic, structure, builtin_photos, builtin_comics"
    told = refused("data=sets", "data.train=voc2021", "data.test=[voc2012]")
    assert told == f"data: 'voc2021' is neither a folder nor a known image set (did you mean 'voc2012'?); {known}"
    told = refused("data=sets", "data.train=builtin_photos", "data.test=['photo=my/pages',2012]")
    assert told == f"data: 'my/pages' is neither a folder nor a known image set; {known}"
    assert "data.train is not set; name image sets, as in data=sets data.train=" in refused("data=sets")
    assert "data.test is not set; name" in refused("data=sets", "data.train=voc2012")
    assert "data.test=voc2012 has the wrong type; give a list" in refused("data=sets", "data.test=voc2012")


def test_sets_to_judge_on_cannot_be_trained_on(tmp_path):
    make(tmp_path / "COMIC", ["a", "b"])
    with pytest.raises(UserError, match=r"data\.train='comic' has no images to train on"):
        image_sets("comic", "comic", home=str(tmp_path))


def test_numbers_of_images(tmp_path):
    photos = make(tmp_path / "photos", [f"train/{i:02d}" for i in range(30)])
    for name in "cab":
        for part in ("val", "test"):
            make(photos / part, [f"{part}-{name}"])
    data = image_sets(photos, f"photo={photos}", "builtin_comics", val_images=2, test_images=1)
    assert len(data.train_images) == 30
    kept = [data.evaluation_images[stage]["photo"] for stage in ("val", "test")]
    assert [[source.name(i) for i in range(len(source))] for source in kept] == [["val-a", "val-b"], ["test-a"]]
    assert np.array_equal(kept[0].read(1), read_image(photos / "val" / "val-b.png"))
    assert len(data.evaluation_images["test"]["builtin_comics"]) == 1
    assert [len(loader) for loader in data.test_dataloader()][:2] == [1, 1]
    data = image_sets(photos, photos, val_images=None)
    assert [len(data.evaluation_images[s][n]) for s, n in (("val", "photo"), ("test", "photos"))] == [3, 3]
    assert len(image_sets(photos, photos).evaluation_images["val"]["photo"]) == 3  # fewer than the default of 16


def test_builtin_images_by_name():
    data = image_sets("builtin_photos", "photo=builtin_photos", "builtin_comics")
    parts = {"train": data.train_images, "val": data.evaluation_images["val"]["photo"]}
    parts |= {"test": data.evaluation_images["test"]["photo"]}
    for part, source in parts.items():
        assert [source.name(i) for i in range(len(source))] == [name.split(".")[0] for name in PHOTOS[part]]
    pages = data.evaluation_images["test"]["builtin_comics"]
    assert [pages.name(i) for i in range(len(pages))] == [f"comic {seed}" for seed in range(200, 204)]
    assert pages.read(0).shape == (512, 512, 1)


def test_crops_larger_than_the_training_images_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"crop_size=192 is larger than the smallest built-in image \(191 pixels\)"):
        ImageSets(train="builtin_photos", test=["builtin_photos"], crop_size=192).prepare()
    ImageSets(train="builtin_comics", test=["builtin_photos"], crop_size=512).prepare()
    photos = make(tmp_path / "photos", WITH["all"])
    with pytest.raises(UserError, match=r"6 image file\(s\) .* \(36x40 pixels, smaller than 37x37\); .*data.crop_size"):
        ImageSets(train=str(photos), test=[str(photos)], crop_size=37).prepare()


def test_three_channels(tmp_path):
    photos = make(tmp_path / "photos", WITH["all"])
    data = image_sets(photos, f"photo={photos}", "builtin_comics", channels=3)
    assert next(iter(data.train_dataloader()))["image"].shape == (1, 3, 32, 32)
    for loaders, counts in ((data.val_dataloader(), [2]), (data.test_dataloader(), [2, 4])):
        for loader, count in zip(loaders, counts, strict=False):
            assert [batch["image"].shape[1] for batch in loader] == [3] * count
    first = next(iter(data.test_dataloader()[0]))["image"][0].permute(1, 2, 0).numpy()
    picture = np.asarray(Image.open(photos / "test" / "8.png")) / 127.5 - 1
    assert first == pytest.approx(picture, abs=1e-6)
    assert len(np.unique(first[20, 20])) == 3  # colours, not a gray thrice
