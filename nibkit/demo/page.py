"""The page: its tabs, its look, and the application that answers for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI

from nibkit import __version__
from nibkit.demo.catalogue import Catalogue
from nibkit.demo.color_tab import ColorTab
from nibkit.demo.constant_tab import ConstantTab
from nibkit.demo.image_tab import ImageTab
from nibkit.demo.uploads import MAX_BYTES, MAX_PIXELS

HEAD = f"""
# nibkit
Image-generation networks that do not go flat. Everything is computed on this machine, nothing is sent anywhere. Images
up to {MAX_BYTES / 1e6:.0f} MB and {MAX_PIXELS / 1e6:.1f} megapixels.
"""
# a halftone is shown dot by dot, never enlarged by a blur
CSS = """
.gradio-container { max-width: 1500px !important; margin: auto; }
.dots img { object-fit: scale-down !important; image-rendering: auto; }
.dots:fullscreen img, .dots.fullscreen img { object-fit: contain !important; image-rendering: pixelated; }
.pixels img { image-rendering: pixelated; object-fit: contain !important; }
footer { display: none !important; }
"""
EXPIRY = (600, 3600)  # seconds: how often old files are looked for, and when a file is old


def build_page(catalogue: Catalogue, root: Path) -> gr.Blocks:
    """Return the page.

    Args:
        catalogue: what weights there are.
        root: an existing folder for the files of answers.
    """
    with gr.Blocks(analytics_enabled=False, title=f"nibkit {__version__}", delete_cache=EXPIRY) as page:
        gr.Markdown(HEAD)
        with gr.Tab("Dither", elem_id="tab-dither"):
            images = ImageTab(catalogue, root)
        with gr.Tab("Constant gray", elem_id="tab-constant"):
            ConstantTab(catalogue, root)
        with gr.Tab("Hide colour", elem_id="tab-color"):
            ColorTab(catalogue, root)
        first: Any = page.load(lambda: images.take_example("comic"), None, [images.source, images.preview])
        images.answer(first.success)
    return page


def make_app(catalogue: Catalogue, root: Path) -> FastAPI:
    """Return the application; arguments as of :func:`build_page`."""
    fonts = ["system-ui", "sans-serif"]  # of the visitor's machine
    theme = gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"])
    app: FastAPI = gr.mount_gradio_app(
        FastAPI(openapi_url=None), build_page(catalogue, root), path="/", theme=theme, css=CSS, show_error=False,
        max_file_size=MAX_BYTES, footer_links=[], ssr_mode=False, enable_monitoring=False,
    )  # fmt: skip
    return app
