"""``python tests/figures_by_processes.py [--vgg FILE]``: the figures of tests on one process, two and three.

Seven images are no multiple of the processes. What comes out is the page docs/cluster/figures.md, to the screen.
"""

import argparse
import json
import tempfile
from itertools import cycle, islice
from pathlib import Path
from statistics import fmean

import numpy as np
from PIL import Image
from processes import run_together, several

COUNTS = (1, 2, 3)
SMALL = ["backbone.width=2", "data.crop_size=32"]
LABELS = ["data=labels/builtin", "data.val_images=3", "data.test_images=7"]
TESTS = {
    "dithering": ["task=dithering", "data=folder", "backbone.blocks=1", *SMALL],
    "halftoning, dynamic noise": ["task=halftoning", "data=folder", "nib=dynamic", "backbone.blocks=1", *SMALL],
    "autoencoder": ["task=autoencoder", "data=folder", *SMALL],
    "invertible grayscale": ["task=invertible_grayscale", "data=folder", "data.crop_size=32"],
    "segmentation": ["task=segmentation", "data.size=[32,32]", "backbone.width=4", *LABELS,
                     "trainer.max_steps=60", "data.batch_size=8"],
    "Pix2Pix": ["task=semantic_synthesis", "backbone=pix2pix", "data.size=[64,64]", "backbone.width=2",
                "backbone.downs=6", "discriminator.width=4", *LABELS],
    "SPADE": ["task=semantic_synthesis", "backbone=spade", "data.size=[64,64]", "backbone.width=2",
              "backbone.hidden=4", "discriminator.width=4", *LABELS],
}  # fmt: skip
COMMON = ["trainer.accelerator=cpu", "trainer.max_steps=2", "data.batch_size=2", "logger=none",
          "callbacks.report.baselines=false", "callbacks.samples=null", "callbacks.spectrum=null",
          "callbacks.flatness=null"]  # fmt: skip


def make_images(folder):
    """Seven images of unequal sizes to test on, and three to validate on."""
    for part, count in (("train", 6), ("val", 3), ("test", 7)):
        (folder / part).mkdir(parents=True)
        for i in range(count):
            pixels = np.random.default_rng([len(part), i]).integers(0, 256, (40 + 3 * i, 48 - i, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / part / f"{i}.png")


def judge(folder, vgg=None):
    """Train each task on one process, and test it on one, two and three; all lies in ``folder`` by count and task."""
    make_images(folder / "images")
    more = [f"metrics.frechet.weights_path={vgg}"] if vgg else []
    settings = {name: [*COMMON, *each] for name, each in TESTS.items()}
    for each in settings.values():
        each += [f"data.root={folder / 'images'}"] if "data=folder" in each else []
        each += more if "task=semantic_synthesis" in each else []
    run_together([[*each, f"run_dir='trained/{name}'"] for name, each in settings.items()], 1, folder)
    for ranks in COUNTS:
        jobs = [
            [*each, "mode=test", f"ckpt_path='trained/{name}/checkpoints/best.ckpt'", f"run_dir='{ranks}/{name}'"]
            for name, each in settings.items()
        ]
        run_together([[*each, *several(ranks)] for each in jobs], ranks, folder)
    return settings


def read(folder, ranks, name, file):
    """What a test has written."""
    return json.loads((folder / str(ranks) / name / file).read_text())


def difference(value, reference):
    """How far two figures are apart, relative to the second."""
    return abs(value - reference) / abs(reference) if reference else abs(value - reference)


def repeated(images, ranks):
    """What images' mean becomes where some come twice, so that all ranks have as many (torch's DistributedSampler)."""
    each = -(-len(images) // ranks)
    return fmean(islice(cycle(images), each * ranks))


def table(folder, name):
    """The lines of a task's table."""
    figures = [read(folder, ranks, name, "metrics.json") for ranks in COUNTS]
    images = read(folder, 1, name, "images.json")
    for key, one in figures[0].items():
        if one is None:
            continue
        apart = [difference(other[key], one) for other in figures[1:]]
        *place, figure = key.removeprefix("test/").split("/")
        of_set = images.get(place[0] if place else "photo", {}).values()
        values = [each[figure] for each in of_set if each.get(figure) is not None]
        is_mean = len(values) == 7 and difference(fmean(values), one) < 1e-5
        padded = [f"{difference(repeated(values, n), one):.0e}" if is_mean else "" for n in COUNTS[1:]]
        cells = (name, f"`{key.removeprefix('test/')}`", f"{one:.7g}", *(f"{a:.0e}" for a in apart), *padded)
        yield f"| {' | '.join(cells)} |"


PAGE = """# Figures by the number of processes

Made by `python tests/figures_by_processes.py --vgg FILE`: a small network of each task, trained for a few steps, judges
seven test images on one process, two and three. The last two columns are what the mean over images would be off by if
images came twice until all processes had as many, as with torch's `DistributedSampler`.

| task | figure | 1 process | 2: off by (relative) | 3: off by | 2, repeating | 3, repeating |
|---|---|---|---|---|---|---|"""


def main():
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--vgg", type=Path, help="weights of VGG16 or VGG19, for distances of features")
    vgg = parser.parse_args().vgg
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        judge(folder, vgg and vgg.resolve())
        print(PAGE)
        for task in TESTS:
            print("\n".join(table(folder, task)))


if __name__ == "__main__":
    main()
