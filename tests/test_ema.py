"""The moving average of the generator: what is averaged, when it stands in, and what checkpoints hold."""

import copy

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from callbacks.ema import GeneratorEMA
from nibkit.checkpoint import AVERAGE, use_average
from nibkit.errors import UserError


class Toy(pl.LightningModule):
    """A generator with a buffer, a discriminator, and weights that a test moves by hand."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.discriminator = nn.Linear(2, 1)


class Steps:
    """As much of a trainer as the callback asks for."""

    global_step = 0


def moved(module, value):
    with torch.no_grad():
        for weight in module.parameters():
            weight.fill_(value)
        module.backbone[1].running_mean.fill_(value)
        module.backbone[1].num_batches_tracked.fill_(int(value))


def averaged(decay, values):
    """Return the callback and the module after steps with these values of all weights."""
    module, trainer, ema = Toy(), Steps(), GeneratorEMA(decay)
    moved(module, values[0])
    ema.on_fit_start(trainer, module)
    for step, value in enumerate(values[1:], start=1):
        moved(module, value)
        trainer.global_step = step
        ema.on_train_batch_end(trainer, module)
    return ema, module, trainer


def test_the_average_is_the_formula_step_by_step():
    values = [1.0, 4.0, 2.0, 8.0]
    ema, _, _ = averaged(0.75, values)
    expected = values[0]
    for value in values[1:]:
        expected = 0.75 * expected + 0.25 * value
    assert float(ema.average["0.weight"][0, 0]) == pytest.approx(expected)
    assert float(ema.average["1.running_mean"][0]) == pytest.approx(expected)
    assert int(ema.average["1.num_batches_tracked"]) == 8


def test_batches_of_one_step_count_once():
    ema, module, trainer = averaged(0.5, [0.0, 1.0])
    ema.on_train_batch_end(trainer, module)
    assert float(ema.average["0.weight"][0, 0]) == 0.5


def test_only_the_generator_is_averaged():
    ema, module, _ = averaged(0.5, [0.0, 1.0])
    assert set(ema.average) == set(module.backbone.state_dict())


@pytest.mark.parametrize("stage", ["validation", "test"])
def test_the_average_stands_in_for_a_while(stage):
    ema, module, trainer = averaged(0.5, [0.0, 1.0])
    before = copy.deepcopy(module.state_dict())
    getattr(ema, f"on_{stage}_start")(trainer, module)
    assert float(module.backbone[0].weight[0, 0].detach()) == 0.5
    assert float(module.discriminator.weight[0, 0].detach()) == 1.0
    getattr(ema, f"on_{stage}_end")(trainer, module)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_checkpoints_hold_the_average_beside_the_weights_and_its_user_takes_it():
    ema, module, trainer = averaged(0.5, [0.0, 1.0])
    checkpoint = {"state_dict": module.state_dict()}
    ema.on_save_checkpoint(trainer, module, checkpoint)
    assert float(checkpoint["state_dict"]["backbone.0.weight"][0, 0]) == 1.0
    resumed = GeneratorEMA(0.5)
    resumed.on_load_checkpoint(trainer, module, checkpoint)
    resumed.on_fit_start(trainer, module)
    assert all(torch.equal(value, ema.average[name]) for name, value in resumed.average.items())
    use_average(checkpoint)
    assert float(checkpoint["state_dict"]["backbone.0.weight"][0, 0]) == 0.5
    assert float(checkpoint["state_dict"]["discriminator.weight"][0, 0]) == 1.0
    assert checkpoint[AVERAGE]


def test_an_impossible_decay_is_refused():
    with pytest.raises(UserError, match=r"callbacks\.ema\.decay=1"):
        GeneratorEMA(1)
