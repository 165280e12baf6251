"""The stock steps compute what ours compute, so that the comparison is honest; and the benchmarks' own plumbing."""

import importlib
import importlib.util
import json
import sys

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from benchmarks import __main__ as command
from benchmarks.cases import CASES, case_config
from benchmarks.figures import Figure
from benchmarks.stock.halftone_losses import blue_noise, structure, tone
from benchmarks.stock.steps import make_stock
from benchmarks.training import alternate
from nibkit.losses import BlueNoise, Structure, Tone
from nibkit.make import make, make_trainer
from nibkit.nib import NIB

FIELD = 0.3 * torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(1))
GAMES = ["data.size=[64,64]", "data.batch_size=2", "backbone.width=2", "discriminator.width=4"]
SMALL = {
    "SPADE": [*GAMES, "backbone.hidden=4"],
    "Pix2Pix": [*GAMES, "backbone.dropout=0"],
    "segmentation": ["data.size=[64,64]", "data.batch_size=2"],
}
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)


def fixed_noise(batch, channels, height, width, origin=None):
    """The same noise on both sides."""
    return FIELD[..., :height, :width].expand(batch, channels, -1, -1)


def share_noise(ours, stock):
    for module in ours.modules():
        if isinstance(module, NIB):
            module.noise = fixed_noise
    for module in stock.modules():
        if hasattr(module, "noise"):
            module.noise = lambda image: fixed_noise(1, 1, *image.shape[-2:])


def copy_weights(ours, stock):
    """Copy layer by layer, in their order; one fused convolution is two stock ones."""
    targets = iter(layer for layer in stock.modules() if isinstance(layer, LAYERS))
    for layer in (layer for layer in ours.modules() if isinstance(layer, LAYERS)):
        if layer.weight is not None:
            copy_layer(layer, targets)
        else:
            next(targets)
    assert not list(targets)
    count = [sum(weight.numel() for weight in network.parameters()) for network in (ours, stock)]
    assert count[0] == count[1]


@torch.no_grad()
def copy_layer(layer, targets):
    target = next(targets)
    if hasattr(layer, "parametrizations"):
        target.parametrizations.load_state_dict(layer.parametrizations.state_dict())
        parts = [target]
    else:
        axis = 0 if layer.weight.shape[1:] == target.weight.shape[1:] else 1
        parts = [target] if layer.weight.shape == target.weight.shape else [target, next(targets)]
        weights = layer.weight.split([part.weight.shape[axis] for part in parts], dim=axis)
        for part, weight in zip(parts, weights, strict=True):
            part.weight.copy_(weight)
    for part, bias in zip(parts, () if layer.bias is None else layer.bias.split(len(target.bias)), strict=False):
        part.bias.copy_(bias)


def terms_of_our_step(config, task, batch):
    """The weighted terms of a step by Lightning's trainer."""
    trainer = make_trainer(config, task)
    trainer.fit(task, train_dataloaders=DataLoader([batch], batch_size=None))
    logged = {name.removeprefix("train/"): value for name, value in trainer.callback_metrics.items()}
    terms = {name: task.weights[name] * logged[name] for name in task.weights}
    return terms | {name: logged[name] for name in ("discriminator",) if name in logged}


def values(terms):
    return {name: float(term.detach()) for name, term in terms.items()}


@pytest.mark.parametrize("name", CASES)
def test_stock_and_ours_have_the_same_losses(name, tmp_path, monkeypatch):
    quiet = ["trainer.max_steps=1", "trainer.log_every_n_steps=1", "trainer.limit_val_batches=0", "logger=none"]
    quiet += ["trainer.accelerator=cpu", *(f"callbacks.{each}=null" for each in ("best", "last", "progress", "report"))]
    config = case_config(name, *quiet, *SMALL.get(name, []), folder=tmp_path / "run")
    monkeypatch.setattr("nibkit.estimators.uniform_like", lambda p: torch.full_like(p, 0.4))
    monkeypatch.setattr("benchmarks.stock.steps.draw_pixels", lambda p: torch.where(p > 0.4, 1.0, -1.0))
    torch.manual_seed(0)
    task, data = make("task", config.task), make("data", config.data)
    data.prepare()
    batch = next(iter(data.train_dataloader()))
    stock, step = make_stock(config)
    for part, network in stock.items():
        ours = getattr(task, part, None) or getattr(task.backbone, part)
        copy_weights(ours, network)
        share_noise(ours, network)
    ours, theirs = terms_of_our_step(config, task, batch), step(batch)
    assert ours.keys() == theirs.keys()
    assert values(theirs) == pytest.approx(values(ours), rel=1e-4)


@pytest.mark.parametrize(
    ("ours", "stock"),
    [(Tone(1.5), tone(1.5)), (Structure(True), structure(True)), (Structure(), structure(False)),
     (BlueNoise(), blue_noise())],
)  # fmt: skip
def test_stock_gains_are_ours(ours, stock):
    torch.manual_seed(0)
    halftone = torch.randint(0, 2, (2, 1, 48, 40)) * 2.0 - 1
    gray = torch.rand(2, 1, 48, 40) * 1.6 - 0.8
    torch.testing.assert_close(stock.loss(halftone, gray), ours(halftone, gray), rtol=1e-4, atol=1e-6)
    gain = ours.flip_gain(halftone, gray)
    assert (stock.gain(halftone, gray) - gain).norm() < 1e-4 * gain.norm()


def test_a_run_alternates_with_others():
    calls = []
    small = ["backbone.width=2", "backbone.blocks=1", "data.crop_size=32", "logger=none", "trainer.accelerator=cpu"]
    times = alternate("halftoning", small, lambda *_: {"other": lambda: calls.append(1)}, 3, 0.0, record=True)
    assert times.keys() == {"ours", "other", "convolutions"}
    assert {len(values) for values in times.values()} == {3}
    assert min(times["ours"]) > 0
    assert len(calls) == 2 + 3


@pytest.mark.parametrize("name", command.NAMES)
def test_every_benchmark_measures(name):
    if importlib.util.find_spec(f"benchmarks.{name}") is None:
        pytest.skip("not there yet")
    assert callable(importlib.import_module(f"benchmarks.{name}").measure)


def test_a_figure_is_held_against_its_goal():
    fast = Figure("speed", [1.9, 2.1, 2.2], goal=2.0, note="12 ms")
    assert fast.median == 2.1
    assert fast.reached
    assert "not reached" not in fast.row()
    assert fast.row().endswith("12 ms")
    slow = Figure("memory", [700.0], "MiB", goal=600.0, better="low")
    assert slow.reached is False
    assert "goal <= 600  not reached" in slow.row()
    assert slow.record()["median"] == 700
    assert Figure("free", [1.0]).reached is None
    json.dumps(fast.record())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["steps"], "unknown benchmark 'steps'; choose from: step, shares"),
     (["start", "--json", "missing/figures.json"], "the folder does not exist")],
)  # fmt: skip
def test_bad_arguments_end_with_2(arguments, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    with pytest.raises(SystemExit) as error:
        command.main()
    assert error.value.code == 2
    assert said in capsys.readouterr().err
