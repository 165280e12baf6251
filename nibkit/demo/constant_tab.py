"""The tab "Constant gray": one gray level, its halftones and the spectrum of their dots."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gradio as gr

from nibkit.demo.catalogue import Catalogue
from nibkit.demo.compute import dither_constant, share_of_white, spectrum
from nibkit.demo.image_tab import OFF, ON
from nibkit.demo.shared import ONE_AT_A_TIME, BlowUps, Controls, guarded, new_folder, picture, settings
from nibkit.plots import save_plot

TEXT = """
The hardest image is the plainest: one gray everywhere. With its noise switched off the network makes it all black or
all white. With the NIB the share of white dots is the gray. The **spectrum** tells how the dots are spread: evenly
spread dots (*blue noise*) have little power at low frequencies, on the left; clumps would show there. White noise, the
dashed line, has the same power everywhere. *Anisotropy* is high where dots line up in one direction.
"""


class ConstantTab:
    """Builds the tab; arguments as of :class:`nibkit.demo.image_tab.ImageTab`."""

    def __init__(self, catalogue: Catalogue, root: Path) -> None:
        self.root = root
        gr.Markdown(TEXT)
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                self.level = gr.Slider(
                    5, 95, value=40, step=1, label="Gray, % of white", elem_id="constant-level", interactive=True
                )
                self.controls = Controls(catalogue.halftoning, "constant")
                self.run = gr.Button("Halftone the gray", variant="primary", elem_id="constant-run")
            with gr.Column(scale=4):
                self._outputs()
        self.answer(self.run.click)
        self.answer(self.level.release)

    def _outputs(self) -> None:
        """Add what is shown."""
        with gr.Row():
            self.off, self.on = picture(OFF, "constant-off", 420), picture(ON, "constant-on", 420)
        self.figures = gr.Markdown(elem_id="constant-figures")
        self.plot = picture("Spectrum of the NIB's dots", "constant-plot", None)
        self.zoom = BlowUps((self.off, self.on), ("constant gray", "noise switched off", "NIB"), "constant-zoom")

    def answer(self, when: Any) -> None:
        """Halftone the gray ``when`` an event happens."""
        shown = [self.off, self.on, self.figures, self.plot, self.zoom.files]
        inputs = [self.level, *self.controls.inputs]
        when(self.halftone, inputs, shown, **ONE_AT_A_TIME).success(**self.zoom.refresh)

    @guarded
    def halftone(self, percent: float, *given: Any) -> tuple[str, str, str, str, tuple[Path, ...]]:
        """Return both halftones, their figures, the plot, and the files to enlarge."""
        level, folder = percent / 100, new_folder(self.root)
        done = dither_constant(level, folder, settings(*given))
        figure, ratio = spectrum(done.on, level)
        save_plot(figure, folder / "spectrum.png")
        low = "no dots, so no spectrum" if math.isnan(ratio) else f"low-frequency ratio {ratio:.2f} (white noise: 1)"
        text = (
            f"Of {percent:.0f} % white: **{share_of_white(done.off):.1%}** with the noise switched off, "
            f"**{share_of_white(done.on):.1%}** with NIB; {low}."
        )
        return str(done.off), str(done.on), text, str(folder / "spectrum.png"), (done.gray, done.off, done.on)
