import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nibkit.data.scan
from nibkit.data.scan import check_images, find_images, split_by_hash
from nibkit.errors import UserError


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


def picture(path, width=20, height=16, value=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height), value).save(path)
    return path


def test_search_is_recursive_sorted_and_by_extension(images):
    names = [p.relative_to(images).as_posix() for p in find_images(images)]
    assert names == ["a.png", "b.jpg", "c.tif", "d.webp", "sub/deep/g.png", "sub/e.png", "sub/f.JPG"]


def test_hidden_and_other_files_are_left_out(folder):
    for name in ("a.png", ".b.png", ".git/c.png", "sub/.thumbs/d.png", "sub/e.png"):
        picture(folder / name)
    (folder / "notes.txt").write_text("no image")
    assert [p.relative_to(folder).as_posix() for p in find_images(folder)] == ["a.png", "sub/e.png"]


def test_a_hidden_folder_above_hides_nothing(tmp_path):
    picture(tmp_path / ".home" / "images" / "a.png")
    assert len(find_images(tmp_path / ".home" / "images")) == 1


def test_split_is_whole_disjoint_and_seeded(folder):
    paths = [folder / f"{i}.png" for i in range(50)]
    split = split_by_hash(paths, folder, seed=1)
    assert {name: len(part) for name, part in split.items()} == {"train": 40, "val": 5, "test": 5}
    assert sorted(split["train"] + split["val"] + split["test"]) == sorted(paths)
    assert split == split_by_hash(paths, folder, seed=1)
    assert split["test"] != split_by_hash(paths, folder, seed=2)["test"]


def test_split_depends_on_names_alone(folder, tmp_path):
    names = [f"sub/{i}.png" for i in range(30)]
    split = split_by_hash([folder / n for n in names], folder, seed=0)
    moved = split_by_hash([tmp_path / "b" / n for n in reversed(names)], tmp_path / "b", seed=0)
    for part in split:
        assert [p.relative_to(folder) for p in split[part]] == [p.relative_to(tmp_path / "b") for p in moved[part]]


def test_three_images_give_one_each_and_two_are_refused(folder):
    paths = [folder / f"{i}.png" for i in range(3)]
    assert [len(part) for part in split_by_hash(paths, folder, 0).values()] == [1, 1, 1]
    with pytest.raises(UserError, match="holds 2 image"):
        split_by_hash(paths[:2], folder, 0)


def test_all_bad_files_are_named_at_once(folder):
    good = picture(folder / "good.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:1500])
    Image.fromarray(noise).save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:1500])
    (folder / "text.png").write_text("this is no image")
    (folder / "empty.png").write_bytes(b"")
    picture(folder / "dot.png", 1, 1)
    with pytest.raises(UserError) as error:
        check_images(find_images(folder), minimum=11)
    message = str(error.value)
    assert message.startswith("5 image file(s) cannot be used: ")
    assert f"{folder / 'cut.png'} (truncated)" in message
    assert f"{folder / 'cut.jpg'} (truncated)" in message
    assert f"{folder / 'text.png'} (not an image)" in message
    assert f"{folder / 'empty.png'} (not an image)" in message
    assert f"{folder / 'dot.png'} (1x1 pixels, smaller than 11x11)" in message
    assert str(good) not in message
    assert "\n" not in message


def test_many_bad_files_are_counted(folder):
    for i in range(30):
        (folder / f"{i:02}.png").write_text("x")
    with pytest.raises(UserError, match=r"^30 image file\(s\).*19\.png \(not an image\) and 10 more; remove"):
        check_images(find_images(folder))


def test_sizes_are_upright(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (30, 12)).save(folder / "turned.jpg", exif=exif)
    picture(folder / "upright.png", 30, 12)
    assert [(f.width, f.height) for f in check_images(find_images(folder))] == [(12, 30), (30, 12)]


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files decoded so far."""
    names, decode = [], nibkit.data.scan._decode

    def counted(path: Path):
        names.append(path.name)
        return decode(path)

    monkeypatch.setattr(nibkit.data.scan, "_decode", counted)
    return names


def test_each_file_is_decoded_once(folder, tmp_path, decoded):
    paths = [picture(folder / f"{i}.png") for i in range(4)]
    seen = []
    check_images(paths, cache=tmp_path / "cache", progress=lambda done, total: seen.append((done, total)))
    assert sorted(decoded) == ["0.png", "1.png", "2.png", "3.png"]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    decoded.clear()
    files = check_images(paths, cache=tmp_path / "cache")
    assert decoded == []
    assert [(f.path, f.width, f.height) for f in files] == [(p, 20, 16) for p in paths]


def test_a_changed_file_is_decoded_again(folder, tmp_path, decoded):
    paths = [picture(folder / f"{i}.png") for i in range(3)]
    check_images(paths, cache=tmp_path / "cache")
    decoded.clear()
    status = paths[1].stat()
    os.utime(paths[1], ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))  # another time, same size
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 20), dtype=np.uint8)).save(paths[2])
    os.utime(paths[2], ns=(status.st_atime_ns, status.st_mtime_ns))  # another size
    check_images(paths, cache=tmp_path / "cache")
    assert sorted(decoded) == ["1.png", "2.png"]


def test_a_file_that_broke_is_found_and_bad_ones_are_not_remembered(folder, tmp_path):
    paths = [picture(folder / f"{i}.png") for i in range(2)]
    check_images(paths, cache=tmp_path / "cache")
    paths[0].write_bytes(paths[0].read_bytes()[:50])
    for _ in range(2):
        with pytest.raises(UserError, match=r"^1 image file\(s\).*0\.png"):
            check_images(paths, cache=tmp_path / "cache")


def test_a_broken_or_unwritable_cache_costs_only_time(folder, tmp_path, decoded):
    paths = [picture(folder / "0.png")]
    check_images(paths, cache=tmp_path / "cache")
    next((tmp_path / "cache").iterdir()).write_text("{broken")
    check_images(paths, cache=tmp_path / "cache")
    (tmp_path / "file").write_text("")
    check_images(paths, cache=tmp_path / "file" / "cache")
    assert decoded == ["0.png"] * 3


def test_missing_and_empty_folders(folder, tmp_path):
    with pytest.raises(UserError, match=r"'.*none' does not exist or is no folder; set data\.root"):
        find_images(tmp_path / "none")
    with pytest.raises(UserError, match=r"holds no images; looked for \.jpg"):
        find_images(folder)


def test_unreadable_folder_is_told(public, nobody):
    picture(public / "locked" / "a.png")
    (public / "locked").chmod(0)
    with nobody(), pytest.raises(UserError, match="locked' cannot be read: Permission denied"):
        find_images(public)


def test_unreadable_file_is_named(public, nobody):
    picture(public / "a.png").chmod(0)
    picture(public / "b.png")
    with nobody(), pytest.raises(UserError, match=r"^1 image file\(s\).*a.png \(Permission denied\)"):
        check_images(find_images(public))
