"""The tab "Hide colour": a colour image into a gray PNG, and the colours back out of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from nibkit.demo.catalogue import Catalogue
from nibkit.demo.compute import color_psnr, hide_colors, restore_colors, save_example
from nibkit.demo.shared import ONE_AT_A_TIME, BlowUps, guarded, new_folder, picture
from nibkit.demo.uploads import check_upload
from nibkit.errors import UserError

TEXT = """
One network turns a colour image into an ordinary gray PNG, whose fine texture holds the colours; a second one reads
them back. Download the gray, keep it, drop it under *Restore*: the colours return, as long as no pixel has changed.
Saved as JPEG, scaled or turned, the gray has lost them.
"""


class ColorTab:
    """Builds the tab; arguments as of :class:`nibkit.demo.image_tab.ImageTab`."""

    def __init__(self, catalogue: Catalogue, root: Path) -> None:
        self.catalogue, self.root = catalogue, root
        gr.Markdown(TEXT)
        names = list(catalogue.pairs)
        self.pair = gr.Dropdown(names, value=names[0], label="Trained weights", visible=len(names) > 1)
        with gr.Tab("Hide", elem_id="hide"):
            self._hide()
        with gr.Tab("Restore", elem_id="restore"):
            self._restore()

    def _hide(self) -> None:
        """Add the way into the gray."""
        source = gr.State("")
        with gr.Row(equal_height=True):
            file = gr.File(label="Drop a colour image, or take an example", height=170, elem_id="hide-file", scale=3)
            with gr.Column(min_width=160):
                comic = gr.Button("Comic page", elem_id="hide-comic")
                photo = gr.Button("Photo", elem_id="hide-photo")
        with gr.Row():
            labels = "the original", "gray, its colours hidden", "restored from the gray"
            shown = [picture(label, f"hide-{i}", 420) for i, label in enumerate(labels)]
        with gr.Row(equal_height=True):
            figures = gr.Markdown(elem_id="hide-figures")
            download = gr.DownloadButton("Download the gray PNG", interactive=False, elem_id="hide-download",
                                         scale=0, min_width=300)  # fmt: skip
        zoom = BlowUps(shown, labels, "hide-zoom")
        for event in (
            file.upload(take_upload, file, source, show_progress="hidden"),
            comic.click(lambda: self.take_example("comic"), None, source, show_progress="hidden"),
            photo.click(lambda: self.take_example("coffee"), None, source, show_progress="hidden"),
        ):
            outputs = [*shown, figures, download, zoom.files]
            event.success(self.hide, [source, self.pair], outputs, **ONE_AT_A_TIME).success(**zoom.refresh)

    def _restore(self) -> None:
        """Add the way back."""
        file = gr.File(label="Drop a gray PNG that hides colours", height=170, elem_id="restore-file")
        with gr.Row():
            labels = "the gray PNG", "its colours restored"
            shown = [picture(label, f"restore-{i}", 420) for i, label in enumerate(labels)]
        with gr.Row(equal_height=True):
            figures = gr.Markdown(elem_id="restore-figures")
            download = gr.DownloadButton("Download the colour PNG", interactive=False, elem_id="restore-download",
                                         scale=0, min_width=300)  # fmt: skip
        zoom = BlowUps(shown, labels, "restore-zoom")
        outputs = [*shown, figures, download, zoom.files]
        file.upload(self.restore, [file, self.pair], outputs, **ONE_AT_A_TIME).success(**zoom.refresh)

    @guarded
    def take_example(self, name: str) -> str:
        """Return a built-in image."""
        return str(save_example(name, new_folder(self.root)))

    @guarded
    def hide(self, source: str, pair: str) -> tuple[Any, ...]:
        """Return original, gray and restored colours, the figures, the file to download, and the files to enlarge."""
        if not source or not Path(source).exists():
            raise UserError("there is no image yet; drop one or choose an example")
        done = hide_colors(Path(source), new_folder(self.root), self.catalogue.pairs[pair])
        files = (done.restored.with_name("original.png"), done.gray, done.restored)
        restored, gray = color_psnr(done)
        text = (
            f"The restored colours are **{restored:.1f} dB** from the original, the gray {gray:.1f} dB from its "
            f"luminance (PSNR); hidden and restored in {done.seconds:.1f} s."
        )
        return *map(str, files), text, gr.DownloadButton(value=str(done.gray), interactive=True), files

    @guarded
    def restore(self, source: str, pair: str) -> tuple[Any, ...]:
        """Return the gray and its colours, the figures, the file to download, and the files to enlarge."""
        done = restore_colors(Path(source), new_folder(self.root), self.catalogue.pairs[pair])
        text = f"Restored in {done.seconds:.1f} s from the gray alone."
        files = (done.gray, done.restored)
        return *map(str, files), text, gr.DownloadButton(value=str(done.restored), interactive=True), files


@guarded
def take_upload(file: str) -> str:
    """Return a file that can be used."""
    check_upload(Path(file))
    return file
