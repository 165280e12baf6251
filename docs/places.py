"""Print the tone of a run's photos by where they read the noise field, and its dots on light grays.

    python docs/places.py RUN

PSNR (sigma 2.0) of the embedded test photos by the best checkpoint of a run of task=dithering on them: at (0, 0), as
tests read it, and at five places that no training crop can read. Then the share of black dots on constant grays.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio

from nibkit.config import load_config
from nibkit.data.sets import FIELD
from nibkit.filters import gaussian_filter
from nibkit.make import make
from tasks.dithering import DitheringTask

PLACES = ((0, 0), (FIELD, 0), (0, FIELD), (FIELD, FIELD), (3 * FIELD, 5 * FIELD), (7 * FIELD + 13, FIELD + 29))
LIGHT = (0.9, 0.93, 0.95, 0.96, 0.97)


@torch.inference_mode()
def main(run: str) -> None:
    """Print a line for each place, and one for each gray."""
    task = DitheringTask.load_from_checkpoint(
        Path(run) / "checkpoints" / "best.ckpt", map_location="cpu", weights_only=True
    ).eval()
    data = make("data", load_config(["task=dithering"]).data)
    data.prepare()
    photos = [sample["image"] for sample in data.test_dataloader()[0]]
    for place in PLACES:
        values = [tone(task.render(photo, torch.tensor([place])), photo) for photo in photos]
        print(place, " / ".join(f"{value:.2f}" for value in values))
    for level in LIGHT:
        halftone = task.render(torch.full((1, 1, 256, 256), 2 * level - 1), torch.zeros(1, 2, dtype=torch.int64))
        print(f"gray {level}: {float((halftone < 0).float().mean()):.4f} black")


def tone(halftone: Tensor, image: Tensor) -> float:
    """Return the PSNR of a halftone's tone, both ``[1, 1, H, W]`` in [-1, 1], in dB."""
    blurred = (gaussian_filter((each + 1) / 2, 2.0) for each in (halftone, image))
    return float(peak_signal_noise_ratio(*blurred, data_range=1.0))


if __name__ == "__main__":
    main(*sys.argv[1:])
