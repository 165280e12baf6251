"""What the tasks do with a batch, beside what whole runs show."""

import pytest
import torch
from omegaconf import OmegaConf

from nibkit.config import load_config
from nibkit.make import make
from nibkit.metrics.flat import FlatStd
from nibkit.registry import backbone_names

NETWORKS = [name for name in backbone_names(tileable=True) if name != "invertible_grayscale"]  # that makes no halftones


def make_task(*options):
    torch.manual_seed(1)  # a network this narrow may be dead by chance
    return make("task", load_config(["task=dithering", "backbone.width=2", *options]).task).eval()


def make_gray_task(name):
    """Return a halftoning task whose network, of this name, has zero padding and no NIB."""
    config = load_config(["task=dithering", "nib=none"])
    OmegaConf.set_struct(config, False)
    config.task.backbone = {"name": name, "in_channels": 1, "out_channels": 1, "width": 2, "padding": "zeros"}
    torch.manual_seed(1)
    return make("task", config.task).eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_flat_figures_are_taken_beyond_the_reach_of_zero_padding(name):
    task = make_gray_task(name)
    image, origin = torch.full((1, 1, 24, 40), -0.2), torch.zeros(1, 2, dtype=torch.int64)
    with torch.inference_mode():
        leaked = task(image, origin)[..., ::4, ::4]  # one phase: the autoencoder's answer to a constant has period 4
        # so that the border's leak crosses the threshold
        task.backbone.register_forward_hook(lambda _module, _arguments, answer: answer - leaked.mean())
        assert task.render(image, origin)[..., ::4, ::4].std() > 0
        flat = task.render_flat(image, origin)
    assert flat.shape == image.shape
    assert all(flat[..., y::4, x::4].std() == 0 for y in range(4) for x in range(4))


def test_flats_are_trained_at_other_places_of_the_field_than_the_images():
    task = make_task()
    seen = []
    task.backbone.register_forward_pre_hook(lambda _, arguments: seen.append(arguments))
    batch = {"image": torch.rand(3, 1, 32, 32), "origin": torch.randint(0, 999, (3, 2)), "level": torch.rand(3, 1)}
    terms = task.losses(batch)
    ((images, origins),) = seen
    assert images.shape[0] == 6
    assert torch.equal(images[:3], batch["image"])
    assert torch.allclose(images[3:], (2 * batch["level"] - 1)[..., None, None].expand(3, 1, 32, 32))
    assert not torch.equal(origins[:3], origins[3:])
    assert set(terms) == set(task.weights) == {"tone", "structure", "flat_tone", "flat_blue_noise"}


def test_objective_is_the_weighted_sum_on_binary_halftones():
    task = make_task("task.structure_weight=0.5")
    gray = torch.rand(1, 1, 40, 40) * 2 - 1
    origin = torch.zeros(1, 2, dtype=torch.int64)
    flat = torch.full((2, 1, 40, 40), 0.3)
    with torch.inference_mode():
        task.evaluate("val", {"image": gray, "origin": origin, "set": ["photo"]})
        task.evaluate(
            "val",
            {"image": flat, "origin": origin.expand(2, 2), "set": ["tone"] * 2, "level": torch.full((2, 1), 0.65)},
        )
        figures = task.figures("val")
        halftone, dots = task.render(gray), task.render(flat)
    assert set(halftone.unique().tolist()) <= {-1.0, 1.0}
    image_part = task.image_terms["tone"](halftone, gray) + 0.5 * task.image_terms["structure"](halftone, gray)
    flat_part = task.flat_terms["flat_tone"](dots, flat) + 0.1 * task.flat_terms["flat_blue_noise"](dots, flat)
    assert figures["objective"] == pytest.approx(float(image_part + flat_part), rel=1e-5)
    metric = FlatStd()
    metric.update(dots, torch.full((2,), 0.65))
    assert figures["flat_std"] == metric.compute()


def test_colour_input_is_judged_by_its_luminance():
    task = make_task("backbone.in_channels=3", "data.channels=3")
    image = torch.rand(1, 3, 24, 24) * 2 - 1
    assert task.render(image).shape == (1, 1, 24, 24)
    batch = {"image": image, "origin": torch.zeros(1, 2, dtype=torch.int64), "level": torch.rand(1, 3)}
    assert all(term.isfinite() for term in task.losses(batch).values())
