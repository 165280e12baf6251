"""What Table 2 and Figure 6 train: generators with and without NIB, and the segmenter that judges them all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from nibkit.config import load_config, quoted
from nibkit.errors import UserError, choose
from nibkit.reproduce import Options
from nibkit.reproduce.cells import make_cell
from nibkit.reproduce.results import check_folders, check_version
from nibkit.reproduce.study import Job, Variant

# The paper's figures are of Cityscapes: mIoU and accuracy in %, void pixels counted as wrong, and FID.
VARIANTS = (
    Variant("pix2pix", "Pix2Pix, standard", "table2_pix2pix", "Pix2Pix", None,
            {"miou": 12.05, "pixel_accuracy_void_wrong": 53.6, "fid": 92.9}),
    Variant("pix2pix_nib", "Pix2Pix, NIB", "table2_pix2pix_nib", "Pix2Pix", "pix2pix",
            {"miou": 12.27, "pixel_accuracy_void_wrong": 53.6, "fid": 88.1}),
    Variant("spade", "SPADE, standard", "table2_spade", "SPADE", None,
            {"miou": 62.3, "pixel_accuracy_void_wrong": 81.9, "fid": 71.8}),
    Variant("spade_nib", "SPADE, NIB", "table2_spade_nib", "SPADE", "spade",
            {"miou": 61.9, "pixel_accuracy_void_wrong": 81.8, "fid": 54.6}),
)  # fmt: skip
SEGMENTER = Variant("segmenter", "segmenter", "none", "segmenter", settings=("task=segmentation",))

LABELS = ("builtin", "camvid", "facades", "cityscapes")  # data choices; further ones are folders
DEFAULT_LABELS = {"small": "builtin", "medium": "builtin", "paper": "cityscapes"}
# [height, width], multiples of 32, of the paper's 64 to SPADE and 256 to Pix2Pix
SIZES = {"camvid": "[96,128]", "cityscapes": "[96,192]"}
SMALL_SIZE = "[128,128]"
PAPER_SIZES = {"cityscapes": "[256,512]"}
PAPER_SIZE, PAPER_LOAD_SIZE = "[256,256]", "[286,286]"  # Pix2Pix draws crops of images that are a little larger

# By group of variants. Small: networks that a CPU trains in minutes, of a quarter to half the published width; what
# is cheap per step, batches of one image, has more steps. Medium: four times the steps.
# Paper: the published networks and epochs; Pix2Pix by single images, SPADE by 16, with its perceptual loss.
SMALL = {
    "Pix2Pix": ("backbone.width=32", "backbone.downs=5", "discriminator.width=32"),
    "SPADE": (
        "backbone.width=16",
        "backbone.hidden=32",
        "backbone.ups=5",
        "discriminator.width=16",
        "task.optimizer.lr=0.0004",
    ),
    "segmenter": ("backbone.architecture=unet",),
}
PAPER = {
    "Pix2Pix": ("backbone.width=64", "backbone.downs=8", "discriminator.width=64"),
    "SPADE": ("backbone.width=64", "backbone.hidden=128", "backbone.ups=6", "discriminator.width=64",
              "task.perceptual_weight=10", "task.optimizer.lr=0.0001"),
    "segmenter": ("backbone.architecture=deeplabv3_resnet50",),
}  # fmt: skip
NETWORKS = {"small": SMALL, "medium": SMALL, "paper": PAPER}
SMALL_BATCH = {"Pix2Pix": 1, "SPADE": 2, "segmenter": 8}
PAPER_BATCH = {"Pix2Pix": 1, "SPADE": 16, "segmenter": 8}
BATCHES = {"small": SMALL_BATCH, "medium": SMALL_BATCH, "paper": PAPER_BATCH}
STEPS = {"Pix2Pix": 10000, "SPADE": 2400, "segmenter": 2000}  # small
TIMES = {"small": 1, "medium": 4}  # as many steps
EPOCHS = 200  # paper: half of them at the full rate
VALIDATIONS = {"small": 3, "medium": 3, "paper": 20}  # in a training


def make_jobs(options: Options) -> list[Job]:
    """Return all trainings of generators, seed after seed, so that the first seed of all is there first.

    Nothing is written.

    Raises:
        UserError: a setting is wrong; at the paper's scale also data that are not there: they decide the steps.
    """
    return [_job(variant, seed, options) for seed in options.seeds for variant in VARIANTS]


def segmenter_job(options: Options) -> Job:
    """Return the training of the segmenter, one for all seeds; errors as of :func:`make_jobs`."""
    return _job(SEGMENTER, 0, options)


def _job(variant: Variant, seed: int, options: Options) -> Job:
    # judged by the experiment, so that a new evaluator needs no new training; --limit is of the judging alone
    unjudged = () if variant == SEGMENTER else ("callbacks.scores=null",)
    settings = (f"experiment={variant.experiment}", *variant.settings, *training_settings(variant, options), *unjudged)
    return Job(variant, make_cell(variant.name, seed, (*settings, *data_settings(options)), options.runs))


def training_settings(variant: Variant, options: Options) -> tuple[str, ...]:
    """Return a variant's settings of the scale: network, steps, batch, and what only it wants of the data."""
    group, scale = variant.group, options.scale
    batch, steps = BATCHES[scale][group], STEPS[group] * TIMES.get(scale, 1)
    if scale == "paper":
        steps = EPOCHS * _training_photos(data_settings(options)) // batch
    every = max(1, steps // VALIDATIONS[scale])
    workers = 8 if scale == "paper" else 0
    crops = scale == "paper" and group == "Pix2Pix" and labels_name(options) not in PAPER_SIZES
    return (
        *NETWORKS[scale][group],
        f"data.batch_size={batch}",
        f"trainer.max_steps={steps}",
        f"trainer.val_check_interval={every}",
        f"data.num_workers={workers}",
        *((f"data.load_size={PAPER_LOAD_SIZE}",) if crops else ()),
    )


@cache
def _training_photos(settings: tuple[str, ...]) -> int:
    """Return the number of photos to train on."""
    return len(make_data(settings).train_pairs)


def make_data(settings: Sequence[str]) -> Any:
    """Return the prepared data module of labelled photos that these settings of the data make.

    Raises:
        UserError: data that are missing or cannot be used.
    """
    from nibkit.make import make

    data = make("data", load_config(("task=semantic_synthesis", *settings)).data)
    data.prepare()
    return data


def labels_name(options: Options) -> str:
    """Return what is trained and judged on: a name of :data:`LABELS`, or a folder."""
    return options.labels or DEFAULT_LABELS[options.scale]


def data_settings(options: Options) -> tuple[str, ...]:
    """Return the settings of the data that all cells share.

    Raises:
        UserError: ``--labels`` is neither a name nor a folder.
    """
    name = labels_name(options)
    sizes, size = (PAPER_SIZES, PAPER_SIZE) if options.scale == "paper" else (SIZES, SMALL_SIZE)
    further = tuple(f"data.{setting}" for setting in options.label_settings)
    return (*_source(name, options.home), f"data.size={sizes.get(name, size)}", *further)


def _source(name: str, home: Path) -> tuple[str, ...]:
    if name == "builtin":
        return ("data=labels/builtin",)
    if name in LABELS:
        return (f"data=labels/{name}", f"data.home={quoted(home)}")
    if not Path(name).is_dir():
        try:
            choose("--labels", name, LABELS)
        except UserError as error:
            raise UserError(f"{error}, or a folder of photos with label maps") from error
    return ("data=labels/labelled", f"data.root={quoted(Path(name).absolute())}")


def check_before(options: Options, files: Sequence[str]) -> None:
    """Raise :class:`UserError` for folders that cannot be written, results of another version, unknown cells."""
    from nibkit import multirun

    check_folders(options, files)
    for path in (options.out / name for name in files if name.endswith(".json")):
        if path.exists():
            check_version(path, path, "choose another --out, or move the old results away")
    for name in options.cells:
        choose("cell of table2", name, [variant.name for variant in VARIANTS])
    if options.launcher and options.train:
        multirun.check_launcher(options.launcher, options.launcher_options)


def check_finished(jobs: Sequence[Job]) -> None:
    """Raise :class:`UserError` if a finished cell is of another version."""
    for cell in (job.cell for job in jobs if job.cell.finished):
        record = cell.folder / "environment.json"
        check_version(cell.folder, record, "choose another --runs, or move that folder away")
