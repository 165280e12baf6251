"""The task invertible_grayscale: its terms and stages, what joins a batch, its figures, and whole runs of it."""

import contextlib
import json
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torchvision
from conftest import BARE, TINY, clean_process, draw
from PIL import Image

import tasks.invertible_grayscale
from nibkit.cli import main, train
from nibkit.config import load_config
from nibkit.losses import Contrast
from nibkit.make import make
from nibkit.quantize import with_rounding_noise
from nibkit.weights import load_weights, read_weights
from tasks.invertible_grayscale import InvertibleGrayscaleTask

PAIR = [
    "task=invertible_grayscale", "backbone.encoder.width=2", "backbone.decoder.width=2", "+backbone.encoder.blocks=1",
    "+backbone.decoder.blocks=1",
]  # fmt: skip
SETTINGS = [*(option for option in TINY if not option.startswith("backbone.")), *PAIR]
STAGES = [
    "task.second_stage.start=0.5", "task.second_stage.quantization_weight=10", "task.structure_weight=0.25",
    "task.likeness_weight=1",
]  # fmt: skip
FIRST = {"reconstruction": 3.0, "structure": 0.25, "lightness": 1.0, "likeness": 1.0}
SECOND = {**FIRST, "quantization": 10.0}
IMAGE_FIGURES = {"psnr", "psnr_pooled", "ssim", "gray_psnr", "gray_ssim"}
ATTACKED = {"jpeg95_psnr", "jpeg85_psnr", "jpeg75_psnr", "half_level_psnr", "rotated_psnr"}
COLOUR_FIGURES = {"flat_error", "flat_error_worst", "flat_gray_std"}


def make_task(*options):
    torch.manual_seed(0)
    return make("task", load_config([*PAIR, *STAGES, *options]).task)


def picture(seed, size=32):
    return torch.from_numpy(draw(seed, size, size, 3)).permute(2, 0, 1)[None] / 127.5 - 1


def batch_of(count=2):
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.cat([picture(seed) for seed in range(count)]),
        "origin": torch.randint(0, 999, (count, 2), generator=generator),
        "level": torch.rand(count, 3, generator=generator),
    }


def judged(image, set_name, **values):
    names = [f"{set_name} {number}" for number in range(len(image))]
    origin = torch.zeros(len(image), 2, dtype=torch.int64)
    return {"image": image, "origin": origin, "set": [set_name] * len(image), "name": names, **values}


def colours():
    return judged(torch.rand(3, 3, 1, 1).mul(2).sub(1).expand(3, 3, 24, 24), "colour", level=torch.rand(3, 3))


def published_terms(gray, restored, image, tolerance):
    """Return the terms of one image, or of a batch of one size, by their formulas, in double precision."""
    gray, restored, image = (x.detach().double().numpy() for x in (gray, restored, image))
    light = np.tensordot(image, [0.299, 0.587, 0.114], axes=(1, 0))[:, None]

    def variation(x):
        steps = np.abs(np.diff(x, axis=2)).sum(axis=(1, 2, 3)) + np.abs(np.diff(x, axis=3)).sum(axis=(1, 2, 3))
        return steps.mean() / (x.shape[2] * x.shape[3])

    levels = np.arange(256) / 127.5 - 1
    return {
        "reconstruction": ((restored - image) ** 2).mean(),
        "structure": abs(variation(gray) - variation(light)),
        "lightness": np.maximum(tolerance, np.abs(gray - light)).mean() - tolerance,
        "likeness": ((gray - light) ** 2).mean(),
        "quantization": np.abs(gray[..., None] - levels).min(axis=-1).mean(),
    }


@pytest.mark.parametrize("stage", [0, 1])
def test_the_terms_of_a_stage_by_their_formulas(stage):
    task, batch = make_task("task.flats=0", "task.lightness_tolerance=0.05"), batch_of()
    assert task.stages == (FIRST, SECOND)
    assert task.weights == FIRST
    task.weights = task.stages[stage]
    terms = task.losses(batch)
    gray = task.backbone.encode(batch["image"], batch["origin"])
    restored = task.backbone.decode(((gray.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1)
    expected = published_terms(gray, restored, batch["image"], 0.05)
    assert list(terms) == list((FIRST, SECOND)[stage])
    for name, term in terms.items():
        assert float(term.detach()) == pytest.approx(expected[name], rel=1e-3, abs=1e-7), name
        assert term.requires_grad


def test_one_stage_if_the_second_is_empty():
    assert make_task("task.second_stage=null").stages == (FIRST, FIRST)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_flats_join_the_batch_at_other_places_of_the_noise_field(count):
    task, batch, seen = make_task(f"task.flats={count}"), batch_of(), []
    task.backbone.encoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments))
    task.losses(batch)
    ((images, origins),) = seen
    assert torch.equal(images[:2], batch["image"])
    assert torch.equal(origins[:2], batch["origin"])
    flats, places = images[2:], origins[2:]
    assert flats.shape == (count, 3, 32, 32)
    assert torch.equal(flats, flats[..., :1, :1].expand_as(flats))
    wanted = [(2 * batch["level"][i % 2] - 1).roll(i // 2) for i in range(count)]
    assert all(torch.allclose(flat[:, 0, 0], colour) for flat, colour in zip(flats, wanted, strict=True))
    assert all((place != origin).any() for place in places for origin in batch["origin"])


@pytest.mark.parametrize("rounding", ["straight_through", "noise", "none"])
def test_what_the_decoder_reads_in_training(rounding):
    task, batch, seen = make_task(f"task.rounding={rounding}", "task.flats=0"), batch_of(), []
    task.backbone.decoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    task.losses(batch)
    gray = task.backbone.encode(batch["image"], batch["origin"])
    expected = {
        "straight_through": ((gray.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1,
        "noise": with_rounding_noise(gray, batch["origin"]),
        "none": gray,
    }[rounding]
    torch.testing.assert_close(seen[0], expected, rtol=0, atol=1e-6)


def test_the_objective_is_the_second_stage_on_8_bit():
    task = make_task("task.lightness_tolerance=0.05").eval()
    images = [picture(1), picture(2, 40), *torch.split(colours()["image"], 1)]
    means = dict.fromkeys(SECOND, 0.0)
    with torch.inference_mode():
        for image in images[:2]:
            task.evaluate("val", judged(image, "photo"))
        task.evaluate("val", judged(torch.cat(images[2:]), "colour", level=torch.rand(3, 3)))
        task.evaluate("val", judged(torch.zeros(1, 3, 24, 24), "tone", level=torch.rand(1, 3)))
        figures = task.figures("val")
        for image in images:
            gray = ((task.backbone.encode(image).clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
            restored = task.backbone.decode(gray).clamp(-1, 1)
            for name, term in published_terms(gray, restored, image, 0.05).items():
                means[name] += term / len(images)
    assert set(figures) == {*IMAGE_FIGURES, *COLOUR_FIGURES, *SECOND, "objective"}
    assert means["quantization"] < 1e-6
    for name, mean in means.items():
        assert float(figures[name]) == pytest.approx(mean, rel=1e-3, abs=1e-6), name
    objective = sum(SECOND[name] * mean for name, mean in means.items())
    assert float(figures["objective"]) == pytest.approx(objective, rel=1e-3)


@pytest.mark.parametrize("robustness", [True, False])
def test_figures_of_a_test(robustness):
    task = make_task(f"task.robustness={robustness}").eval()
    with torch.inference_mode():
        for image in (picture(1), picture(2, 40)):
            task.evaluate("test", judged(image, "photo"))
        task.evaluate("test", judged(picture(3), "comic"))
        for name in ("tone", "spectrum"):
            task.evaluate("test", judged(torch.zeros(1, 3, 24, 24), name, level=torch.rand(1, 3)))
        task.evaluate("test", colours())
        assert set(task.image_figures("test")["photo"]) == {"photo 0"}
        figures = task.figures("test")
    names = IMAGE_FIGURES | (ATTACKED if robustness else set())
    assert set(figures) == names | {f"comic/{name}" for name in names} | COLOUR_FIGURES
    assert all(value.isfinite() for value in figures.values())
    assert figures["flat_error_worst"] >= figures["flat_error"] > 0


@pytest.mark.parametrize("training", [True, False])
def test_pictures(training):
    task, image = make_task().train(training), picture(4)[0]
    (_, first), (_, gray), _, (_, restored), _ = cells = task.pictures(image)
    assert "gray" in cells[1][0]
    assert task.training == task.backbone.encoder.training == training
    assert not any(cell.requires_grad for _, cell in cells)
    assert torch.equal(first, image)
    with torch.no_grad():
        task.eval()
        assert torch.equal(gray, task.hide(image[None])[0])
        assert torch.equal(restored, task.render(image[None])[0])
        assert torch.equal(task.restore(task.hide(image[None])), task.render(image[None]))
    assert restored.abs().max() <= 1


def test_a_pair_learns_to_hide_and_restore_colours():
    task = make_task("backbone.encoder.width=8", "backbone.decoder.width=8", "task.flats=0")
    levels = torch.tensor([[0.9, 0.2, 0.1], [0.1, 0.4, 0.8], [0.3, 0.7, 0.2], [0.6, 0.3, 0.7]])
    levels *= 0.4 / (levels @ torch.tensor([0.299, 0.587, 0.114]))[:, None]  # alike to who sees no colours
    image = (2 * levels - 1)[..., None, None].expand(4, 3, 16, 16)
    batch = {"image": image, "level": levels, "origin": torch.arange(8).reshape(4, 2) * 100}
    optimizer, errors = torch.optim.Adam(task.parameters(), 6e-3), []
    for _ in range(60):
        terms = task.losses(batch)
        optimizer.zero_grad()
        torch.stack([task.weights[name] * term for name, term in terms.items()]).sum().backward()
        optimizer.step()
        errors.append(float(terms["reconstruction"].detach()))
    assert errors[-1] < errors[0] / 4
    with torch.no_grad():
        gray = task.eval().hide(image)
    assert (gray.mean(dim=(1, 2, 3)) + 0.2).abs().max() < 0.3  # still about the luminance
    assert gray.std(dim=(1, 2, 3)).min() > 0.005


@contextlib.contextmanager
def recorded_weights():
    """Record (step, weights) of every training step meanwhile."""
    seen, step = [], InvertibleGrayscaleTask.training_step

    def look(self, batch, batch_idx):
        seen.append((self.global_step, dict(self.weights)))
        return step(self, batch, batch_idx)

    with mock.patch.object(InvertibleGrayscaleTask, "training_step", look):
        yield seen


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """Options, folder and recorded weights of a finished run of eight steps with all callbacks; read only."""
    home, options = tmp_path_factory.mktemp("grayscale"), [*SETTINGS, *STAGES, f"data.root={images}"]
    with clean_process(home), recorded_weights() as seen:
        train([*options, "trainer.max_steps=8", "run_dir=run"])
    return options, home / "run", seen


def test_a_run_changes_its_weights_at_the_second_stage(trained):
    assert trained[2] == [(step, FIRST if step < 4 else SECOND) for step in range(8)]


def test_a_run_leaves_figures_pictures_and_checkpoints(trained):
    _, run, _ = trained
    figures = json.loads((run / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert set(figures) == {f"test/{name}" for name in IMAGE_FIGURES | ATTACKED | COLOUR_FIGURES}
    assert None not in figures.values()
    log = (run / "run.log").read_text()
    assert "flat_error_worst" in log
    assert "Floyd-Steinberg" not in log  # no halftones, no classics
    assert {path.name for path in (run / "samples").iterdir()} == {"step_000008.png", "flatness.png"}
    # five columns of the 256 pixels of comic page, ramp and colours
    assert Image.open(run / "samples" / "step_000008.png").width == 5 * (256 + 12) + 12
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_a_run_resumed_in_the_second_stage_has_its_weights_at_once(trained):
    options, run, _ = trained
    with recorded_weights() as seen:
        train([*options, *BARE, "trainer.max_steps=10", f"ckpt_path={run}/checkpoints/last.ckpt", "run_dir=more"])
    assert seen == [(8, SECOND), (9, SECOND)]


def test_a_checkpoint_is_tested_and_used(trained, images):
    _, run, _ = trained
    best = run / "checkpoints" / "best.ckpt"
    train([*SETTINGS, *BARE, f"data.root={images}", "mode=test", f"ckpt_path={best}", "run_dir=tested"])
    assert Path("tested/metrics.json").read_text() == (run / "metrics.json").read_text()
    train([*PAIR[:1], "mode=predict", f"input={images}", "output=out", f"ckpt_path={best}", "trainer.accelerator=cpu"])
    with Image.open("out/sub/e.png") as made, Image.open(images / "sub" / "e.png") as source:
        assert (made.size, made.mode) == (source.size, "RGB")
    task = InvertibleGrayscaleTask.load_from_checkpoint(best, map_location="cpu", weights_only=True).eval()
    main(["export", str(best), "pair.safetensors"])
    assert read_weights("pair.safetensors").task == "invertible_grayscale"
    pair, image = load_weights("pair.safetensors", "invertible_grayscale"), picture(5)
    with torch.inference_mode():
        assert torch.equal(load_weights(str(best))(image), pair(image))
        # in another memory layout: where a last bit decides, rounding makes a level of it
        torch.testing.assert_close(pair.encode(image), task.backbone.encode(image), rtol=0, atol=1e-5)
        assert (pair(image).clamp(-1, 1) - task.render(image)).abs().mean() < 1e-4


@pytest.fixture
def vgg16_file(tmp_path, monkeypatch):
    """A file of a VGG16 of two channels in each layer, which nibkit then takes for the real one."""
    narrow = [2 if width != "M" else "M" for width in torchvision.models.vgg.cfgs["D"]]
    monkeypatch.setitem(torchvision.models.vgg.cfgs, "D", narrow)
    monkeypatch.setattr(tasks.invertible_grayscale, "Contrast", partial(Contrast, size=32))
    layers = torchvision.models.vgg.make_layers(narrow)
    torch.save({f"features.{key}": value for key, value in layers.state_dict().items()}, tmp_path / "vgg16.pth")
    return tmp_path / "vgg16.pth"


def test_vgg_is_part_of_the_loss_but_neither_trained_nor_saved(vgg16_file, images):
    contrast = [
        "task.contrast_weight=0.5",
        f"task.vgg_weights={vgg16_file}",
        "logger=csv",
        "trainer.log_every_n_steps=1",
    ]
    train([*SETTINGS, *STAGES, *BARE, f"data.root={images}", *contrast, "run_dir=run"])
    (log,) = Path("run").rglob("metrics.csv")
    assert {"train/contrast", "val/contrast", "val/objective"} <= set(log.read_text().splitlines()[0].split(","))
    checkpoint = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    weights = make_task().backbone.state_dict()
    assert {key: tuple(value.shape) for key, value in checkpoint["state_dict"].items()} == {
        f"backbone.{key}": tuple(value.shape) for key, value in weights.items()
    }
    assert len(checkpoint["optimizer_states"][0]["state"]) == len(weights)
    vgg16_file.unlink()  # a test needs it no more
    train(
        [*SETTINGS, *BARE, f"data.root={images}", "mode=test", "ckpt_path=run/checkpoints/last.ckpt", "run_dir=tested"]
    )
    assert json.loads(Path("tested/metrics.json").read_text())["test/psnr"] > 0
