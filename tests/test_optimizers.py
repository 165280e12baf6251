"""Optimizers as configs name them: fused where torch has it, and never against what a user chose."""

import pytest
import torch
from torch import nn

from nibkit.config import load_config
from nibkit.errors import UserError
from nibkit.make import make
from nibkit.optimizers import make_optimizer

FUSED = ("Adam", "AdamW", "SGD", "Adagrad")


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(4, 3, generator=generator)) for _ in range(3)]


@pytest.mark.parametrize("name", FUSED)
def test_a_fused_step_is_the_plain_one(name):
    ours, plain = weights(), weights()
    optimizers = [
        make_optimizer({"_target_": f"torch.optim.{name}", "lr": 0.01}, ours),
        getattr(torch.optim, name)(plain, lr=0.01, foreach=False),
    ]
    assert optimizers[0].defaults["fused"]
    for step in range(5):
        for group, optimizer in zip((ours, plain), optimizers, strict=True):
            for number, weight in enumerate(group):
                weight.grad = torch.full_like(weight, 0.1 * (step + number)).sin()
            optimizer.step()
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("form", [{"foreach": True}, {"fused": False}, {"differentiable": True}], ids=str)
def test_a_form_that_is_chosen_stays(form):
    optimizer = make_optimizer({"_target_": "torch.optim.Adam", **form}, weights())
    assert not optimizer.defaults["fused"]
    assert all(optimizer.defaults[key] == value for key, value in form.items())


def test_an_optimizer_without_a_fused_form_is_made_as_it_is():
    optimizer = make_optimizer({"_target_": "torch.optim.RMSprop", "lr": 0.5}, weights())
    assert optimizer.defaults["lr"] == 0.5


def test_weights_elsewhere_are_left_to_torch():
    optimizer = make_optimizer({"_target_": "torch.optim.Adam"}, [nn.Parameter(torch.zeros(2, device="meta"))])
    assert not optimizer.defaults["fused"]


def test_clipping_sees_gradients_free_of_the_loss_scale():
    """Lightning refuses to clip for an optimizer that says it takes the scale off by itself."""
    assert not make_optimizer({"_target_": "torch.optim.Adam"}, weights())._step_supports_amp_scaling


@pytest.mark.parametrize("target", ["torch.optim.Addam", "adam", "torch.optim"])
def test_an_unknown_optimizer_is_one_sentence(target):
    config = load_config(["task=dithering", f"task.optimizer._target_={target}"])
    with pytest.raises(UserError):
        make("task", config.task)
