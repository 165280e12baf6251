"""Each case of bad input through the command line: one sentence, exit code 2, nothing left behind."""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from nibkit.cli import main, train

ROOT = Path(__file__).resolve().parent.parent
RUN = "run_dir=run"
STRONG_NOISE = "nib.scale=3"  # the network of the fixture tiny_run


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "task=dithring",
            "unknown task 'dithring' (did you mean 'dithering'?); choose from: autoencoder, dithering, halftoning",
        ),
        ("backbone=rsnet", "unknown backbone 'rsnet' (did you mean 'resnet'?); choose from: autoencoder, invertible_"),
        (
            "backbone.name=rsnet",
            "unknown backbone 'rsnet' (did you mean 'resnet'?); choose from: autoencoder, grayscale_decoder",
        ),
        ("nib=symetric", "unknown nib 'symetric' (did you mean 'symmetric'?); choose from: additive, blue, dynamic"),
        (
            "data=foldr",
            "unknown data 'foldr' (did you mean 'folder'?); choose from: builtin, cityscapes, div2k, folder",
        ),
        ("trainer.max_step=3", "unknown key 'trainer.max_step' (did you mean 'trainer.max_steps'?)"),
        ("backbone.width=wide", "backbone.width=wide has the wrong type"),
        ("data.batch_size=-1", "data.batch_size=-1 is out of range"),
        ("trainer.max_time=5", "trainer.max_time=5 is no time"),
        ("task.schedule.name=cosin", "task.schedule.name=cosin is unknown; choose from: constant, cosine, plateau"),
        ("data.batch_size=500", "data.batch_size=500 is larger than an epoch of 5 samples"),
        ("data.crop_size=500", "5 image file(s) cannot be used: "),
        ("data.channels=3", "data.channels=3, but the network takes images of 1 channel(s)"),
        ("backbone.in_channels=2", "data.channels=2 is not supported"),
        ("backbone.out_channels=3", "backbone.out_channels=3 but a halftone has 1"),
        ("nib.channels=3", "nib.channels=3 does not fit form 'symmetric'"),
        ("trainer.sync_batchnorm=5", "trainer.sync_batchnorm=5 has the wrong type"),
        ("callbacks.last.minutes=0", "callbacks.last.minutes=0 is out of range; give one above 0, or null"),
        ("callbacks.last.steps=-2", "callbacks.last.steps=-2 is out of range; give one above 0, or null"),
        ("trainer=ddp_simm", "unknown trainer 'ddp_simm' (did you mean 'ddp_sim'?); choose from: "),
        ("trainer.precision=8", "trainer: Precision 8 is invalid"),
        ("trainer.accelerator=gpuu", "trainer: You selected an invalid accelerator name"),
        ("trainer.strategy=dpp", "trainer: You selected an invalid strategy name"),
        ("+trainer.stepz=3", "trainer: Trainer.__init__() got an unexpected keyword argument 'stepz'"),
        ("+task.spice=3", "task: DitheringTask.__init__() got an unexpected keyword argument 'spice'"),
        ("+backbone.depth=3", "backbone 'resnet' has no option 'depth'"),
        ("task.optimizer._target_=torch.optim.Adamm", "task: Error loading 'torch.optim.Adamm'"),
        ("+task.optimizer.lrr=1", "task: Adam.__init__() got an unexpected keyword argument 'lrr'"),
        ("task._target_=tasks.none.Task", "task: Error loading 'tasks.none.Task'"),
        ("data.augment.0._target_=albumentations.Foo", "data: Error loading 'albumentations.Foo'"),
        ("imports=[no_such_module]", "imports: no module named 'no_such_module'"),
        ("mode=trian", "unknown mode 'trian' (did you mean 'train'?)"),
        ("mode=test", "mode=test needs a trained network: set ckpt_path=RUN_DIR/checkpoints/best.ckpt"),
        ("mode=predict", "mode=predict needs input=IMAGES and output=DIR"),
        ("ckpt_path=none.ckpt", "ckpt_path='none.ckpt' does not exist"),
        ("--bogus", "unknown option '--bogus'"),
        ("--config-dir=none", "--config-dir 'none' is no folder"),
    ],
)
def test_options(tiny, refused, override, sentence):
    assert refused(*tiny, RUN, override).startswith(sentence)


@pytest.mark.parametrize("name", ["pix2pix", "spade"])
def test_a_network_with_an_adversary_in_a_task_without(refused, name):
    message = refused("task=halftoning", f"backbone={name}", RUN)
    assert message.startswith(f"backbone={name} learns against a discriminator, which this task does not have; choose")
    assert "adversary=none" in message


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["backbone=unet"], "backbone.name=unet has no encoder and decoder; invertible grayscale needs"),
        (["backbone=subpixel"], "backbone.name=subpixel has no encoder and decoder; invertible grayscale needs"),
        (["backbone.in_channels=1"], "backbone.in_channels=1 and backbone.out_channels=3 are no colours"),
        (["backbone.out_channels=1"], "backbone.in_channels=3 and backbone.out_channels=1 are no colours"),
        (["data.channels=1"], "data.channels=1, but the network takes images of 3 channel(s)"),
        (["backbone.encoder.name=subpixl"], "backbone.encoder: unknown backbone 'subpixl' (did you mean 'subpixel'?)"),
        (["+backbone.encoder.depth=3"], "backbone.encoder: backbone 'subpixel' has no option 'depth'"),
        (["backbone.encoder.width=0"], "backbone.encoder: backbone.width=0 and backbone.blocks=6 must"),
        (["backbone.decoder=5"], "backbone.decoder=5 has no keys; give options as {KEY: VALUE}, or null"),
        (["backbone.decoder_nib=blue"], "backbone.decoder_nib=blue has no keys"),
        (
            ["backbone.decoder_nib={form:symetric}"],
            "backbone.decoder: unknown nib.form 'symetric' (did you mean 'symmetric'?)",
        ),
        (
            ["backbone=invertible_grayscale_2018", "backbone.encoder.start=usual"],
            "backbone.encoder: unknown start of an",
        ),
        (["backbone=invertible_grayscale_2018", "backbone.decoder.width=1"], "backbone.decoder: width=1 of an"),
        (["+task.second_stage.likness_weight=1"], "unknown key of task.second_stage 'likness_weight' (did you mean"),
        (["task.second_stage.quantization_weight=-1"], "task.second_stage.quantization_weight=-1 is out of range"),
        (["+task.second_stage.contrast_weight=much"], "task.second_stage.contrast_weight=much has the wrong type"),
        (["task.second_stage=5"], "task.second_stage=5 has no keys; give {start: SHARE, NAME_weight: W}, or null"),
        (["task.contrast_weight=1e-7", "task.vgg_weights=no.pth"], "VGG weights 'no.pth' do not exist; give a"),
        (["+task.second_stage.contrast_weight=1e-7", "task.vgg_weights=no.pth"], "VGG weights 'no.pth' do not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_of_invertible_grayscale(tiny, refused, overrides, sentence):
    settings = [option for option in tiny if not option.startswith("backbone.")]
    assert refused(*settings, RUN, "task=invertible_grayscale", *overrides).startswith(sentence)


def test_all_losses_of_a_stage_off(tiny, refused):
    settings = [option for option in tiny if not option.startswith("backbone.")]
    names = ("reconstruction", "structure", "lightness", "likeness")
    off = [f"+task.second_stage.{name}_weight=0" for name in names] + ["task.second_stage.quantization_weight=0"]
    message = refused(*settings, RUN, "task=invertible_grayscale", *off)
    assert message.startswith("all weights of the second stage are 0")
    message = refused(*settings, RUN, "task=invertible_grayscale", *(f"task.{name}_weight=0" for name in names))
    assert message.startswith("all weights of the losses are 0")


def test_contrast_without_weights_and_network(tiny, refused, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise URLError("no host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    settings = [option for option in tiny if not option.startswith("backbone.")]
    message = refused(*settings, RUN, "task=invertible_grayscale", "task.contrast_weight=1e-7")
    assert message.startswith("torchvision's weights of VGG19, vgg19-dcbb9e9d.pth, are missing")
    assert "task.contrast_weight=0" in message


def test_what_only_lightning_can_tell(tiny, capsys):
    with pytest.raises(SystemExit) as stop:
        train([*tiny, RUN, "trainer.limit_train_batches=0.1"])
    assert stop.value.code == 2
    assert "You requested to check 0.1 of the `train_dataloader`" in one_sentence(capsys)
    train([*tiny, RUN])  # the folder holds no run yet: it can be used


def test_all_losses_off(tiny, refused):
    assert refused(*tiny, RUN, "task=halftoning", "task.tone_weight=0").startswith("all weights of the losses are 0")


@pytest.mark.parametrize("value", ["", "null"])
def test_folder_not_given(tiny, refused, value):
    assert refused(*tiny, RUN, f"data.root={value}").startswith("data.root is not set")


def test_missing_and_empty_folders(tiny, refused, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert refused(*tiny, RUN, "data.root=none").startswith("image folder 'none' does not exist")
    assert refused(*tiny, RUN, "data.root=file").startswith("image folder 'file' does not exist or is no folder")
    assert refused(*tiny, RUN, "data.root=empty").startswith("image folder 'empty' holds no images")


def test_unreadable_folder(tiny, refused, public, nobody):
    (public / "locked" / "inner").mkdir(parents=True)
    (public / "locked").chmod(0)
    for folder in (public / "locked", public / "locked" / "inner"):
        assert "Permission denied" in refused(*tiny, "run_dir=/tmp/nibkit-run", f"data.root={folder}", rights=nobody)


@pytest.fixture
def bad_images(images, tmp_path):
    """The seven good images and three bad ones."""
    folder = tmp_path / "bad"
    shutil.copytree(images, folder)
    (folder / "text.png").write_text("this is no image")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:2000])
    Image.new("L", (1, 1)).save(folder / "dot.png")
    return folder


def test_bad_images_are_named_at_once(tiny, refused, bad_images):
    message = refused(*tiny, RUN, f"data.root={bad_images}")
    assert message.startswith("3 image file(s) cannot be used: ")
    assert f"{bad_images}/dot.png (1x1 pixels, smaller than" in message
    assert f"{bad_images}/cut.png (truncated)" in message
    assert f"{bad_images}/text.png (not an image)" in message


def test_image_smaller_than_the_crop(tiny, refused, images):
    message = refused(*tiny, RUN, f"data.root={images}", "data.crop_size=44")
    assert message.startswith("3 image file(s) cannot be used")
    assert message.count("smaller than 44x44") == 3
    assert message.endswith("remove or replace them, or lower data.crop_size")


def test_broken_checkpoints(tiny, tiny_run, refused, tmp_path):
    whole = (tiny_run / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.ckpt").write_text("this is no checkpoint")
    (tmp_path / "empty.ckpt").write_bytes(b"")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    for mode in ("train", "test"):
        for name in ("cut", "text", "empty"):
            message = refused(*tiny, RUN, f"mode={mode}", f"ckpt_path={name}.ckpt")
            assert message.startswith(f"ckpt_path='{name}.ckpt' is truncated or no checkpoint")
        for name in ("other", "list"):
            message = refused(*tiny, RUN, f"mode={mode}", f"ckpt_path={name}.ckpt")
            assert message.startswith(f"ckpt_path='{name}.ckpt' is no checkpoint of nibkit")
    assert refused(*tiny, RUN, f"ckpt_path={tmp_path}").startswith(f"ckpt_path='{tmp_path}' does not exist")


def test_checkpoint_with_code_is_not_run(tiny, refused, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "hacked"),)

    torch.save({"state_dict": {}, "hyper_parameters": Evil()}, tmp_path / "evil.ckpt")
    assert "no checkpoint" in refused(*tiny, RUN, "mode=test", "ckpt_path=evil.ckpt")


def test_unreadable_checkpoint(tiny, refused, public, nobody):
    for folder in ("open", "locked"):
        (public / folder).mkdir()
        (public / folder / "x.ckpt").write_bytes(b"")
    (public / "open" / "x.ckpt").chmod(0)
    (public / "locked").chmod(0)
    for folder in ("open", "locked"):
        message = refused(*tiny, "run_dir=/tmp/nibkit-run", f"ckpt_path={public}/{folder}/x.ckpt", rights=nobody)
        assert f"{public}/{folder}/x.ckpt" in message
        assert "Permission denied" in message


def test_checkpoint_of_another_task(tiny, tiny_run, refused):
    best = tiny_run / "checkpoints" / "best.ckpt"
    for extra in (["mode=test"], [], ["mode=predict", f"input={tiny_run / 'samples'}", "output=out"]):
        message = refused(*tiny, RUN, "task=halftoning", f"ckpt_path={best}", *extra)
        assert message.startswith(f"ckpt_path='{best}' is of task 'tasks.dithering.DitheringTask', but this run's task")


@pytest.mark.parametrize(
    ("override", "then", "now"),
    [("backbone.width=3", "backbone.width=2", "3"), ("nib=none", "nib.form=symmetric", "none"),
     ("nib.seed=5", "nib.seed=0", "5")],
)  # fmt: skip
def test_resume_of_another_network(tiny, tiny_run, refused, override, then, now):
    message = refused(*tiny, RUN, f"ckpt_path={tiny_run}/checkpoints/last.ckpt", STRONG_NOISE, override)
    assert f"was trained with {then}, but this run has {now}; set {then} to resume" in message


def test_run_folder_that_cannot_be_written(tiny, refused, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in ("file", "file/below", "file/far/below", "/proc/nibkit", "/proc/nibkit/run", "x" * 300):
        assert refused(*tiny, f"run_dir={folder}").startswith(f"run_dir='{folder}' cannot be written")


def test_run_folder_without_permission(tiny, refused, public, nobody):
    for name, bits in (("locked", 0), ("fixed", 0o555)):
        (public / name).mkdir()
        (public / name).chmod(bits)
    for folder in (
        public / "locked" / "run",
        public / "locked" / "a" / "b",
        public / "fixed",
        public / "fixed" / "run",
    ):
        message = refused(*tiny, f"run_dir={folder}", rights=nobody)
        assert message.startswith(f"run_dir='{folder}' cannot be written")


def test_run_folder_that_holds_a_run(tiny, tiny_run, refused):
    before = {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")}
    message = refused(*tiny, f"run_dir={tiny_run}")
    assert message.startswith(
        f"run_dir='{tiny_run}' already holds a run; choose another, or go on with it by ckpt_path=auto"
    )
    assert {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")} == before


def predict(tiny_run, *options):
    return ["mode=predict", f"ckpt_path={tiny_run}/checkpoints/best.ckpt", *options]


def test_predict_without_its_paths(tiny_run, refused, images):
    assert refused(*predict(tiny_run, f"input={images}")).startswith("mode=predict needs input=IMAGES and output=DIR")
    assert refused(*predict(tiny_run, "output=out")).startswith("mode=predict needs input=IMAGES and output=DIR")
    message = refused("mode=predict", f"input={images}", "output=out")
    assert message.startswith("mode=predict needs a trained network")


def test_predict_of_what_cannot_be_read(tiny_run, refused, bad_images, tmp_path):
    message = refused(*predict(tiny_run, f"input={bad_images}", "output=out"))
    assert message.startswith("2 image file(s) cannot be used: ")
    message = refused(*predict(tiny_run, "input=none", "output=out"))
    assert message == "image folder 'none' does not exist or is no folder; set input to a folder of images"
    message = refused(*predict(tiny_run, f"input={bad_images}/text.png", "output=out"))
    assert "text.png (not an image)" in message


def test_predict_refuses_two_images_of_one_name(tiny_run, refused, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("x.png", "x.jpg"):
        Image.new("L", (20, 20)).save(tmp_path / "in" / name)
    message = refused(*predict(tiny_run, "input=in", "output=out"))
    assert message == "'in/x.png' and 'in/x.jpg' would both become 'out/x.png'; rename one"


def test_predict_does_not_overwrite_its_input(tiny_run, refused, tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("L", (20, 20)).save(tmp_path / "in" / "x.png")
    assert "would overwrite the input 'in/x.png'" in refused(*predict(tiny_run, "input=in", "output=in"))


def test_predict_to_a_folder_that_cannot_be_written(tiny_run, refused, images, tmp_path):
    (tmp_path / "file").write_text("")
    message = refused(*predict(tiny_run, f"input={images}", "output=file/below"))
    assert message.startswith("output='file/below' cannot be written")
    assert "/proc/nibkit/a.png" in refused(*predict(tiny_run, f"input={images}", "output=/proc/nibkit"))


def copy_of(tiny_run, folder):
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("best.ckpt", "last.ckpt"):
        shutil.copy(tiny_run / "checkpoints" / name, folder / "checkpoints" / name)
    return {path: path.read_bytes() for path in (folder / "checkpoints").iterdir()}


def one_sentence(capsys):
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("train.py: error: ")]
    assert len(lines) == 1, error
    assert "Traceback" not in error
    return lines[0]


def test_disk_full_while_a_checkpoint_is_saved(tiny, tiny_run, tmp_path, capsys, monkeypatch):
    before = copy_of(tiny_run, tmp_path / "run")
    whole = Path.write_bytes

    def disk_full(self, data):
        if ".ckpt" not in self.name:
            return whole(self, data)
        whole(self, bytes(data)[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(SystemExit) as stop:
        train([*tiny, RUN, "ckpt_path=run/checkpoints/last.ckpt", STRONG_NOISE, "trainer.max_steps=32"])
    assert stop.value.code == 2
    message = one_sentence(capsys)
    assert "No space left on device; the previous checkpoint, if any, is whole" in message
    assert {path: path.read_bytes() for path in (tmp_path / "run" / "checkpoints").iterdir()} == before
    monkeypatch.undo()
    os.chdir(tmp_path)
    train([*tiny, RUN, "ckpt_path=run/checkpoints/last.ckpt", STRONG_NOISE, "trainer.max_steps=32"])
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 32


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 300 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to mount a small disk here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("free", [0, 4, 12])
@pytest.mark.parametrize("logger", ["none", "default"])
def test_a_disk_that_is_really_full(tiny, tiny_run, small_disk, capsys, free, logger):
    run = small_disk / "run"
    before = copy_of(tiny_run, run)
    reserve = small_disk / "reserve"
    reserve.write_bytes(b"x" * (1024 * free))
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    reserve.unlink()
    options = [*tiny, f"logger={logger}", f"run_dir={run}", f"ckpt_path={run}/checkpoints/last.ckpt"]
    with pytest.raises(SystemExit) as stop:
        train([*options, STRONG_NOISE, "trainer.max_steps=32"])
    assert stop.value.code == 2
    assert "No space left on device" in one_sentence(capsys)
    assert {path: path.read_bytes() for path in (run / "checkpoints").iterdir()} == before
    assert not list(run.rglob("*.part*"))


def test_a_user_sees_one_line_and_no_traceback(tmp_path):
    """What the in-process tests cannot see: the whole screen of ``python train.py``."""
    command = [sys.executable, str(ROOT / "train.py"), "data=folder", "data.root=none", "run_dir=run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "train.py: error: image folder 'none' does not exist or is no folder; set data.root to a folder of images\n"
    )
    assert not (tmp_path / "run").exists()


def test_other_commands_carry_their_own_name(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "task=foo"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("nibkit train: error: unknown task 'foo'")


def test_a_users_module_that_hides_the_tasks(tmp_path):
    (tmp_path / "tasks.py").write_text("")
    command = [sys.executable, "-m", "nibkit", "train", "run_dir=run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("nibkit train: error: the package 'tasks' of nibkit is hidden by ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
