"""Pictures of Table 2 and of Figures 1 and 6: test images of all generators, their largest regions enlarged.

Nothing is chosen by hand: the images are spread evenly over the test set, the regions are those of the largest
classes of each, at the place where the class fills most of what is around.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import default_collate

from nibkit.color import luminance
from nibkit.label_pictures import paint
from nibkit.metrics.texture import deviation
from nibkit.reproduce import Options
from nibkit.reproduce.cells import Cell as Network
from nibkit.reproduce.study import Job
from nibkit.reproduce.study_pictures import larger
from nibkit.reproduce.table2_cells import data_settings, make_data
from nibkit.reproduce.table2_judge import Renderer, device, on_device, renderer
from nibkit.sheet import Cell, draw_sheet

IMAGES, REGIONS = 3, 2  # of the test set; of each image
TIMES = 4  # that regions are enlarged beside the images; they are so much smaller than the image's shorter side
LEAST = 128  # pixels of a picture's side, so that captions have their place; smaller images are enlarged


class Region(NamedTuple):
    """A square of a test image that lies in a region of one class: its name, top left pixel and side."""

    name: str
    top: int
    left: int
    side: int

    def cut(self, image: Tensor) -> Tensor:
        """Return the square of an image ``[..., H, W]``."""
        return image[..., self.top : self.top + self.side, self.left : self.left + self.side]


class Pictures(NamedTuple):
    """A test image: its name, captioned pictures ``[3, H, W]`` in [-1, 1] in their order, and its regions."""

    name: str
    columns: list[Cell]
    regions: list[Region]


def first_trained(jobs: Sequence[Job], seeds: Sequence[int]) -> list[Job]:
    """Return of each group the variants of the first seed of which all are trained; none of a group without one."""
    chosen: list[Job] = []
    for group in dict.fromkeys(job.variant.group for job in jobs):
        sets = ([job for job in jobs if job.variant.group == group and job.cell.seed == seed] for seed in seeds)
        chosen += next((mine for mine in sets if all(job.cell.finished for job in mine)), [])
    return chosen


def drawn_data(options: Options) -> Any:
    """Return the prepared data whose test images are drawn, at most ``options.limit`` of them.

    Raises:
        UserError: data that are missing or cannot be used.
    """
    limit = () if options.limit is None else (f"data.test_images={options.limit}",)
    return make_data((*data_settings(options), *limit))


def draw_images(jobs: Sequence[Job], data: Any, count: int = IMAGES) -> list[Pictures]:
    """Return chosen test images: label map, what every network makes of it, photo.

    Args:
        jobs: finished ones.
        data: whose test images are drawn.
        count: of images, if there are as many.
    """
    samples = data.test_dataloader()[0].dataset
    batches = [on_device(default_collate([samples[index]]), device()) for index in spread_over(len(samples), count)]
    answers = {job.variant.title: _answers(job.cell, batches) for job in jobs}
    found = []
    for index, batch in enumerate(batches):
        label = batch["label"][0].cpu()
        generated = [(title, images[index]) for title, images in answers.items()]
        columns = [("label map", paint(label, data.palette)), *generated, ("photo", batch["image"][0].cpu())]
        found.append(Pictures(batch["name"][0], columns, largest_regions(label, data)))
    return found


def _answers(cell: Network, batches: Sequence[dict[str, Any]]) -> list[Tensor]:
    """Return a network's photographs ``[3, H, W]`` of batches of one; it is loaded for as long as that takes."""
    render: Renderer = renderer(cell)
    return [render(batch)[0].cpu() for batch in batches]


def spread_over(length: int, count: int) -> list[int]:
    """Return up to ``count`` indices at equal steps, each in the middle of its share of ``length``."""
    count = min(count, length)
    return [(2 * index + 1) * length // (2 * count) for index in range(count)]


def largest_regions(label: Tensor, data: Any) -> list[Region]:
    """Return squares in the largest classes of a label map ``[H, W]``, the largest class first; void has none."""
    side = max(1, min(label.shape) // TIMES)
    counts = torch.bincount(label.flatten(), minlength=data.num_classes)[: data.num_classes]
    largest = [int(number) for number in counts.argsort(descending=True, stable=True)[:REGIONS] if counts[number]]
    return [Region(class_name(number, data), *most_uniform(label == number, side), side) for number in largest]


def class_name(number: int, data: Any) -> str:
    """Return the name of a class of label maps: of the scored class that it counts as, or its number."""
    scored = number if data.class_map is None else data.class_map[number]
    return f"class {number}" if scored is None else str(data.class_names[scored])


def most_uniform(inside: Tensor, side: int) -> tuple[int, int]:
    """Return (top, left) of the square that a region ``[H, W]`` fills most; of equal ones, whose surroundings it does.

    The surroundings are the square of three times the side.
    """
    region = inside.float()[None, None]
    share = F.avg_pool2d(region, side, stride=1)[0, 0]
    padded = F.pad(region, (side, side, side, side))
    around = F.avg_pool2d(padded, 3 * side, stride=1)[0, 0]
    best = int((share + 1e-3 * around).argmax())
    return best // share.shape[1], best % share.shape[1]


def sheet(images: Sequence[Pictures], title: str) -> Image.Image:
    """Return the pictures of each image in a row, below it those of its regions, enlarged."""
    rows: list[list[Cell]] = []
    headings = {}
    for pictures in images:
        scale = -(-LEAST // min(pictures.columns[0][1].shape[1:]))
        headings[len(rows)] = pictures.name + (f", enlarged {scale} times" if scale > 1 else "")
        rows.append([(caption, larger(image, scale)) for caption, image in pictures.columns])
        for region in pictures.regions:
            times = scale * TIMES
            headings[len(rows)] = f"{pictures.name}: {region.name}, enlarged {times} times"
            rows.append([(caption, larger(region.cut(image), times)) for caption, image in pictures.columns])
    return draw_sheet(rows, title, headings)


def region_deviation(region: Region, image: Tensor) -> float:
    """Return the standard deviation of luminance in a region, shading removed, 8-bit levels; image ``[3, H, W]``."""
    levels = (luminance(region.cut(image).double()[None])[:, 0] + 1) * 127.5
    return float(deviation(levels)[0, 0])
