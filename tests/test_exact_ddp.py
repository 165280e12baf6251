"""One process and several, at the same global batch, learn the same weights and measure the same figures."""

import pytest
import torch
from figures_by_processes import judge, read
from processes import run_together, several

STEPS, BATCH = 20, 6  # of all processes together
TRAIN = [
    "trainer.accelerator=cpu", "trainer.precision=64-true", f"trainer.max_steps={STEPS}", "logger=none",
    "trainer.limit_val_batches=0", "trainer.limit_test_batches=0", "data.samples_per_epoch=48", "callbacks.best=null",
    "callbacks.report=null", "callbacks.samples=null", "callbacks.spectrum=null", "callbacks.flatness=null",
    "task.schedule.name=constant",
]  # fmt: skip
# a game multiplies rounding errors: at the published rate they have not grown much in 20 steps
GAME = ["task=semantic_synthesis", "data=labels/builtin", "data.size=[64,64]", "discriminator.width=4",
        "task.optimizer.lr=0.0001", "task.discriminator_optimizer.lr=0.0001"]  # fmt: skip
SMALL = ["backbone.width=4", "data.crop_size=32", "task.schedule.warmup=0", "task.optimizer.lr=0.003"]
TASKS = {
    "halftoning": ["task=halftoning", "backbone.blocks=2", "nib=dynamic", *SMALL],
    "dithering": ["task=dithering", "backbone.blocks=2", *SMALL],
    "autoencoder": ["task=autoencoder", "nib=dynamic", *SMALL],
    "invertible_grayscale": ["task=invertible_grayscale", "data.crop_size=32", "task.rounding=noise"],
    "segmentation": ["task=segmentation", "data=labels/builtin", "data.size=[32,32]", "backbone.width=4",
                     "task.class_balance=true"],
    "spade": ["backbone=spade", "backbone.width=2", "backbone.hidden=4", *GAME],
    "pix2pix": ["backbone=pix2pix", "backbone.width=2", "backbone.downs=6", *GAME],  # with dropout
}  # fmt: skip


def train_all(names, counts, folder):
    for ranks in counts:
        jobs = [
            [*TASKS[name], *TRAIN, f"data.batch_size={BATCH // ranks}", f"run_dir={ranks}/{name}", *several(ranks)]
            + ([f"task.flats={BATCH // ranks}"] if name == "invertible_grayscale" else [])
            for name in names
        ]
        run_together(jobs, ranks, folder)


def weights(run):
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == STEPS
    return {name: value.double() for name, value in checkpoint["state_dict"].items() if value.is_floating_point()}


def vector(state):
    """All weights, without the statistics and directions that norms follow."""
    followed = ("running_mean", "running_var", "_u", "_v")
    return torch.cat([value.flatten() for name, value in state.items() if not name.endswith(followed)])


def assert_equal_weights(folder, name, counts):
    one = weights(folder / "1" / name)
    for ranks in counts:
        other = weights(folder / str(ranks) / name)
        difference = (vector(one) - vector(other)).norm() / vector(one).norm()
        assert float(difference) < 1e-5, (name, ranks, float(difference))
        for key, value in one.items():
            if key.endswith(("running_mean", "running_var")):
                torch.testing.assert_close(other[key], value, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_every_task_learns_the_same_on_one_process_two_and_three(tmp_path):
    train_all(TASKS, (1, 2, 3), tmp_path)
    for name in TASKS:
        assert_equal_weights(tmp_path, name, (2, 3))


def test_two_processes_draw_and_normalise_as_one(tmp_path):
    """The two tasks with most of what could differ: dropout, batch norms, uneven void, class weights."""
    names = ("segmentation", "pix2pix")
    train_all(names, (1, 2), tmp_path)
    for name in names:
        assert_equal_weights(tmp_path, name, (2,))


@pytest.mark.slow
def test_figures_are_the_same_on_one_process_two_and_three(tmp_path):
    """Seven images are no multiple of the processes, nor are the three that are validated on amidst the training."""
    settings = judge(tmp_path)
    run_together([[*each, f"run_dir='validated/{name}'", *several(2)] for name, each in settings.items()], 2, tmp_path)
    for name in settings:
        one, images = (read(tmp_path, 1, name, file) for file in ("metrics.json", "images.json"))
        assert len(one) > 3
        for ranks in (2, 3):
            assert read(tmp_path, ranks, name, "metrics.json") == pytest.approx(one, rel=1e-6, abs=1e-6)
            found = read(tmp_path, ranks, name, "images.json")
            assert {key: sorted(each) for key, each in found.items()} == {k: sorted(v) for k, v in images.items()}
