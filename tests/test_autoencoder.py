"""The autoencoder task: its network, figures and pictures, and that noise which stays in the data costs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, draw
from matplotlib import colormaps
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from nibkit.backbones import Autoencoder
from nibkit.cli import train
from nibkit.config import load_config
from nibkit.errors import UserError
from nibkit.filters import gaussian_filter
from nibkit.make import make
from nibkit.metrics import PSNR, PooledPSNR, ReconstructionMetrics
from nibkit.nib import make_noise
from nibkit.sheet import error_map

SMALL = ("backbone.width=4", "backbone.latent=12")
ORIGIN = torch.zeros(1, 2, dtype=torch.int64)


def make_task(*options):
    torch.manual_seed(0)
    return make("task", load_config(["task=autoencoder", *options]).task)


def picture(seed, size=64):
    return torch.from_numpy(draw(seed, size, size, 3)).permute(2, 0, 1)[None] / 127.5 - 1


def unit(image):
    return ((image[0] + 1) / 2).permute(1, 2, 0).double().numpy()


def pairs():
    """Return three images and noisy ones, the noise of each stronger than before."""
    generator = torch.Generator().manual_seed(0)
    images = [picture(i, 48) for i in range(3)]
    return [((x + 0.1 * (i + 1) * torch.randn(x.shape, generator=generator)).clamp(-1, 1), x)
            for i, x in enumerate(images)]  # fmt: skip


@pytest.mark.parametrize("latent", [5, 32])
def test_the_answer_is_made_of_the_latent_alone(latent):
    network = Autoencoder(width=4, latent=latent, nib={"form": "symmetric"}).train()
    image = picture(0)
    code = network.encode(image, ORIGIN)
    assert code.shape == (1, latent, 16, 16)
    assert torch.equal(network.decode(code), network(image))
    # with the latent held fixed, nothing of the image is left
    network.encode = lambda image, origin: code.detach()
    held = image.clone().requires_grad_()
    gradient = torch.autograd.grad(network(held).sum(), held, allow_unused=True)[0]
    assert gradient is None or not gradient.any()


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_margin_grows_with_the_blocks(blocks):
    assert Autoencoder(width=2, blocks=blocks, nib={"form": "none"}).margin == 5 + 24 * blocks


@pytest.mark.parametrize(("nib", "count"), [("none", 210547), ("additive", 210547), ("symmetric", 210979)])
def test_the_nib_costs_one_more_first_convolution_and_the_control_nothing(nib, count):
    network = make_task(f"nib={nib}").backbone
    assert isinstance(network, Autoencoder)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_psnr_and_ssim_are_those_of_skimage():
    suite = ReconstructionMetrics()
    for i, (output, target) in enumerate(pairs()):
        suite.update("photo", output, target, [f"image {i}"])
        suite.update("tone", output, target)
    figures = suite.compute()
    each = [peak_signal_noise_ratio(unit(y), unit(x), data_range=1) for x, y in pairs()]
    outputs, targets = (np.stack([unit(pair[k]) for pair in pairs()]) for k in (0, 1))
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    # over whole images: skimage's own mean leaves the border out
    similar = [structural_similarity(unit(y), unit(x), channel_axis=-1, full=True, **window)[1] for x, y in pairs()]
    assert set(figures) == {"psnr", "psnr_pooled", "ssim", "flat_psnr"}
    assert float(figures["psnr"]) == pytest.approx(np.mean(each), abs=1e-3)
    assert float(figures["flat_psnr"]) == pytest.approx(np.mean(each), abs=1e-3)
    pooled = peak_signal_noise_ratio(targets, outputs, data_range=1)
    assert float(figures["psnr_pooled"]) == pytest.approx(pooled, abs=1e-3)
    assert abs(pooled - np.mean(each)) > 0.5  # they are two figures
    assert float(figures["ssim"]) == pytest.approx(np.mean(similar), abs=2e-3)
    assert suite.per_image()["photo"]["image 1"]["psnr"] == pytest.approx(each[1], abs=1e-3)


def test_an_exact_match_counts_as_100_db():
    (output, image), metric = pairs()[2], PSNR()
    metric.update(torch.cat((image, output)), torch.cat((image, image)))
    one = peak_signal_noise_ratio(unit(image), unit(output), data_range=1)
    assert float(metric.compute()) == pytest.approx((100 + one) / 2, abs=1e-3)
    pooled = PooledPSNR()
    pooled.update(image, image)
    assert pooled.compute().isinf()


def test_the_objective_is_the_mean_squared_error_of_the_images_alone():
    task, names = make_task(*SMALL).eval(), ["a", "b"]
    with torch.inference_mode():
        for name, size in zip(names, (32, 48), strict=True):
            batch = {"image": picture(size, size), "origin": ORIGIN, "set": ["photo"], "name": [name]}
            task.evaluate("val", batch)
        gray = {"image": torch.full((1, 3, 32, 32), 0.3), "origin": ORIGIN, "level": torch.full((1, 3), 0.65)}
        task.evaluate("val", gray | {"set": ["tone"], "name": ["gray"]})
        task.evaluate("val", gray | {"set": ["spectrum"], "name": ["gray"]})
        errors = [float((task.render(picture(n, n)) - picture(n, n)).square().mean()) for n in (32, 48)]
        assert list(task.image_figures("val")) == ["photo", "tone"]
        figures = task.figures("val")
    assert float(figures["objective"]) == pytest.approx(np.mean(errors), rel=1e-5)
    assert {"psnr", "flat_psnr"} <= set(figures)
    assert task.image_figures("val") == {}


def test_the_loss_terms_by_their_weights():
    task, batch = make_task(*SMALL, "task.l1_weight=0.5"), {"image": picture(1), "origin": ORIGIN}
    with torch.no_grad():
        error = task(batch["image"], ORIGIN) - batch["image"]
        terms = task.losses(batch)
    assert task.weights == {"reconstruction": 1, "l1": 0.5}
    assert float(terms["reconstruction"]) == pytest.approx(float(error.square().mean()), rel=1e-5)
    assert float(terms["l1"]) == pytest.approx(float(error.abs().mean()), rel=1e-5)
    assert set(make_task(*SMALL).losses(batch)) == {"reconstruction"}


def learn(nib, steps=100):
    """Train a small network; return the error of an image it has not seen, before and after."""
    task, unseen = make_task(*SMALL, f"nib={nib}"), picture(99)
    optimizer = torch.optim.Adam(task.parameters(), 5e-3)
    generator, errors = torch.Generator().manual_seed(0), []
    for step in range(steps + 1):
        if step in (0, steps):
            with torch.inference_mode():
                errors.append(float((task.eval().render(unseen) - unseen).square().mean()))
            task.train()
        batch = torch.cat([picture(2 * step, 32), picture(2 * step + 1, 32)])
        origin = torch.randint(0, 2**20, (2, 2), generator=generator)
        optimizer.zero_grad()
        task.losses({"image": batch, "origin": origin})["reconstruction"].backward()
        optimizer.step()
    return errors


def test_a_network_learns_to_give_the_image_back_and_noise_that_stays_costs():
    (before, plain), (_, noisy) = learn("none"), learn("additive")
    assert plain < before / 20
    assert noisy > 2 * plain


@pytest.mark.parametrize("training", [True, False])
def test_pictures_of_a_reconstruction(training):
    task, image = make_task(*SMALL, "nib=additive").train(training), picture(3, 40)[0]
    (_, first), (_, noisy), (_, output), (caption, error) = cells = task.pictures(image)
    assert [name for name, _ in cells] == ["input", "input + noise", "reconstruction", "error, 0 to 0.1 of white"]
    assert task.training == task.backbone.training == training
    assert not any(cell.requires_grad for _, cell in cells)
    noise = make_noise("stationary", "normal", 0.3, 0)(1, 3, 40, 40, ORIGIN)[0]
    torch.testing.assert_close(noisy, (image + noise).clamp(-1, 1))
    with torch.no_grad():
        expected = task.eval().render(image[None])[0]
    assert torch.equal(first, image)
    assert torch.equal(output, expected)
    mean_error = np.abs(unit(expected[None]) - unit(image[None])).mean(axis=-1)
    colors = colormaps["inferno"](np.clip(mean_error / 0.1, 0, 1))[..., :3] * 2 - 1
    assert np.abs(error.permute(1, 2, 0).numpy() - colors).max() < 0.05  # a colour further where rounding decides
    assert "0.1" in caption
    assert [name for name, _ in make_task(*SMALL).pictures(image)] == ["input", "reconstruction", cells[-1][0]]


def test_pictures_of_a_halftone():
    task = make("task", load_config(["task=halftoning", "backbone.width=2", "backbone.blocks=1"]).task)
    image = picture(3, 40)[0, :1]
    cells = task.pictures(image)
    assert [name for name, _ in cells] == ["input", "halftone", "halftone, filtered (sigma 2)"]
    assert torch.equal(cells[0][1], image)
    assert set(cells[1][1].unique().tolist()) <= {-1.0, 1.0}
    torch.testing.assert_close(cells[2][1], gaussian_filter(cells[1][1], 2.0))
    assert task.training


def test_the_error_map_has_a_fixed_scale():
    weak, strong = error_map(torch.full((2, 2), 0.02), 0.1), error_map(torch.full((2, 2), 0.08), 0.1)
    assert strong.mean() > weak.mean()  # of constant planes, which a stretched one would show alike
    assert torch.equal(error_map(torch.full((2, 2), 0.1), 0.1), error_map(torch.full((2, 2), 0.9), 0.1))
    assert weak.shape == (3, 2, 2)
    assert float(error_map(torch.zeros(1, 1), 0.1).max()) < -0.9


def test_the_task_chooses_its_network_unless_another_is_given(tmp_path):
    assert load_config(["task=autoencoder"]).task.backbone.name == "autoencoder"
    assert load_config(["task=autoencoder"]).data.channels == 3
    assert load_config(["task=autoencoder", "backbone.latent=7"]).task.backbone.latent == 7
    for order in (["task=autoencoder", "backbone=unet"], ["backbone=unet", "task=autoencoder"]):
        assert load_config(order).task.backbone.name == "unet"
    assert load_config(["task=halftoning"]).backbone.name == "resnet"
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /task: autoencoder\n  - override /backbone: unet\n"
        "task:\n  l1_weight: 0.25\n"
    )
    config = load_config(["experiment=mine"], str(tmp_path))
    assert (config.task.backbone.name, config.task.l1_weight) == ("unet", 0.25)
    assert load_config(["experiment=mine", "backbone=resnet"], str(tmp_path)).backbone.name == "resnet"


def test_another_network_with_colours_serves(images):
    options = ["backbone=unet", "backbone.in_channels=3", "backbone.out_channels=3", "backbone.width=2"]
    assert make_task(*options).render(picture(0, 21)).shape == (1, 3, 21, 21)
    with pytest.raises(UserError, match=r"set backbone\.out_channels=3"):
        make_task(*options, "backbone.out_channels=1")
    with pytest.raises(UserError, match=r"task\.\*_weight"):
        make_task(*SMALL, "task.reconstruction_weight=0")


def test_a_run_with_all_callbacks_is_tested_resumed_and_used(images):
    options = [*TINY, "task=autoencoder", "nib=additive", f"data.root={images}", "run_dir=run"]
    train(options)
    run = Path("run")
    figures = json.loads((run / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert set(figures) == {"test/psnr", "test/psnr_pooled", "test/ssim", "test/flat_psnr"}
    assert json.loads((run / "images.json").read_text())["photo"]
    log = (run / "run.log").read_text()
    assert "flat_psnr" in log
    assert "Floyd-Steinberg" not in log
    assert {p.name for p in (run / "samples").iterdir()} == {"step_000002.png", "flatness.png"}
    # four columns of the 256 pixels of comic page, ramp and grays
    assert Image.open(run / "samples" / "step_000002.png").width == 4 * (256 + 12) + 12
    last, best = (f"ckpt_path=run/checkpoints/{name}.ckpt" for name in ("last", "best"))
    train([*options, "trainer.max_steps=4", last])
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 4
    resumed = json.loads((run / "metrics.json").read_text())
    train([*TINY, "task=autoencoder", f"data.root={images}", "mode=test", best, "run_dir=tested"])
    assert json.loads(Path("tested/metrics.json").read_text()) == resumed
    train(["task=autoencoder", "mode=predict", f"input={images}", "output=out", best, "trainer.accelerator=cpu"])
    with Image.open("out/sub/e.png") as made, Image.open(images / "sub" / "e.png") as source:
        assert (made.size, made.mode) == (source.size, "RGB")
