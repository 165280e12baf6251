"""Pictures of a study: the same crops through every variant's network of the first seed."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from nibkit.backbones import Backbone, InvertibleGrayscale
from nibkit.config import load_config
from nibkit.data.images import to_tensor
from nibkit.data.module import ImageData
from nibkit.estimators import binarize
from nibkit.grayscale_pictures import ERROR_LIMIT, grayscale_pictures, hide_and_restore
from nibkit.reproduce.study import Job, Study
from nibkit.sheet import Cell, draw_sheet, error_map
from nibkit.weights import load_weights

SIDE, TIMES = 96, 3  # of a crop, pixels; enlarged so many times
PER_SET = 3
TITLES = {"photo": "photos", "comic": "flat material"}


def draw_pictures(study: Study, jobs: Sequence[Job]) -> list[tuple[str, bytes]]:
    """Return a sheet per image set, as (caption, bytes of a PNG)."""
    first = [job for job in jobs if job.cell.seed == jobs[0].cell.seed and job.cell.finished]
    if not first:
        return []
    networks = [(job.variant.title, load_weights(str(job.cell.checkpoint))) for job in first]
    return [
        (f"{TITLES[label]}: crops of {SIDE} pixels, enlarged {TIMES} times, seed {jobs[0].cell.seed}",
         png(_sheet(networks, crops, TITLES[label])))
        for label, crops in judged_images(first[0], study.sets, SIDE)
    ]  # fmt: skip


def _sheet(networks: Sequence[tuple[str, Backbone]], crops: Sequence[Tensor], title: str) -> Image.Image:
    """Return all crops; of networks that hide colours, which have four pictures of each, the one with most colour."""
    pairs = [(name, network) for name, network in networks if isinstance(network, InvertibleGrayscale)]
    if not pairs:
        return draw_sheet(list(_rows(networks, crops)), title)
    crop = most_colour(crops)
    rows = [grayscale_pictures(crop, *hide_and_restore(pair, crop))[1:] for _, pair in pairs]
    enlarged = [[(caption, larger(picture)) for caption, picture in row] for row in rows]
    headings = dict(enumerate((name for name, _ in pairs), start=1))
    return draw_sheet([[("original", larger(crop))], *enlarged], title, headings)


def most_colour(crops: Sequence[Tensor]) -> Tensor:
    """Return the crop ``[3, H, W]`` whose channels differ most."""
    return max(crops, key=lambda crop: float((crop.amax(dim=0) - crop.amin(dim=0)).mean()))


def judged_images(job: Job, labels: Sequence[str], side: int) -> Iterator[tuple[str, list[Tensor]]]:
    """Yield crops of each set, ``[C, side, side]`` in [-1, 1], of the images that the cells were judged on."""
    from nibkit.make import make

    data: ImageData = make("data", load_config(job.cell.settings).data)
    data.prepare()
    for label in labels:
        source = data.evaluation_images["test"][label]
        step = max(1, len(source) // PER_SET)
        chosen = range(0, len(source), step)[:PER_SET]
        yield label, [_crop(to_tensor(source.read(index)), label, side) for index in chosen]


def _crop(image: Tensor, label: str, side: int) -> Tensor:
    """Return a crop: of flat material where flat regions end, of photos from the middle."""
    height, width = (min(side, length) for length in image.shape[-2:])
    top, left = (image.shape[-2] - height) // 2, (image.shape[-1] - width) // 2
    if label == "comic":
        top, left = _halfway_flat(image, height, width)
    return image[:, top : top + height, left : left + width]


def _halfway_flat(image: Tensor, height: int, width: int) -> tuple[int, int]:
    """Return the corner of the crop whose share of constant pixels is nearest to three quarters."""
    change = (image[:, 1:, 1:] - image[:, :-1, :-1]).abs().amax(dim=0, keepdim=True)
    textured = F.avg_pool2d((change > 0).float()[None], (height - 1, width - 1), stride=8)[0, 0]
    tone = F.avg_pool2d(image[:, 1:, 1:].mean(dim=0)[None, None].abs(), (height - 1, width - 1), stride=8)[0, 0]
    best = int(((textured - 0.25).abs() + tone).argmin())  # black and white need no dots: grays are worth showing
    return 8 * (best // textured.shape[1]), 8 * (best % textured.shape[1])


@torch.no_grad()
def _rows(networks: Sequence[tuple[str, Backbone]], crops: Sequence[Tensor]) -> Iterator[list[Cell]]:
    """Yield the originals, then what each network makes of them."""
    yield [("original", larger(crop)) for crop in crops]
    for title, network in networks:
        answers = [network(crop[None])[0] for crop in crops]
        if network.out_channels == 1:
            yield [(title, larger(binarize(answer))) for answer in answers]
            continue
        answers = [answer.clamp(-1, 1) for answer in answers]
        errors = [(answer - crop).abs().mean(dim=0) / 2 for crop, answer in zip(crops, answers, strict=True)]
        yield [(title, larger(answer)) for answer in answers] + [
            (f"error, 0 to {ERROR_LIMIT:g}", larger(error_map(error, ERROR_LIMIT))) for error in errors
        ]


def larger(image: Tensor, times: int = TIMES) -> Tensor:
    """Return an image ``[C, H, W]`` of which every pixel is a square of ``times`` pixels."""
    return image.repeat_interleave(times, dim=1).repeat_interleave(times, dim=2)


def png(picture: Image.Image) -> bytes:
    """Return a picture as the bytes of a PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
