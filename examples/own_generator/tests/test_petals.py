"""The generator goes flat without NIB and not with it; the loss's flip gain is exact; the task reloads."""

import torch
from petals import Clumps, PetalsTask

from nibkit.config import load_config
from nibkit.make import make
from nibkit.registry import build_backbone


def test_nib_breaks_the_flat_answer():
    gray = torch.full((1, 1, 24, 30), 0.2)
    flat = build_backbone({"name": "petals"}, {"form": "none"})(gray)
    dotted = build_backbone({"name": "petals"}, {"form": "symmetric"})(gray)
    assert flat.shape == dotted.shape == gray.shape
    assert flat.std() < 1e-6 < 1e-3 < dotted.std()


def test_the_margin_is_the_reach():
    network = build_backbone({"name": "petals"}, {"form": "symmetric"}).double().eval()
    image = torch.rand(1, 1, 40, 40, dtype=torch.float64, requires_grad=True)
    network(image)[0, 0, 20, 20].backward()
    rows = image.grad[0, 0].abs().sum(dim=1).nonzero().flatten()
    assert (rows.min(), rows.max()) == (20 - network.margin, 20 + network.margin)


def test_flip_gain_is_exact():
    gray, clumps = torch.rand(1, 1, 5, 6) * 2 - 1, Clumps()
    halftone = torch.where(torch.rand_like(gray) < 0.5, -1.0, 1.0)
    gain = clumps.flip_gain(halftone, gray)
    for place in ((0, 0, 0, 0), (0, 0, 2, 3), (0, 0, 4, 5)):
        black, white = halftone.clone(), halftone.clone()
        black[place], white[place] = -1, 1
        torch.testing.assert_close(gain[place], clumps(white, gray) - clumps(black, gray))


def test_the_task_is_found_by_name_and_keeps_its_option():
    config = load_config(["task=petals", "task.clumps_weight=0.5", "backbone.width=4"])
    task = make("task", config.task)
    assert isinstance(task, PetalsTask)
    assert (task.weights["clumps"], task.weights["flat_clumps"]) == (0.5, 0.5)
    assert PetalsTask(**task.hparams).weights == task.weights
