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
up to {MAX_BYTES / 2**20:.0f} MB and {MAX_PIXELS / 1e6:.1f} megapixels.
"""
# a picture is shown below its label, with an edge, and pixel by pixel where it is enlarged
CSS = """
.gradio-container { max-width: 1500px !important; margin: auto; }
footer { display: none !important; }
.shown .image-frame { display: flex; align-items: center; justify-content: center; padding: 36px 8px 8px; }
.shown img { width: auto !important; height: auto !important; max-width: 100%; max-height: 100%; }
.shown img { outline: 1px solid #bbb; }
.pixels img, .shown:fullscreen img, .shown.fullscreen img { image-rendering: pixelated; object-fit: contain; }
.shown:fullscreen img, .shown.fullscreen img { width: 100% !important; height: 100% !important; outline: none; }
"""
EXPIRY = (600, 3600)  # seconds: how often old files are looked for, and when a file is old


def build_page(catalogue: Catalogue, root: Path) -> gr.Blocks:
    """Return the page.

    Args:
        catalogue: what weights there are.
        root: an existing folder for the files of answers.
    """
    with gr.Blocks(
        analytics_enabled=False, title=f"nibkit {__version__}", fill_width=True, delete_cache=EXPIRY
    ) as page:
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
