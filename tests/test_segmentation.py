"""Segmentation: its networks, its loss, and a training on squares of one colour."""

import types

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.models import get_model

from nibkit.config import load_config
from nibkit.errors import UserError
from nibkit.labels import IGNORE
from nibkit.make import make_task as task_of
from nibkit.registry import build_backbone
from tasks.segmentation import SegmentationTask

NONE = {"form": "none"}
TORCHVISION = [
    "lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "deeplabv3_resnet50", "deeplabv3_resnet101",
    "fcn_resnet50", "fcn_resnet101",
]  # fmt: skip
COLOURS = torch.tensor([[0.8, -0.8, -0.8], [-0.8, 0.8, -0.8], [-0.8, -0.8, 0.8]])
NAMES = ["red", "green", "blue"]
PALETTE = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]], dtype=np.uint8)


def network(**options):
    torch.manual_seed(0)
    return build_backbone({"name": "segmenter", "out_channels": 3, **options}, NONE)


def make_task(width=4, lr=0.02, out_channels=3, **options):
    torch.manual_seed(0)
    return SegmentationTask(
        {"name": "segmenter", "out_channels": out_channels, "width": width},
        NONE,
        {"_target_": "torch.optim.Adam", "lr": lr},
        {"name": "constant"},
        **options,
    )


def squares(seed):
    """Return a photo of squares whose colour says their class, with a strip of void that looks like any."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 3, (4, 4), generator=generator).repeat_interleave(8, 0).repeat_interleave(8, 1)
    photo = COLOURS[ids].permute(2, 0, 1) + 0.1 * torch.randn(3, 32, 32, generator=generator)
    target = ids.clone()
    target[:2] = IGNORE
    sample = {"image": photo.clamp(-1, 1), "label": ids, "target": target, "origin": torch.zeros(2, dtype=torch.int64)}
    return sample | {"set": "photo", "name": f"squares {seed}"}


def batch_of(*samples):
    return torch.utils.data.default_collate(list(samples))


def fake_data(**attributes):
    standard = {"num_classes": 3, "scored_classes": 3, "class_names": NAMES, "size": (32, 32), "batch_size": 4}
    return types.SimpleNamespace(**standard | attributes)


@pytest.mark.parametrize("architecture", ["unet", *TORCHVISION])
def test_every_network_answers_logits_at_the_images_size(architecture):
    segmenter = network(architecture=architecture, width=2).eval()
    with torch.no_grad():
        for size in ((1, 1), (5, 7), (33, 40)):
            logits = segmenter(torch.rand(1, 3, *size) * 2 - 1)
            assert logits.shape == (1, 3, *size)
            assert logits.isfinite().all()


def test_torchvisions_networks_are_torchvisions():
    ours = network(architecture="lraspp_mobilenet_v3_large").eval()
    theirs = get_model("lraspp_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=3).eval()
    theirs.load_state_dict(ours.network.state_dict())
    image = torch.rand(2, 3, 40, 48) * 2 - 1
    assert torch.equal(ours(image), theirs(image)["out"])


def test_the_small_network_has_a_few_hundred_thousand_weights():
    assert 2e5 < sum(weight.numel() for weight in network().parameters()) < 6e5


def test_an_image_of_other_sides_is_the_crop_of_the_extended_one():
    segmenter = network(width=2).eval()
    image = torch.rand(1, 3, 13, 22)
    whole = segmenter(F.pad(image, (0, 2, 0, 3), mode="replicate"))
    assert torch.equal(segmenter(image), whole[..., :13, :22])


@pytest.mark.parametrize(
    ("spec", "nib", "word"),
    [
        ({}, {"form": "symmetric"}, "nib.form=symmetric; use nib=none"),
        ({"architecture": "resnet50"}, NONE, "unknown backbone.architecture 'resnet50'.*lraspp"),
        ({"architecture": "fcn_resnet50", "in_channels": 1}, NONE, "backbone.in_channels=1"),
        ({"width": 0}, NONE, "backbone.width=0"),
    ],
)
def test_impossible_networks_are_refused(spec, nib, word):
    with pytest.raises(UserError, match=word):
        build_backbone({"name": "segmenter", **spec}, nib)


def test_the_loss_is_the_cross_entropy_of_the_pixels_that_are_not_void():
    task, batch = make_task(), batch_of(squares(0), squares(1))
    logits = task(batch["image"])
    scored = batch["target"] != IGNORE
    chances = logits.softmax(dim=1).permute(0, 2, 3, 1)[scored]
    expected = -chances.gather(1, batch["target"][scored][:, None]).log().mean()
    assert task.losses(batch)["cross_entropy"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_balanced_loss_weighs_classes_by_their_share_of_the_batch():
    task, batch = make_task(class_balance=True), batch_of(squares(0), squares(1))
    scored = batch["target"][batch["target"] != IGNORE]
    weights = torch.tensor([1 / np.log(1.02 + float((scored == k).float().mean())) for k in range(3)]).float()
    expected = F.cross_entropy(task(batch["image"]), batch["target"], weights, ignore_index=IGNORE)
    assert task.losses(batch)["cross_entropy"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_batch_of_void_alone_teaches_nothing():
    task, batch = make_task(), batch_of(squares(0))
    loss = task.losses(batch | {"target": torch.full_like(batch["target"], IGNORE)})["cross_entropy"]
    loss.backward()
    assert loss.item() == 0
    assert all(not weight.grad.any() for weight in task.backbone.parameters())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A task after a few dozen steps on squares, its trainer and its checkpoint."""
    folder = tmp_path_factory.mktemp("segmentation")
    task = make_task()
    task.check_data(fake_data())
    trainer = pl.Trainer(
        max_steps=40, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, num_sanity_val_steps=0,
    )  # fmt: skip
    train = DataLoader([squares(seed) for seed in range(160)], batch_size=4)
    held_out = DataLoader([squares(1000 + seed) for seed in range(4)], batch_size=2)
    trainer.fit(task, train, held_out)
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    trainer.save_checkpoint(folder / "last.ckpt")
    return task, figures, folder / "last.ckpt"


def test_squares_of_one_colour_are_learnt_in_a_few_dozen_steps(trained):
    _, figures, _ = trained
    assert figures["val/miou"] > 0.9
    assert figures["val/objective"] == pytest.approx(1 - figures["val/miou"], abs=1e-6)
    assert {f"val/iou_{name}" for name in NAMES} <= figures.keys()
    # two of 32 rows are void
    assert figures["val/pixel_accuracy_void_wrong"] == pytest.approx(figures["val/pixel_accuracy"] * 30 / 32)


def test_a_validation_begins_anew(trained):
    task, batch = trained[0].eval(), batch_of(squares(7))
    with torch.no_grad():
        figures = []
        for _ in range(2):
            task.evaluate("test", batch)
            figures.append(task.figures("test"))
    assert figures[0] == figures[1]


def test_checkpoints_say_their_classes(trained):
    again = SegmentationTask.load_from_checkpoint(trained[2], weights_only=True)
    assert again.hparams["class_names"] == NAMES
    assert again.scores["test"].class_names == NAMES


def test_what_is_rendered_is_a_label_map_once_it_is_a_png(trained, tmp_path):
    from nibkit.data.images import to_bytes

    task, image = trained[0].eval(), squares(3)["image"][None]
    with torch.no_grad():
        assert to_bytes(task.render(image)[0]).tolist() == task.segment(image)[0].tolist()


def test_pictures_are_the_photo_its_classes_and_the_predicted_ones(trained):
    task, batch = trained[0], batch_of(squares(3), squares(4))
    rows = task.train().batch_pictures(batch, PALETTE)
    assert task.training
    assert [caption for caption, _ in rows[1]] == ["squares 4: photo", "labels", "predicted"]
    (_, photo), (_, labels), (_, predicted) = rows[0]
    assert torch.equal(photo, batch["image"][0])
    assert (labels[:, :2] == -1).all()
    pure = 2 * torch.eye(3)[batch["target"][0][2:]].permute(2, 0, 1) - 1
    assert torch.equal(labels[:, 2:], pure)
    assert (predicted[:, 2:] == pure).float().mean() > 0.9


@pytest.mark.parametrize(
    ("attributes", "word"),
    [
        ({"scored_classes": 4, "class_names": [*NAMES, "void"]}, "4 scored classes.*backbone.out_channels=3"),
        ({"class_names": ["red", "verde", "blue"]}, "class 1 of the data is 'verde', but 'green'"),
        ({"size": (8, 8), "batch_size": 1}, "data.batch_size=1"),
    ],
)
def test_data_that_do_not_fit_are_refused(attributes, word):
    with pytest.raises(UserError, match=word):
        make_task(class_names=NAMES).check_data(fake_data(**attributes))


def test_data_without_label_maps_are_refused():
    with pytest.raises(UserError, match="needs photos with label maps"):
        make_task().check_data(types.SimpleNamespace(channels=3))


def test_names_that_are_not_one_per_class_are_refused():
    with pytest.raises(UserError, match=r"task\.class_names has 3 names"):
        make_task(out_channels=4, class_names=NAMES)


def test_networks_that_normalise_a_single_value_per_image_need_two_images():
    task = make_task()
    task.backbone = network(architecture="deeplabv3_mobilenet_v3_large")
    with pytest.raises(UserError, match=r"data\.batch_size=2 or more"):
        task.check_data(fake_data(batch_size=1))
    task.check_data(fake_data(batch_size=2))
    assert task.losses(batch_of(squares(0), squares(1)))["cross_entropy"].isfinite()


def test_the_shipped_config_makes_a_segmenter_of_the_datas_classes():
    config = load_config(["task=segmentation"])
    task = task_of(config)
    assert task.classes == len(task.scores["val"].class_names) == config.data.num_classes
    assert config.callbacks.spectrum is config.callbacks.flatness is None
