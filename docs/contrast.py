"""Draw the README's picture: a comic page and constant grays, without and with NIB.

    python docs/contrast.py RUN_WITHOUT_NIB RUN_WITH_NIB docs/contrast.png

Both are run folders of the same task and budget.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from nibkit.data.comic import comic_page
from nibkit.data.images import to_channels, to_tensor
from nibkit.sheet import draw_sheet, save_picture
from tasks.dithering import DitheringTask

LEVELS = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)


def main(without: str, with_nib: str, target: str) -> None:
    """Halftone the inputs by the best checkpoint of both runs."""
    patches = [torch.full((1, 96, 64), 2 * level - 1) for level in LEVELS]
    page = to_tensor(to_channels(comic_page(201), 1))
    inputs = {"constant grays": torch.cat(patches, dim=2), "comic page": page[:, 8:264, : patches[0].shape[2] * 7]}
    networks = {"input": None, "without NIB": without, "with NIB": with_nib}
    halftones = {title: _render(run, inputs) for title, run in networks.items()}
    rows = [[(f"{title}: {name}", halftones[title][name]) for title in networks] for name in inputs]
    save_picture(
        draw_sheet(rows, "Flatness degradation: the same network and training, without and with NIB"), Path(target)
    )


def _render(run: str | None, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the inputs' halftones by the run's best network; each gray level alone, so that none sees an edge."""
    if run is None:
        return inputs
    task = DitheringTask.load_from_checkpoint(Path(run) / "checkpoints/best.ckpt", map_location="cpu").eval()
    with torch.inference_mode():
        patches = [task.render(p[None])[0] for p in inputs["constant grays"].split(64, dim=2)]
        return {"constant grays": torch.cat(patches, dim=2), "comic page": task.render(inputs["comic page"][None])[0]}


if __name__ == "__main__":
    main(*sys.argv[1:])
