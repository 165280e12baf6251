"""Image sets by name, on small files in their official layouts."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import BARE, TINY, draw
from PIL import Image
from skimage.transform import downscale_local_mean

from nibkit.cli import train
from nibkit.data.catalog import IMAGE_SETS
from nibkit.data.folder import distinct_names, resize
from nibkit.data.image_sets import ImageSets
from nibkit.errors import UserError

VOC = "VOCdevkit/VOC2012"
LAYOUTS = {
    "voc2012": [
        *(f"{VOC}/JPEGImages/2007_{i:06d}.jpg" for i in range(40)),
        *(f"{VOC}/SegmentationClass/2007_{i:06d}.png" for i in range(5)),
    ],
    "div2k": [
        *(f"DIV2K/DIV2K_train_HR/{i:04d}.png" for i in range(1, 31)),
        *(f"DIV2K/DIV2K_valid_HR/{i:04d}.png" for i in range(801, 807)),
        *(f"DIV2K/DIV2K_train_LR_bicubic/X2/{i:04d}x2.png" for i in range(1, 4)),
    ],
    "cityscapes": [
        f"cityscapes/{kind}/{part}/{city}/{city}_{i:06d}_{name}.png"
        for part, cities in {"train": ("aachen", "ulm"), "val": ("munster",), "test": ("bonn",)}.items()
        for city in cities
        for kind, name in (
            ("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_color"), ("leftImg8bit", "gtFine_labelIds"),
        )
        for i in range(6)
    ],
    "comic": [f"COMIC/{name}" for name in ("1.png", "2.jpg", "book/1.png")],
    "structure": ["Structure/cat.png", "Structure/tree.tif"],
}  # fmt: skip
LAYOUTS["div2k_1024"] = LAYOUTS["div2k"]  # the same files, resized


def touch(home, names):
    """Make empty files: a split does not decode them."""
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    return home


def parts(name, home):
    """The files of a set by split, relative to its folder."""
    root = home / IMAGE_SETS[name].folder
    return {part: [p.relative_to(root).as_posix() for p in paths] for part, paths in
            IMAGE_SETS[name].find(name, home).items()}  # fmt: skip


def save(path, seed, height=40, width=48, channels=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw(seed, height, width, channels)).save(path)


@pytest.fixture
def voc(tmp_path, monkeypatch):
    """A small VOC2012 in the folder that ``NIBKIT_DATA`` names; the pictures differ in size."""
    home = tmp_path / "sets"
    for i in range(15):
        save(home / VOC / "JPEGImages" / f"2008_{i:06d}.jpg", i, 60 + 5 * i, 110 - 3 * i)
    monkeypatch.setenv("NIBKIT_DATA", str(home))
    return home


def test_voc2012_has_the_papers_numbers(tmp_path):
    files = [f"JPEGImages/2009_{i:06d}.jpg" for i in range(17125)]
    found = parts("voc2012", touch(tmp_path, (f"{VOC}/{name}" for name in files)))
    assert len(found["train"]) + len(found["val"]) == 13758
    assert (len(found["val"]), len(found["test"])) == (688, 3367)  # 5 % of 13,758 are held out
    assert sorted(found["train"] + found["val"] + found["test"]) == files
    # the very images: published figures are those of this split
    drawn = sorted(files, key=lambda name: hashlib.sha256(b"0/" + name.encode()).digest())
    assert found["test"] == sorted(drawn[:3367])
    assert found["val"] == sorted(drawn[3367 : 3367 + 688])


def test_voc2012_with_fewer_images_is_judged_on_a_fifth(tmp_path):
    found = parts("voc2012", touch(tmp_path, LAYOUTS["voc2012"]))
    assert {part: len(names) for part, names in found.items()} == {"train": 30, "val": 2, "test": 8}
    assert all(name.startswith("JPEGImages/") for names in found.values() for name in names)


def test_div2k_is_judged_on_its_validation_part(tmp_path):
    found = parts("div2k", touch(tmp_path, LAYOUTS["div2k"]))
    assert found["test"] == [f"DIV2K_valid_HR/{i:04d}.png" for i in range(801, 807)]
    assert sorted(found["train"] + found["val"]) == [f"DIV2K_train_HR/{i:04d}.png" for i in range(1, 31)]
    assert len(found["val"]) == 2


def test_cityscapes_are_the_photographs_of_train_and_val(tmp_path):
    found = parts("cityscapes", touch(tmp_path, LAYOUTS["cityscapes"]))
    photos = {
        city: [f"leftImg8bit/{part}/{city}/{city}_{i:06d}_leftImg8bit.png" for i in range(6)]
        for part, city in (("train", "aachen"), ("train", "ulm"), ("val", "munster"))
    }
    assert found["test"] == photos["munster"]
    assert sorted(found["train"] + found["val"]) == photos["aachen"] + photos["ulm"]
    assert len(found["val"]) == 1


@pytest.mark.parametrize("name", ["comic", "structure"])
def test_sets_to_judge_on_only(tmp_path, name):
    found = parts(name, touch(tmp_path, LAYOUTS[name]))
    folder = IMAGE_SETS[name].folder
    assert found == {"train": [], "val": [], "test": [p.removeprefix(f"{folder}/") for p in LAYOUTS[name]]}


@pytest.mark.parametrize("name", IMAGE_SETS)
def test_splits_are_disjoint_and_do_not_depend_on_the_order_of_creation(tmp_path, name):
    found = parts(name, touch(tmp_path / "one", LAYOUTS[name]))
    every = [path for paths in found.values() for path in paths]
    assert len(set(every)) == len(every)
    assert parts(name, tmp_path / "one") == found
    assert parts(name, touch(tmp_path / "two", reversed(LAYOUTS[name]))) == found


@pytest.mark.parametrize(
    ("name", "there", "wrong"),
    [
        ("voc2012", "", "there is no such folder"),
        ("voc2012", f"{VOC}/Annotations/", "JPEGImages/ is missing or has no images"),
        ("voc2012", f"{VOC}/JPEGImages/", "JPEGImages' holds no images"),
        ("div2k", "DIV2K/DIV2K_train_HR/0001.png", "DIV2K_valid_HR/ is missing or has no images"),
        ("div2k", "DIV2K/DIV2K_valid_HR/0801.png", "DIV2K_train_HR/ is missing or has no images"),
        ("cityscapes", "cityscapes/gtFine/train/ulm/ulm_1_gtFine_color.png", "leftImg8bit/train/ is missing"),
        ("cityscapes", "cityscapes/leftImg8bit/train/ulm/1.png", "has no images named *_leftImg8bit.*"),
        ("cityscapes", "cityscapes/leftImg8bit/train/ulm/1_leftImg8bit.png", "leftImg8bit/val/ is missing"),
        ("comic", "", "there is no such folder"),
        ("comic", "COMIC/", "COMIC' holds no images"),
        ("structure", "Structure/", "Structure' holds no images"),
    ],
)
def test_what_is_missing_is_told_with_where_to_get_it(tmp_path, name, there, wrong):
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    if there.endswith("/"):
        (tmp_path / there).mkdir()
    elif there:
        (tmp_path / there).touch()
    with pytest.raises(UserError) as error:
        IMAGE_SETS[name].find(name, tmp_path)
    the_set, text = IMAGE_SETS[name], str(error.value)
    assert text.startswith(f"image set '{name}' is not in '{tmp_path / the_set.folder}' (")
    for words in (wrong, the_set.title, the_set.source, the_set.layout, f"set data.home to the folder that holds "
                  f"{the_set.folder}/"):  # fmt: skip
        assert words in text


def test_a_missing_set_is_one_sentence_at_the_command_line(refused, tmp_path, monkeypatch):
    monkeypatch.setenv("NIBKIT_DATA", "my/sets")
    told = refused("data=voc2012", "trainer.accelerator=cpu")
    assert told.startswith("image set 'voc2012' is not in 'my/sets/VOCdevkit/VOC2012' (there is no such folder); get")
    monkeypatch.delenv("NIBKIT_DATA")
    assert "is not in 'data/DIV2K' (" in refused("data=div2k")
    assert "is not in 'else/cityscapes' (" in refused("data=cityscapes", "data.home=else")
    judged = ["data=sets", "data.train=builtin_photos", "data.test=[builtin_photos,comic]"]
    assert "image set 'comic' is not in 'data/COMIC' (" in refused(*judged)
    touch(tmp_path, ["data/COMIC/page.png"])
    assert "1 image file(s) cannot be used: data/COMIC/page.png (not an image)" in refused(*judged)


def test_resize_is_the_mean_of_the_area():
    pixels = np.random.default_rng(0).random((768, 512, 3), dtype=np.float32)
    assert resize(pixels, (256, 256)) == pytest.approx(downscale_local_mean(pixels, (3, 2, 1)), abs=1e-6)
    gray = resize(pixels[..., :1], (128, 384))
    assert gray == pytest.approx(downscale_local_mean(pixels[..., :1], (2, 4, 1)), abs=1e-6)
    assert gray.dtype == np.float32


def test_resize_takes_means_of_one_side_while_the_other_grows():
    stripes = np.tile(np.float32([0, 1]), (200, 512))[..., None]  # lines of one pixel: gray at a quarter
    assert resize(stripes, (256, 256)) == pytest.approx(np.full((256, 256, 1), 0.5))
    assert resize(stripes.transpose(1, 0, 2), (256, 256)) == pytest.approx(np.full((256, 256, 1), 0.5))
    wide = resize(np.float32([[[0], [1]]]), (8, 1))[0, :, 0]
    assert (wide[0], wide[-1]) == (0, 1)
    assert (np.diff(wide) >= 0).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_voc2012_have_256_pixels_a_side(voc, channels):
    data = ImageSets(train="voc2012", test=["voc2012"], home=str(voc), channels=channels, crop_size=256)
    data.prepare()
    source = data.evaluation_images["test"]["voc2012"]
    save(source.files[0].path, 1, height=768, width=512)
    picture = np.asarray(Image.open(source.files[0].path)) / 255
    wanted = downscale_local_mean(picture, (3, 2, 1))
    if channels == 1:
        wanted = wanted @ [[0.299], [0.587], [0.114]]
    assert source.read(0) == pytest.approx(wanted, abs=1e-5)
    assert {source.read(i).shape for i in range(len(source))} == {(256, 256, channels)}
    assert next(iter(data.train_dataloader()))["image"].shape == (4, channels, 256, 256)


def test_crops_larger_than_what_a_set_is_resized_to_are_refused(voc, refused):
    told = refused("data=voc2012", "data.crop_size=257")
    wrong = "data.crop_size=257 is larger than the images of 'voc2012', which are resized to 256x256 pixels"
    assert told == f"{wrong}; use at most 256"


def test_a_run_by_name(voc):
    train([*TINY[1:], *BARE, "data=voc2012", "run_dir=run"])
    config = yaml.safe_load(Path("run/config.yaml").read_text())["data"]
    assert (config["home"], config["train"], config["test"]) == (str(voc), "voc2012", ["photo=voc2012"])
    assert "images: 11 to train on, 1 to validate, to judge on: 3 photo" in Path("run/run.log").read_text()
    figures = json.loads(Path("run/metrics.json").read_text())
    assert figures["test/psnr_sigma2.0"] > 0
    assert not [name for name in figures if "voc2012" in name or name.startswith("test/photo/")]


def test_a_run_judged_on_several_sets_keeps_every_image_once(voc, tmp_path):
    pages = ["one/page.png", "two/page.png", "cover.jpg", "two/last.png"]
    for i, name in enumerate(pages):
        save(tmp_path / "my pages" / name, 30 + i)
    train([
        *TINY[1:], *BARE, "data=voc2012", "data.test=[voc2012,'comic=my pages',builtin_photos]", "run_dir=run",
        "trainer.limit_test_batches=4", "callbacks.report.baselines=false",
    ])  # fmt: skip
    figures, images = (json.loads(Path(f"run/{name}.json").read_text()) for name in ("metrics", "images"))
    judged = [Path(name).stem for name in parts("voc2012", voc)["test"]]
    assert sorted(images["comic"]) == ["cover", "last", "one/page.png", "two/page.png"]
    assert sorted(images["voc2012"]) == judged
    assert sorted(images["builtin_photos"]) == ["chelsea", "coffee"]
    for label in ("voc2012", "comic", "builtin_photos"):
        for name in ("psnr_sigma1.5", "psnr_sigma2.0", "ssim"):
            each = [values[name] for values in images[label].values()]
            assert len(set(each)) == len(each)
            assert figures[f"test/{label}/{name}"] == pytest.approx(np.mean(each), rel=1e-5)
    assert "test/psnr_sigma2.0" not in figures  # no set is called photo
    assert "test/tone_error" in figures


def test_files_of_the_same_stem_keep_distinct_names():
    def names(*files):
        return distinct_names([Path("home") / file for file in files])

    assert names("x/a.png", "y/b.png") == ["a", "b"]
    assert names("x/a.png", "y/a.png", "y/b.png") == ["x/a.png", "y/a.png", "b"]
    assert names("x/a.png", "x/a.jpg") == ["a.png", "a.jpg"]
    assert names("a.png", "a.jpg", "a.png.png", "b.png") == ["a.png", "a.jpg", "a.png.png", "b.png"]
    assert names() == []
