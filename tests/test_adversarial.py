"""Two networks that learn against each other, under a real trainer, against plain loops of PyTorch."""

import copy
import math

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn
from torch.nn import functional as F

from callbacks.ema import GeneratorEMA
from nibkit import registry
from nibkit.checkpoint import AVERAGE
from nibkit.config import load_config
from nibkit.errors import UserError
from nibkit.losses import feature_matching_loss
from nibkit.make import make, make_trainer
from nibkit.registry import discriminator_names, register_discriminator
from tasks.adversarial import AdversarialTask

SIDE = 16
GENERATOR = {"_target_": "torch.optim.Adam", "lr": 2e-3, "betas": [0.5, 0.999]}
DISCRIMINATOR = {"_target_": "torch.optim.Adam", "lr": 1e-3, "betas": [0.5, 0.999]}
CONSTANT = {"name": "constant"}
SPECS = {
    "plain": {"name": "plain"},
    "patchgan": {"name": "patchgan", "width": 2, "layers": 2},
    "multiscale": {"name": "multiscale", "width": 2, "layers": 2, "scales": 1},
}


class Toy(AdversarialTask):
    """Colours from gray, by a ResNet with noise."""

    def configure_losses(self):
        self.weights = {"adversarial": self.hparams["adversarial_weight"], "l1": 10.0}
        self.matches = False

    @property
    def compares_features(self):
        return self.matches

    def generate(self, batch):
        return self.backbone(batch["gray"], batch["origin"]).tanh()

    def judged(self, batch, image):
        return torch.cat((batch["gray"], image), dim=1)

    def generator_terms(self, batch, fake, judged, real):
        terms = {"l1": F.l1_loss(fake, batch["image"])}
        if real is not None:
            terms["feature_matching"] = feature_matching_loss(judged, real)
        return terms

    def evaluate(self, stage, batch):
        self.seen = self.generate(batch)

    def figures(self, stage):
        return {"mean": self.seen.mean()} | ({"objective": self.seen.abs().mean()} if stage == "val" else {})


class Plain(nn.Module):
    """A discriminator without norms: what it makes of an image depends on no other image of the batch."""

    def __init__(self, in_channels):
        super().__init__()
        self.parts = nn.ModuleList([nn.Conv2d(in_channels, 3, 4, 2, 1), nn.Conv2d(3, 1, 3)])

    def forward(self, x):
        first = F.leaky_relu(self.parts[0](x), 0.2)
        return [[first, self.parts[1](first)]]


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    discriminator_names()  # nibkit's own register when first asked for
    monkeypatch.setattr(registry._DISCRIMINATORS, "classes", dict(registry._DISCRIMINATORS.classes))
    register_discriminator("plain")(Plain)


def make_toy(discriminator="plain", schedule=CONSTANT, **options):
    """Return a task of fixed first weights."""
    torch.manual_seed(0)
    given = {"optimizer": GENERATOR, "discriminator_optimizer": DISCRIMINATOR} | options
    backbone = {"name": "resnet", "in_channels": 1, "out_channels": 3, "width": 3, "blocks": 1, "padding": "zeros"}
    nib, discriminator = {"form": "symmetric", "scale": 1.0}, SPECS.get(discriminator, {"name": discriminator})
    return Toy(backbone, nib, schedule=schedule, discriminator=discriminator, **given)


def make_batches(number, size=2, seed=0):
    noise = torch.Generator().manual_seed(seed)
    return [
        {
            "gray": torch.rand(size, 1, SIDE, SIDE, generator=noise) * 2 - 1,
            "image": torch.rand(size, 3, SIDE, SIDE, generator=noise) * 2 - 1,
            "origin": torch.randint(0, 999, (size, 2), generator=noise),
        }
        for _ in range(number)
    ]


def loader(batches):
    return torch.utils.data.DataLoader(batches, batch_size=None)


def make_plain_trainer(**options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    epochs = {} if "max_epochs" in options else {"max_epochs": -1}
    return pl.Trainer(accelerator="cpu", enable_model_summary=False, **quiet | epochs | options)


def fit(task, batches, **options):
    trainer = make_plain_trainer(**options)
    trainer.fit(task, loader(batches))
    return trainer


def networks(task):
    """Return the state of both networks."""
    return {
        name: value for name, value in task.state_dict().items() if name.startswith(("backbone.", "discriminator."))
    }


def assert_equal(task, other):
    for (name, value), (_, expected) in zip(networks(task).items(), networks(other).items(), strict=True):
        assert torch.equal(value, expected), name


def steps_made(optimizer):
    """Return how many steps each weight of an Adam optimizer was told of."""
    return {int(state["step"]) for state in optimizer.state.values()}


def hinge_step(generator, discriminator, optimizers, batches, matching=False):
    """Make one step from several batches: the discriminator's on detached fakes, then the generator's."""
    fakes = [generator(batch["gray"], batch["origin"]).tanh() for batch in batches]
    optimizers[1].zero_grad()
    for batch, fake in zip(batches, fakes, strict=True):
        real, false = logits_of_both(discriminator, batch, fake.detach())
        loss = (1 - real).clamp_min(0).mean() + (1 + false).clamp_min(0).mean()
        (loss / len(batches)).backward()
    optimizers[1].step()
    optimizers[0].zero_grad()
    for batch, fake in zip(batches, fakes, strict=True):
        judged = discriminator(torch.cat((batch["gray"], fake), 1))[0]
        loss = -judged[-1].mean() + 10 * (fake - batch["image"]).abs().mean()
        if matching:
            real = [r.detach() for r in discriminator(torch.cat((batch["gray"], batch["image"]), 1))[0]]
            loss = loss + 4 * sum((f - r).abs().mean() for f, r in zip(judged[:-1], real[:-1], strict=True))
        (loss / len(batches)).backward()
    optimizers[0].step()


def logits_of_both(discriminator, batch, fake):
    """Return the logits of real and of generated images, in one pass where no image depends on another."""
    images = [torch.cat((batch["gray"], image), 1) for image in (batch["image"], fake)]
    if getattr(discriminator, "independent", False):
        return discriminator(torch.cat(images))[0][-1].chunk(2)
    return [discriminator(image)[0][-1] for image in images]


def plain_loop(task, groups, matching=False):
    """Train a copy of a task's networks by hand, a step for each group of batches."""
    generator, discriminator = copy.deepcopy(task.backbone).train(), copy.deepcopy(task.discriminator).train()
    optimizers = [
        torch.optim.Adam(generator.parameters(), lr=2e-3, betas=(0.5, 0.999), fused=True),
        torch.optim.Adam(discriminator.parameters(), lr=1e-3, betas=(0.5, 0.999), fused=True),
    ]
    for batches in groups:
        hinge_step(generator, discriminator, optimizers, batches, matching)
    return nn.ModuleDict({"backbone": generator, "discriminator": discriminator})


@pytest.mark.parametrize("discriminator", SPECS)
def test_three_steps_are_those_of_a_plain_loop_bit_for_bit(discriminator):
    task, batches = make_toy(discriminator), make_batches(3)
    expected = plain_loop(task, [[batch] for batch in batches])
    before = copy.deepcopy(task)
    fit(task, batches, max_steps=3)
    assert_equal(task, expected)
    assert not torch.equal(task.backbone.state_dict()["tail.weight"], before.backbone.state_dict()["tail.weight"])


def test_features_of_real_images_are_told_to_the_generators_terms():
    task, batches = make_toy("patchgan"), make_batches(3)
    task.matches, task.weights = True, task.weights | {"feature_matching": 4.0}
    expected = plain_loop(task, [[batch] for batch in batches], matching=True)
    fit(task, batches, max_steps=3)
    for (name, value), (_, wanted) in zip(networks(task).items(), networks(expected).items(), strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-5, msg=name)


def test_a_step_is_one_of_the_generator():
    task = make_toy()
    trainer = fit(task, make_batches(4), max_steps=10)
    generator, discriminator = trainer.optimizers
    assert trainer.global_step == 10
    assert steps_made(generator) == steps_made(discriminator) == {10}


def test_max_steps_minus_one_is_bounded_by_epochs():
    trainer = fit(make_toy(), make_batches(4), max_epochs=2)
    assert trainer.global_step == 8
    assert steps_made(trainer.optimizers[1]) == {8}


class Watch(pl.Callback):
    """Notes, when a network makes its step, whether the other has gradients."""

    def __init__(self):
        self.others = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        pair = (pl_module.backbone, pl_module.discriminator)
        _, other = pair if optimizer is trainer.optimizers[0] else reversed(pair)
        self.others.append(any(weight.grad is not None and weight.grad.any() for weight in other.parameters()))


class Steps:
    """Notes the norms of the gradients that optimizers made their steps with."""

    def __init__(self, task):
        self.norms = {0: [], 1: []}
        optimizers = task.configure_optimizers

        def configure():
            made = optimizers()
            for number, optimizer in enumerate(made[0]):
                optimizer.register_step_post_hook(lambda o, *_, number=number: self.norms[number].append(norm(o)))
            return made

        task.configure_optimizers = configure


def norm(optimizer):
    gradients = [weight.grad for group in optimizer.param_groups for weight in group["params"]]
    return math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_neither_network_gets_a_gradient_of_the_others_step(accumulate):
    task, watch = make_toy(), Watch()
    task.accumulate = accumulate
    fit(task, make_batches(4), max_steps=4, callbacks=[watch])
    assert watch.others == [False] * 8
    assert all(weight.requires_grad for weight in task.parameters())


def test_clipping_bounds_the_norm_of_each_network():
    free, clipped = make_toy(), make_toy()
    clipped.clip = 0.05
    norms = Steps(free).norms, Steps(clipped).norms
    for task in (free, clipped):
        fit(task, make_batches(3), max_steps=3)
    for number in (0, 1):
        assert min(norms[0][number]) > 0.06
        assert norms[1][number] == pytest.approx([0.05] * 3, rel=1e-3)


def test_clipping_leaves_small_gradients_alone():
    free, clipped = make_toy(), make_toy()
    clipped.clip = 1e6
    for task in (free, clipped):
        fit(task, make_batches(3), max_steps=3)
    assert_equal(free, clipped)


def test_clipping_is_of_the_true_gradients_in_half_precision():
    """Half precision scales the loss up: a norm that is bounded before it is scaled back would come to nothing."""
    task, scale = make_toy(), 2.0**10
    task.clip = 0.05
    norms = Steps(task).norms
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    fit(task, make_batches(3), max_steps=3, plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)])
    for number in (0, 1):
        assert norms[number] == pytest.approx([0.05] * 3, rel=1e-2)


def sgd_toy(**options):
    """Return a toy whose steps are proportional to the gradients, so that an error of them is not hidden."""
    rate = {"_target_": "torch.optim.SGD", "lr": 0.05}
    return make_toy(optimizer=rate, discriminator_optimizer=rate, **options)


def joined(batches):
    return {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}


@pytest.mark.parametrize("matching", [False, True])
def test_accumulated_batches_are_one_joined_batch(matching):
    alone, together = sgd_toy(), sgd_toy()
    for task in (alone, together):
        task.matches, task.weights = matching, task.weights | {"feature_matching": 4.0}
    together.accumulate, batches = 3, make_batches(9)
    fit(together, batches, max_steps=3, precision="64-true")
    fit(alone, [joined(batches[i : i + 3]) for i in (0, 3, 6)], max_steps=3, precision="64-true")
    for (name, value), (_, wanted) in zip(networks(together).items(), networks(alone).items(), strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-6, atol=1e-7, msg=name)


def test_accumulation_is_a_plain_loop_over_the_batches_of_a_step():
    task, batches = make_toy(), make_batches(6)
    task.accumulate = 3
    expected = plain_loop(task.double(), [batches_of(batches[:3]), batches_of(batches[3:])])
    task.float()
    trainer = fit(task, batches, max_steps=2, precision="64-true")
    assert trainer.global_step == 2
    for (name, value), (_, wanted) in zip(networks(task).items(), networks(expected).items(), strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-6, msg=name)


def batches_of(batches):
    return [{key: value.double() if value.is_floating_point() else value for key, value in b.items()} for b in batches]


def test_batches_left_over_at_an_epochs_end_make_a_step():
    task = make_toy()
    task.accumulate = 3
    trainer = fit(task, make_batches(5), max_epochs=2)
    assert trainer.global_step == 4
    assert [steps_made(optimizer) for optimizer in trainer.optimizers] == [{4}, {4}]
    assert not task._earlier


def test_accumulation_needs_no_second_trainer():
    task = make_toy()
    task.accumulate = 2
    trainer = fit(task, make_batches(4), max_epochs=1)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(task, loader(make_batches(4)))
    assert trainer.global_step == 4


class Rates(pl.Callback):
    """Notes the rate of each optimizer as a share of its first, after each batch."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, *_):
        self.seen.append([o.param_groups[0]["lr"] / o.param_groups[0]["initial_lr"] for o in trainer.optimizers])


LINE = {"name": "polynomial", "power": 1.0, "final": 0.0}


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        ({"max_epochs": 2}, [1, 1, 0.75, 0.75, 0.5, 0.5, 0.5, 0.25, 0.25, 0]),
        ({"max_steps": 4}, [1, 1, 0.75, 0.75, 0.5, 0.5, 0.5, 0.25, 0.25, 0]),
        ({"max_steps": 2}, [1, 1, 0.5, 0.5, 0]),
        ({"max_steps": 100, "max_epochs": 2}, [1, 1, 0.75, 0.75, 0.5, 0.5, 0.5, 0.25, 0.25, 0]),
    ],
    ids=str,
)
def test_schedules_go_once_per_step_down_to_the_runs_end(options, shares):
    """Five batches of an epoch make two steps of three and two."""
    task, rates = make_toy(schedule=LINE), Rates()
    task.accumulate = 3
    fit(task, make_batches(5), callbacks=[rates], **options)
    assert [pair[0] for pair in rates.seen] == pytest.approx(shares, abs=1e-12)
    assert [pair[1] for pair in rates.seen] == pytest.approx(shares, abs=1e-12)


def test_figures_of_training_are_logged_by_the_step(tmp_path):
    task = make_toy()
    task.accumulate = 2
    logger = pl.loggers.CSVLogger(tmp_path, name="", version="")
    fit(task, make_batches(8), max_steps=4, logger=logger, log_every_n_steps=2)
    rows = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    columns = dict(zip(rows[0], zip(*rows[1:], strict=True), strict=True))
    assert set(columns) >= {"train/adversarial", "train/l1", "train/discriminator", "train/loss"}
    assert columns["step"] == ("1", "3")
    value = {name: float(columns[f"train/{name}"][0]) for name in ("adversarial", "l1", "loss")}
    assert value["loss"] == pytest.approx(value["adversarial"] + 10 * value["l1"], rel=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("within_epoch", [False, True])
def test_a_resumed_run_is_the_uninterrupted_one(within_epoch, accumulate, tmp_path):
    """Five steps, or three and two more from a checkpoint: both optimizers and schedules go on."""
    # within an epoch a plain loader, unlike the data modules, begins anew: there all batches are the same
    batches = make_batches(1) * 5 * accumulate if within_epoch else make_batches(3 * accumulate)
    whole, first, second = (make_toy("patchgan", schedule=LINE) for _ in range(3))
    for task in (whole, first, second):
        task.accumulate = accumulate
    fit(whole, batches, max_steps=5)
    keep = ModelCheckpoint(tmp_path, filename="at_{step}", every_n_train_steps=3, save_top_k=-1)
    fit(first, batches, max_steps=5, callbacks=[keep], enable_checkpointing=True)
    with torch.no_grad():
        for weight in second.parameters():
            weight.zero_()  # whatever it begins with
    resumed, rates = make_plain_trainer(max_steps=5), Rates()
    resumed.callbacks.append(rates)
    resumed.fit(second, loader(batches), ckpt_path=tmp_path / "at_step=3.ckpt")
    assert resumed.global_step == 5
    assert [steps_made(optimizer) for optimizer in resumed.optimizers] == [{5}, {5}]
    assert rates.seen[accumulate - 1] == pytest.approx([0.2, 0.2])
    assert_equal(second, whole)


def config_of(*options):
    return load_config([
        "task=semantic_synthesis", "backbone=pix2pix", "backbone.width=1", "backbone.downs=5", "discriminator.width=2",
        "trainer.accelerator=cpu", "logger=none", "callbacks.scores=null", "callbacks.samples=null", *options,
    ])  # fmt: skip


def test_the_trainers_options_reach_the_task():
    config = config_of("trainer.accumulate_grad_batches=3", "trainer.gradient_clip_val=0.25")
    task = make("task", config.task)
    assert (task.accumulate, task.clip) == (1, None)
    trainer = make_trainer(config, task)
    assert (task.accumulate, task.clip) == (3, 0.25)
    assert trainer.gradient_clip_val is None
    assert trainer.accumulate_grad_batches == 1


def test_a_missing_discriminator_is_told():
    told = r"nothing is known that the generator '{}' could learn from; choose adversary=spade or adversary=pix2pix"
    with pytest.raises(UserError, match=told.format("pix2pix")):
        make("task", config_of("discriminator=null").task)
    for missing in ("optimizer", "discriminator_optimizer"):
        with pytest.raises(UserError, match=told.format("resnet")):
            make_toy(**{missing: None})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schedule": {"name": "plateau"}}, "task.schedule.name=plateau has no meaning for two networks"),
        ({"gan_loss": "hing"}, "unknown task.gan_loss 'hing' (did you mean 'hinge'?)"),
        ({"discriminator": "plane"}, "unknown discriminator 'plane' (did you mean 'plain'?)"),
        ({"schedule": {"name": "cosine", "hold": 1.0}}, "task.schedule.hold=1.0"),
    ],
    ids=str,
)
def test_mistakes_are_told_before_training(options, words):
    with pytest.raises(UserError) as caught:
        make_toy(**options)
    assert words in str(caught.value)


def test_a_wrong_option_of_the_discriminators_optimizer_is_told_before_training():
    with pytest.raises(Exception, match="momentum"):
        make_toy(discriminator_optimizer={"_target_": "torch.optim.Adam", "momentum": 1})


class Weights(pl.Callback):
    """Notes the generator's weights after each batch, and while validating."""

    def __init__(self):
        self.raw, self.validated = [], []

    def on_train_batch_end(self, trainer, pl_module, *_):
        if trainer.global_step != len(self.raw):
            self.raw.append(state(pl_module))

    def on_validation_epoch_start(self, trainer, pl_module):
        self.validated.append(state(pl_module))


def state(task):
    return copy.deepcopy(task.backbone.state_dict())


def average_of(states, decay=0.5):
    """Return the average of weights from the first ones on."""
    average = dict(states[0])
    for later in states[1:]:
        average = {name: decay * value + (1 - decay) * later[name] for name, value in average.items()}
    return average


def assert_close(found, expected):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.fixture
def averaged(tmp_path):
    """A run of four steps of two batches with an average: the task, its trainer, what was noted, the checkpoint."""
    task, notes = make_toy(), Weights()
    task.accumulate, notes.raw = 2, []
    begun = state(task)
    keep = ModelCheckpoint(tmp_path, filename="end", save_on_train_epoch_end=True)
    trainer = make_plain_trainer(
        max_steps=4, enable_checkpointing=True, callbacks=[GeneratorEMA(0.5), notes, keep], num_sanity_val_steps=0
    )
    trainer.fit(task, loader(make_batches(8)), loader(make_batches(1, seed=5)))
    notes.raw.insert(0, begun)
    return task, trainer, notes, tmp_path / "end.ckpt"


def test_the_average_follows_once_per_step_and_is_validated(averaged):
    task, _, notes, path = averaged
    assert len(notes.raw) == 5
    assert_close(notes.validated[-1], average_of(notes.raw))
    assert_close(state(task), notes.raw[-1])
    assert not torch.allclose(notes.validated[-1]["tail.weight"], notes.raw[-1]["tail.weight"], rtol=1e-3)
    checkpoint = torch.load(path, weights_only=True)
    assert_close(checkpoint[AVERAGE], average_of(notes.raw))
    own = {
        key.removeprefix("backbone."): v for key, v in checkpoint["state_dict"].items() if key.startswith("backbone.")
    }
    assert_close(own, notes.raw[-1])


def test_a_test_uses_the_average(averaged):
    task, trainer, notes, path = averaged
    seen = []
    task.on_test_epoch_start = lambda: seen.append(state(task))
    trainer.test(task, loader(make_batches(1)), ckpt_path=path, verbose=False)
    fresh = make_toy()
    fresh.on_test_epoch_start = lambda: seen.append(state(fresh))
    make_plain_trainer().test(fresh, loader(make_batches(1)), ckpt_path=path, verbose=False)
    for found in seen:
        assert_close(found, average_of(notes.raw))
    assert len(seen) == 2


def test_who_loads_a_checkpoint_gets_the_average(averaged):
    _, _, notes, path = averaged
    assert_close(state(Toy.load_from_checkpoint(path, weights_only=True)), average_of(notes.raw))


def test_a_resumed_run_goes_on_with_its_own_weights_and_the_average(averaged):
    _, _, _, path = averaged
    batches = make_batches(8)
    whole, resumed = make_toy(), make_toy()
    ema = GeneratorEMA(0.5), GeneratorEMA(0.5)
    for task, average, options in ((whole, ema[0], {}), (resumed, ema[1], {"ckpt_path": path})):
        task.accumulate = 2
        trainer = make_plain_trainer(max_steps=8, callbacks=[average])
        trainer.fit(task, loader(batches), loader(make_batches(1, seed=5)), **options)
        assert trainer.global_step == 8
    assert_equal(resumed, whole)
    assert_close(ema[1].average, ema[0].average)
