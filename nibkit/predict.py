"""Outputs for a folder of images: ``mode=predict input=DIR output=DIR ckpt_path=X``."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.progress import track

from nibkit.data.folder import image_progress
from nibkit.data.images import read_image, save_png, to_tensor
from nibkit.data.scan import cache_folder, check_images, find_images
from nibkit.errors import UserError
from nibkit.files import check_writable, png_names

log = logging.getLogger(__name__)


def predict(config: DictConfig) -> None:
    """Render every image below ``config.input`` to a PNG of the same stem below ``config.output``."""
    from nibkit.make import make_task

    if not config.input or not config.output:
        raise UserError("mode=predict needs input=IMAGES and output=DIR")
    jobs = plan(Path(config.input), Path(config.output))
    task = make_task(config)
    if not getattr(task, "reads_images", True):
        raise UserError(
            "mode=predict reads images, but this task's network reads label maps; use: nibkit synthesize LABELS OUT "
            "--checkpoint RUN_DIR/checkpoints/best.ckpt"
        )
    with image_progress("checking images") as progress:
        check_images([source for source, _ in jobs], 1, cache_folder(), progress)
    cuda = torch.cuda.is_available() and config.trainer.accelerator in ("auto", "gpu", "cuda")
    task.eval().to(device := torch.device("cuda" if cuda else "cpu"))
    channels = int(task.backbone.in_channels)  # type: ignore[union-attr,arg-type]
    with torch.inference_mode():
        for source, target in track(jobs, "rendering"):
            image = to_tensor(read_image(source, channels))[None].to(device)
            save_png(task.render(image)[0].cpu(), target)  # type: ignore[operator]
    log.info("wrote %d image(s) to %s", len(jobs), config.output)


def plan(source: Path, output: Path) -> list[tuple[Path, Path]]:
    """Return (input, output) of every image; sub-folders are kept.

    Raises:
        UserError: nothing to read, nowhere to write, or two images that would become one file.
    """
    images = [source] if source.is_file() else find_images(source, "input")
    root = source.parent if source.is_file() else source
    jobs = png_names(images, root, output)
    check_writable(output, "output")
    return jobs
