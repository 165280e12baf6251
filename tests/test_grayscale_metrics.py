"""Figures of invertible grayscale against numpy, scikit-image and plain loops."""

import numpy as np
import pytest
import torch
from conftest import draw
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from callbacks.report import Report
from nibkit.config import load_config
from nibkit.data.sets import ConstantColours
from nibkit.make import make
from nibkit.metrics import GrayscaleMetrics
from nibkit.quantize import to_8_bit

RECONSTRUCTION = {"psnr", "psnr_pooled", "ssim", "gray_psnr", "gray_ssim"}
FLAT = {"flat_error", "flat_error_worst", "flat_gray_std"}


def noisy(image, strength, seed):
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    return (image + strength * noise).clamp(-1, 1)


def cases():
    """Return three images ``[1, 3, 48, 48]`` and what was made of them, the error of each stronger than before."""
    made = []
    for i in range(3):
        image = torch.from_numpy(draw(i, 48, 48, 3)).permute(2, 0, 1)[None] / 127.5 - 1
        gray = to_8_bit(noisy(image.mean(dim=1, keepdim=True), 0.05 * (i + 1), i))
        outputs = {"gray": gray, "restored": noisy(image, 0.02 * (i + 1), 10 + i), "rotated": noisy(image, 0.3, 20 + i)}
        made.append((outputs, image))
    return made


def unit(image):
    """Return one image as ``[H, W, C]`` in [0, 1]."""
    return ((image[0] + 1) / 2).permute(1, 2, 0).double().numpy()


def luma(image):
    return unit(image) @ np.array([[0.299], [0.587], [0.114]])


def similarity(output, target):
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    # over the whole image: skimage's own mean leaves the border out
    return structural_similarity(output, target, channel_axis=-1, full=True, **window)[1].mean()


def flat_cases():
    """Return constant colours ``[5, 3, 16, 16]`` and what was made of them."""
    colours = torch.stack([ConstantColours([(51 * i, 255 - 51 * i, 102)], 16)[0]["image"] for i in range(5)])
    errors = torch.tensor([1.0, 2, 9, 0, 4])[:, None, None, None] * 2 / 255
    signs = torch.tensor([[1.0, -1], [-1, 1]]).repeat(8, 8)
    gray = torch.zeros(5, 1, 16, 16) + signs * torch.tensor([0.0, 1, 2, 3, 0])[:, None, None, None] * 2 / 255
    return {"gray": gray, "restored": colours + errors * signs}, colours


def share(outputs, image, part):
    return {name: output[part] for name, output in outputs.items()}, image[part]


@pytest.mark.parametrize("names", ["one image at a time", "nameless"])
def test_figures_of_images_are_those_of_skimage(names):
    suite = GrayscaleMetrics(("rotated",))
    for i, (outputs, image) in enumerate(cases()):
        suite.update("photo", outputs, image, [f"image {i}"] if names != "nameless" else ())
    figures = {name: float(value) for name, value in suite.compute().items()}
    truth = [unit(image) for _, image in cases()]
    made = {name: [unit(outputs[name]) for outputs, _ in cases()] for name in ("gray", "restored", "rotated")}
    psnr = {name: [peak_signal_noise_ratio(x, y, data_range=1) for x, y in zip(truth, made[name], strict=True)]
            for name in ("restored", "rotated")}  # fmt: skip
    lumas = [luma(image) for _, image in cases()]
    expected = {
        "psnr": np.mean(psnr["restored"]),
        "psnr_pooled": peak_signal_noise_ratio(np.stack(truth), np.stack(made["restored"]), data_range=1),
        "ssim": np.mean([similarity(y, x) for x, y in zip(truth, made["restored"], strict=True)]),
        "gray_psnr": np.mean([peak_signal_noise_ratio(x, y, data_range=1)
                              for x, y in zip(lumas, made["gray"], strict=True)]),
        "gray_ssim": np.mean([similarity(y, x) for x, y in zip(lumas, made["gray"], strict=True)]),
        "rotated_psnr": np.mean(psnr["rotated"]),
    }  # fmt: skip
    assert figures == pytest.approx(expected, abs=2e-3)
    assert len({round(value, 3) for value in expected.values()}) == 6  # each tells something of its own
    each = suite.per_image()
    if names == "nameless":
        assert each == {}
    else:
        assert [image["psnr"] for image in each["photo"].values()] == pytest.approx(psnr["restored"], abs=1e-3)
        assert [image["rotated_psnr"] for image in each["photo"].values()] == pytest.approx(psnr["rotated"], abs=1e-3)


@pytest.mark.parametrize("parts", [[slice(0, 5)], [slice(0, 2), slice(2, 5)], [slice(i, i + 1) for i in range(5)]])
def test_figures_of_constant_colours_are_those_of_loops(parts):
    outputs, colours = flat_cases()
    suite = GrayscaleMetrics(("rotated",))  # constant colours are not attacked
    for part in parts:
        suite.update("colour", *share(outputs, colours, part), ["name"] if len(parts) == 5 else ())
    to_levels = [np.asarray((x.double() + 1) * 127.5) for x in (outputs["restored"], colours, outputs["gray"])]
    errors, deviations = [], []
    for restored, colour, gray in zip(*to_levels, strict=True):
        errors.append(np.mean([abs(a - b) for a, b in zip(restored.flat, colour.flat, strict=True)]))
        deviations.append(np.sqrt(np.mean([(g - gray.mean()) ** 2 for g in gray.flat])))
    figures = {name: float(value) for name, value in suite.compute().items()}
    assert errors == pytest.approx([1, 2, 9, 0, 4], abs=1e-4)
    expected = {"flat_error": np.mean(errors), "flat_error_worst": max(errors), "flat_gray_std": np.mean(deviations)}
    assert figures == pytest.approx(expected, abs=1e-4)


def test_a_gray_without_texture_has_no_deviation():
    outputs, colours = flat_cases()
    suite = GrayscaleMetrics()
    suite.update("colour", {"gray": to_8_bit(colours[:, :1]), "restored": outputs["restored"]}, colours)
    assert suite.compute()["flat_gray_std"] == 0


def test_names_of_figures():
    (outputs, image), (flat, colours) = cases()[0], flat_cases()
    suite, attacked = GrayscaleMetrics(), GrayscaleMetrics(("rotated",))
    for metrics in (suite, attacked):
        for set_name in ("photo", "comic", "tone", "spectrum"):
            metrics.update(set_name, outputs, image)
        metrics.update("colour", flat, colours)
    plain = RECONSTRUCTION | {f"comic/{name}" for name in RECONSTRUCTION} | FLAT
    assert set(suite.compute()) == plain
    assert set(attacked.compute()) == plain | {"rotated_psnr", "comic/rotated_psnr"}


def test_the_metrics_start_anew():
    (first, image), *_, (last, other) = cases()
    suite = GrayscaleMetrics()
    suite.update("photo", first, image)
    suite.reset()
    assert suite.compute() == {}
    suite.update("photo", last, other)
    assert float(suite.compute()["psnr"]) == pytest.approx(
        peak_signal_noise_ratio(unit(other), unit(last["restored"]), data_range=1), abs=1e-3
    )
    # a metric of its own, too
    metric = suite.metrics["photo"]["gray_ssim"]
    metric.reset()
    metric.update(first, image)
    assert float(metric.compute()) == pytest.approx(similarity(unit(first["gray"]), luma(image)), abs=2e-3)


def test_the_luminance_is_that_of_pillow():
    # its "L" is the same sum, rounded: at most half a level away, 54 dB
    _, image = cases()[0]
    pixels = ((image[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    gray = torch.from_numpy(np.array(Image.fromarray(pixels).convert("L")))[None, None] / 127.5 - 1
    suite = GrayscaleMetrics()
    suite.update("photo", {"gray": gray, "restored": image}, image)
    assert suite.compute()["gray_psnr"] > 54
    assert suite.compute()["psnr"] == 100


@pytest.mark.parametrize("task", ["autoencoder", "halftoning", "dithering"])
def test_other_tasks_leave_constant_colours_out(task):
    options = ["backbone.width=2", "backbone.in_channels=3", *(["backbone.latent=4"] if task == "autoencoder" else [])]
    judge = make("task", load_config([f"task={task}", *options]).task).eval()
    sample = ConstantColours([(255, 0, 51)], 32)[0]
    batch = {name: value[None] if isinstance(value, torch.Tensor) else [value] for name, value in sample.items()}
    report = Report("run")
    with torch.inference_mode():
        for stage in ("val", "test"):
            judge.evaluate(stage, batch)
            assert judge.metrics[stage].compute() == {}
            # the same square is judged in any other set
            judge.evaluate(stage, batch | {"set": ["tone"]})
            assert judge.metrics[stage].compute()
    report.on_test_batch_end(None, judge, None, batch)
    assert all(suite.compute() == {} for suite in report.suites.values())
    report.on_test_batch_end(None, judge, None, batch | {"set": ["tone"]})
    assert all(suite.compute() for suite in report.suites.values())
