"""The figures of a segmentation: by the formulas counted pixel by pixel, by torchmetrics, and on two processes."""

import json
import math
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from nibkit.label_pictures import paint, scored_palette
from nibkit.labels import IGNORE
from nibkit.metrics.segmentation import SegmentationMetrics

NAMES = ["road", "sky", "traffic light", "tree"]
COUNT = 5


def samples(void=0.2):
    """Return predictions and targets; the last class occurs in neither, the third in predictions alone."""
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randint(0, 3, (COUNT, 9, 7), generator=generator)
    target = torch.where(torch.rand(COUNT, 9, 7, generator=generator) < 0.6, prediction.clamp(max=1), 0)
    target[torch.rand(COUNT, 9, 7, generator=generator) < void] = IGNORE
    return prediction, target


def naive(prediction, target):
    """Return the figures, by sets of pixels."""
    pixels = [(p, t) for p, t in zip(prediction.flatten().tolist(), target.flatten().tolist(), strict=True)]
    scored = [(p, t) for p, t in pixels if t != IGNORE]
    iou = {}
    for number, name in enumerate(NAMES):
        both = sum(p == number and t == number for p, t in scored)
        either = sum(number in (p, t) for p, t in scored)
        iou[f"iou_{name}"] = both / either if either else math.nan
    right = sum(p == t for p, t in scored)
    exists = [value for value in iou.values() if not math.isnan(value)]
    return {
        "miou": sum(exists) / len(exists),
        "pixel_accuracy": right / len(scored),
        "pixel_accuracy_void_wrong": right / len(pixels),
    } | iou


def measure(indices):
    prediction, target = samples()
    metric = SegmentationMetrics(NAMES)
    for index in indices:
        metric.update(prediction[index : index + 1], target[index : index + 1])
    return {name: float(value) for name, value in metric.compute().items()}


def test_the_figures_are_the_formulas_over_all_pixels_of_the_set():
    figures = measure(range(COUNT))
    expected = naive(*samples())
    assert list(figures) == list(expected)
    assert figures == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert figures["iou_traffic light"] == 0
    assert math.isnan(figures["iou_tree"])


def test_one_matrix_over_the_set_is_not_the_mean_over_images():
    prediction, target = samples()
    each = [naive(p, t)["miou"] for p, t in zip(prediction, target, strict=True)]
    assert abs(measure(range(COUNT))["miou"] - sum(each) / COUNT) > 1e-4


def test_torchmetrics_measures_the_same():
    prediction, target = samples()
    options = {"num_classes": 3, "ignore_index": IGNORE}
    jaccard = MulticlassJaccardIndex(average="none", **options)(prediction, target)
    accuracy = MulticlassAccuracy(average="micro", **options)(prediction, target)
    figures = measure(range(COUNT))
    assert [figures[f"iou_{name}"] for name in NAMES[:3]] == pytest.approx(jaccard.tolist(), rel=1e-6)
    assert figures["pixel_accuracy"] == pytest.approx(float(accuracy), rel=1e-6)


def test_what_is_predicted_in_void_changes_nothing():
    prediction, target = samples()
    other = torch.where(target == IGNORE, (prediction + 1) % 4, prediction)
    metrics = [SegmentationMetrics(NAMES), SegmentationMetrics(NAMES)]
    for metric, answer in zip(metrics, (prediction, other), strict=True):
        metric.update(answer, target)
    assert torch.equal(metrics[0].confusion, metrics[1].confusion)


def test_void_counts_as_wrong_in_the_accuracy_that_says_so_and_in_no_other():
    target = torch.tensor([[[0, 1], [IGNORE, IGNORE]]])
    metric = SegmentationMetrics(NAMES)
    metric.update(torch.tensor([[[0, 1], [0, 1]]]), target)
    figures = metric.compute()
    assert (figures["pixel_accuracy"], figures["pixel_accuracy_void_wrong"], figures["miou"]) == (1, 0.5, 1)


def test_counts_stay_exact_beyond_what_float32_can_count():
    metric = SegmentationMetrics(NAMES[:2])
    metric.confusion[0, 0] = 2**24
    metric.update(torch.zeros(1, 1, 1).long(), torch.zeros(1, 1, 1).long())
    assert int(metric.confusion[0, 0]) == 2**24 + 1


def work(rank, folder):
    torch.set_num_threads(1)
    rendezvous = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", rendezvous, timedelta(seconds=60), world_size=2, rank=rank)
    Path(folder, f"{rank}.json").write_text(json.dumps(measure(range(rank, COUNT, 2))))
    distributed.destroy_process_group()


def test_two_processes_measure_what_one_does(tmp_path):
    multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    alone = measure(range(COUNT))
    for rank in range(2):
        together = json.loads((tmp_path / f"{rank}.json").read_text())
        assert together == pytest.approx(alone, rel=0, abs=0, nan_ok=True)


PALETTE = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]], dtype=np.uint8)


def test_label_maps_are_painted_in_the_colours_of_their_classes_and_ignored_pixels_black():
    label = torch.tensor([[0, 2, IGNORE], [3, 1, 1]])
    picture = ((paint(label, PALETTE) + 1) * 127.5).round().byte().permute(1, 2, 0)
    expected = [[[255, 0, 0], [0, 0, 255], [0, 0, 0]], [[10, 20, 30], [0, 255, 0], [0, 255, 0]]]
    assert picture.tolist() == expected


def test_a_scored_class_has_the_colour_of_the_first_class_that_is_mapped_to_it():
    assert scored_palette(PALETTE, None, 3).tolist() == PALETTE[:3].tolist()
    assert scored_palette(PALETTE, [None, 1, 0, 1], 2).tolist() == PALETTE[[2, 1]].tolist()
