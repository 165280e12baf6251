"""The tables and sentences of Table 2; Markdown and HTML show the same ones.

The pages are made of plain values, those of ``table2.json``. None is a value that does not exist::

    experiment, title: texts
    protocol: scale, command, seeds, data, height, width, training_photos and photos (how many)
    versions: by program
    evaluator: what the figures are made with, sentences
    classes: names of the scored ones
    figures: the names of all that was measured
    photos: what the evaluator says of the test photos themselves, by figure
    training_photos: the distances of as many training photos to them, by figure; None where there are too few
    rows: variants, each with
        name, title, group, parameters, steps, settings, note ("": none)
        reference: name of the row to compare with, or None
        paper: the paper's values by figure, mIoU and accuracy in %
        seeds: those trained, each with seed, seconds, figures
        figures: by figure mean, sd and n over the seeds
        difference: by figure mean, sd, n and per_seed (by seed); or None
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nibkit.reproduce.study_text import MISSING, Section, find, row_title
from nibkit.reproduce.table2_answers import answers
from nibkit.reproduce.table2_figures import DISTANCES, TEXTURE, distance, number, plus_minus, there, title

PHOTOS, TRAINING = "the test photos themselves", "as many training photos"
PAPER_NOTE = (
    "The paper's figures are of 500 photos of Cityscapes at 256x512 pixels, read by DRN-D-105 (mIoU, accuracy) and "
    "Inception (FID). Figures of another evaluator, or of another number of photos, do not compare: compare the two "
    "rows of a pair, which one evaluator has judged on the same photos."
)
Content = Mapping[str, Any]


def sections(content: Content) -> list[Section]:
    """Return the page's parts in their order, without its title; tables about nothing are left out."""
    found = [
        Section("", _introduction(content)),
        Section("What the figures say", answers(content)),
        _main(content),
        _texture(content),
        _differences(content),
        _every_seed(content),
        _classes(content),
        _variants(content),
    ]
    return [section for section in found if section.rows or not section.head]


def _introduction(content: Content) -> list[str]:
    protocol = content["protocol"]
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    seeds = ", ".join(map(str, protocol["seeds"]))
    return [
        "Do the generators of Pix2Pix and SPADE make better photographs of label maps with noise incentive blocks: "
        "nearer to photos as a set, as well in line with the label map, and textured in its large regions?",
        f"`{protocol['command']}`: scale {protocol['scale']}, seeds {seeds}, labels {protocol['data']}: "
        f"{protocol['training_photos']} photos to train on, {protocol['photos']} to judge on, "
        f"{protocol['width']}x{protocol['height']} pixels. The two networks of a pair have equal data and steps.",
        f"The evaluator: {'; '.join(content['evaluator']) or 'nothing but texture'}.",
        PAPER_NOTE,
        "Figures are mean ± standard deviation over seeds. A difference is NIB minus standard with the same seed.",
        f"Made with {versions}.",
    ]


def _main(content: Content) -> Section:
    """Return the table of distances, segmentation and error, the paper's figures beside."""
    names = [name for name in there(content) if name not in TEXTURE]
    published = ("miou", "pixel_accuracy_void_wrong", "fid")
    rows = [
        [row_title(row), f"{row['parameters'] / 1e6:.2f} M", *(_over_seeds(row, name) for name in names),
         *(_published(row, name) for name in published)]
        for row in content["rows"]
    ]  # fmt: skip
    for name, figures in ((PHOTOS, content["photos"]), (TRAINING, content["training_photos"])):
        if any(find(figures, each) is not None for each in names):
            cells = [number(find(figures, each), each) for each in names]
            rows.append([name, MISSING, *cells, *(MISSING for _ in published)])
    head = ("variant", "parameters", *map(title, names), *(f"paper's {title(name)}" for name in published))
    return Section("Distance and segmentation", [*_bounds(content), *_rank_note(content)], head, rows)


def _bounds(content: Content) -> list[str]:
    """Return what the rows of photos tell of figures that were measured."""
    found = []
    if find(content["photos"], "miou") is not None:
        found.append("The evaluator's mIoU on the test photos themselves is the best that it can find.")
    if distance(content) is not None and content["training_photos"] is None:
        found.append("There are fewer training photos than test photos, so their distance is not known.")
    elif distance(content) is not None:
        found.append("The distance of as many training photos to the test photos is that of other real photos.")
    return found


def _rank_note(content: Content) -> list[str]:
    count = content["protocol"]["photos"]
    if count >= 2048 or not any(name.startswith(DISTANCES) for name in content["figures"]):
        return []
    return [f"Distances of {count} photos are larger than those of many: compare them within this page alone."]


def _published(row: Mapping[str, Any], name: str) -> str:
    value = row["paper"].get(name)
    return MISSING if value is None else f"{value:g}"


def _texture(content: Content) -> Section:
    """Return the table of the texture in large regions, beside that of the photos."""
    names = [name for name in there(content) if name in TEXTURE]
    trained = [row for row in content["rows"] if row["seeds"] and names]
    rows = [[row_title(row), *(_over_seeds(row, name) for name in names)] for row in trained]
    if rows:
        rows.append([PHOTOS, *(number(find(content["photos"], name), name) for name in names)])
    note = (
        "Luminance in 8-bit levels in patches that lie wholly inside one class; every large region counts once. "
        "The ratio is to the photo of the same region: 1 is as textured. A patch is flat below a deviation of 1 "
        "level. The spectrum's distance to the photos' is 0 where all frequencies are as strong. Repetition far above "
        "the photos' is a duplicated texture."
    )
    return Section("Texture in large regions", [note], ("variant", *map(title, names)), rows)


def _differences(content: Content) -> Section:
    """Return NIB minus standard, mean and every seed's."""
    names = there(content)
    rows = []
    for row in content["rows"]:
        found = row["difference"] or {}
        seeds = list(dict.fromkeys(seed for name in names for seed in find(found, name, "per_seed") or {}))
        if seeds:
            means = [plus_minus(found.get(name), name, "+") for name in names]
            rows.append([f"{row['group']}, mean", *means])
        for seed in seeds:
            gains = [number(find(found, name, "per_seed", seed), name, "+") for name in names]
            rows.append([f"{row['group']}, seed {seed}", *gains])
    return Section("NIB minus standard", [], ("pair", *map(title, names)), rows)


def _every_seed(content: Content) -> Section:
    names = there(content)
    rows = [
        [row["title"], str(seed["seed"]), *(number(seed["figures"].get(name), name) for name in names),
         MISSING if seed["seconds"] is None else f"{seed['seconds']:.0f}"]
        for row in content["rows"]
        for seed in row["seeds"]
    ]  # fmt: skip
    head = ("variant", "seed", *map(title, names), "seconds")
    return Section("Every seed", ["The seconds are those of the training."], head, rows)


def _classes(content: Content) -> Section:
    """Return the IoU of every class, means over seeds."""
    trained = [row for row in content["rows"] if row["seeds"]]
    rows = []
    for name in content["classes"]:
        figure = f"iou_{name}"
        if figure in content["figures"]:
            means = [number(find(row, "figures", figure, "mean"), figure) for row in trained]
            rows.append([name, *means, number(content["photos"].get(figure), figure)])
    note = "IoU in %, means over seeds; a class that occurs neither in a label map nor in an answer has none."
    return Section("Classes", [note], ("class", *(row["title"] for row in trained), PHOTOS), rows)


def _variants(content: Content) -> Section:
    rows = [[row["title"], str(row["steps"]), f"`{' '.join(row['settings'])}`"] for row in content["rows"]]
    return Section("Variants", [], ("variant", "steps", "settings"), rows)


def _over_seeds(row: Mapping[str, Any], name: str) -> str:
    """Return mean and spread over seeds; how many seeds, if not all have the figure."""
    figure = find(row, "figures", name)
    count = f" ({figure['n']} of {len(row['seeds'])} seeds)" if figure and 0 < figure["n"] < len(row["seeds"]) else ""
    return plus_minus(figure, name) + count
