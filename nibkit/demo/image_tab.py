"""The tab "Dither": an image, halftoned by the same network with its noise switched off and on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from nibkit.demo.catalogue import Catalogue
from nibkit.demo.compute import Halftones, dither_image, draw_blank, halftone_psnr, save_example
from nibkit.demo.shared import ONE_AT_A_TIME, BlowUps, Controls, guarded, new_folder, picture, settings
from nibkit.demo.uploads import check_upload
from nibkit.errors import UserError

OFF = "standard: the same network, its noise switched off"
ON = "NIB: the network as it is, with noise"
TEXT = """
A halftone has only black and white dots. A convolutional network that sees a constant region, as in a comic, gives
every pixel of it the same answer: all black or all white, whatever the gray (**flatness degradation**). The noise
incentive block (NIB) adds a little noise in front, so that no two pixels are alike, and dots come out. Both pictures
are made by **one** network, on the left with its noise switched off. A network trained without NIB draws outlines
better than that, but constant regions go flat just the same.
"""
GRAYS = ["#000000", "#404040", "#808080", "#b0b0b0", "#ffffff"]


class ImageTab:
    """Builds the tab.

    Args:
        catalogue: what weights there are.
        root: where answers go.
    """

    def __init__(self, catalogue: Catalogue, root: Path) -> None:
        self.root = root
        gr.Markdown(TEXT)
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                self._inputs()
                self.controls = Controls(catalogue.halftoning, "dither")
                self.run = gr.Button("Halftone", variant="primary", elem_id="dither-run")
            with gr.Column(scale=4):
                self._outputs()
        self._connect()

    def _inputs(self) -> None:
        """Add what an image can come from."""
        self.source = gr.State("")
        with gr.Tab("Upload"):
            self.file = gr.File(label="Drop an image, or take an example", height=170, elem_id="dither-file")
            with gr.Row():
                self.comic = gr.Button("Comic page", size="sm", min_width=120, elem_id="dither-comic")
                self.photo = gr.Button("Photo", size="sm", min_width=120, elem_id="dither-photo")
        with gr.Tab("Draw"):
            brush = gr.Brush(default_size=40, colors=GRAYS, default_color=GRAYS[0], color_mode="defaults")
            self.sketch = gr.ImageEditor(
                draw_blank(), show_label=False, type="pil", image_mode="RGB", sources=(), brush=brush,
                layers=False, transforms=(), canvas_size=(512, 512), fixed_canvas=True, height=340, format="png",
                elem_id="dither-sketch",
            )  # fmt: skip
            self.drawn = gr.Button("Halftone the drawing", size="sm", elem_id="dither-drawn")
        self.preview = gr.Image(label="The image", height=230, interactive=False, type="filepath", format="png",
                                buttons=["fullscreen"], elem_id="dither-input", elem_classes="shown")  # fmt: skip

    def _outputs(self) -> None:
        """Add what is shown."""
        with gr.Row():
            self.off, self.on = picture(OFF, "dither-off"), picture(ON, "dither-on")
        with gr.Row(equal_height=True):
            self.figures = gr.Markdown(elem_id="dither-figures")
            self.download = gr.DownloadButton("Download the 1-bit PNG", interactive=False, elem_id="dither-download",
                                              scale=0, min_width=300)  # fmt: skip
        self.zoom = BlowUps((self.off, self.on), ("gray image", "noise switched off", "NIB"), "dither-zoom")

    def _connect(self) -> None:
        """Say what happens when."""
        chosen: dict[str, Any] = {"outputs": [self.source, self.preview], "show_progress": "hidden"}
        events = [
            self.file.upload(self.take_upload, self.file, **chosen),
            self.comic.click(lambda: self.take_example("comic"), **chosen),
            self.photo.click(lambda: self.take_example("coffee"), **chosen),
            self.drawn.click(self.take_drawing, self.sketch, **chosen),
        ]
        for event in events:
            self.answer(event.success)
        self.answer(self.run.click)

    def answer(self, when: Any) -> None:
        """Halftone the image ``when`` an event happens."""
        shown = [self.off, self.on, self.figures, self.download, self.zoom.files]
        inputs = [self.source, *self.controls.inputs]
        when(self.halftone, inputs, shown, **ONE_AT_A_TIME).success(**self.zoom.refresh)

    @guarded
    def take_upload(self, file: str) -> tuple[str, str]:
        """Return a file that can be used, and its preview."""
        check_upload(Path(file))
        return file, file

    @guarded
    def take_example(self, name: str) -> tuple[str, str]:
        """Return a built-in image, and its preview."""
        path = str(save_example(name, new_folder(self.root)))
        return path, path

    @guarded
    def take_drawing(self, value: dict[str, Image.Image] | None) -> tuple[str, str]:
        """Return what was drawn, as a file, and its preview."""
        if not value or value.get("composite") is None:
            raise UserError("nothing is drawn yet; draw something first")
        path = new_folder(self.root) / "drawing.png"
        value["composite"].save(path)
        return str(path), str(path)

    @guarded
    def halftone(self, source: str, *given: Any) -> tuple[str, str, str, gr.DownloadButton, tuple[Path, ...]]:
        """Return both halftones, their figures, the file to download, and the files to enlarge."""
        if not source or not Path(source).exists():
            raise UserError("there is no image yet; drop one, draw one, or choose an example")
        done = dither_image(Path(source), new_folder(self.root), settings(*given))
        download = gr.DownloadButton(value=str(done.on), interactive=True)
        return str(done.off), str(done.on), describe(done), download, (done.gray, done.off, done.on)


def describe(done: Halftones) -> str:
    """Return the figures of a pair of halftones in a sentence."""
    off, on = halftone_psnr(done)
    with Image.open(done.gray) as image:
        width, height = image.size
    return (
        f"Seen from afar (PSNR after a Gaussian filter): **{off:.1f} dB** with the noise switched off, "
        f"**{on:.1f} dB** with NIB. {width}x{height} pixels, both in {done.seconds:.1f} s."
    )
