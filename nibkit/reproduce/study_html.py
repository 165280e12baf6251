"""A study as one HTML page that needs nothing else: no network, no further file."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from string import Template
from typing import Any

from nibkit.reproduce.render import Cells
from nibkit.reproduce.study_text import Section, sections

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
Picture = tuple[str, bytes]

# the policy keeps a browser from loading anything, whatever the texts say
PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
<h1>$title</h1>
$body
</main>
<script>$script</script>
</body>
</html>
""")

STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1c1c1e; --soft: #f1f1f4; --line: #d0d0d6; --link: #0b57d0 }
@media (prefers-color-scheme: dark) {
  :root { --back: #161618; --text: #e6e6ea; --soft: #232327; --line: #3c3c42; --link: #8ab4f8 }
}
body { margin: 0; background: var(--back); color: var(--text); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 72rem; margin: auto; padding: 1rem }
h1, h2 { line-height: 1.25 }
p { max-width: 50rem }
p, h1, h2, figcaption { overflow-wrap: anywhere }
a { color: var(--link) }
code { background: var(--soft); padding: .1em .3em; border-radius: 3px; font-size: .9em }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th { font-weight: 600 }
tbody th { font-weight: 400 }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--back) }
@media (max-width: 40rem) { th:first-child { white-space: normal; min-width: 7rem } }
figure { margin: 1.5rem 0 }
.plot { display: block; max-width: 100%; height: auto; background: #fff }
.frame { overflow: auto; max-height: 90vh; border: 1px solid var(--line) }
.zoom { display: block; padding: 0; border: 0; background: none; cursor: zoom-in }
.zoom[data-zoom="4"] { cursor: zoom-out }
.zoom img { display: block; max-width: none; image-rendering: pixelated }
"""

# A pixel of the picture is a whole number of pixels of the screen, whatever the screen's own scale is.
SCRIPT = """
const NEXT = {1: 2, 2: 4, 4: 1};
function show(button, zoom) {
  const picture = button.firstElementChild, screen = window.devicePixelRatio || 1;
  const scale = zoom * Math.max(1, Math.round(screen)) / screen;
  button.dataset.zoom = zoom;
  picture.style.width = picture.getAttribute("width") * scale + "px";
  picture.style.height = picture.getAttribute("height") * scale + "px";
  button.closest("figure").querySelector("output").textContent = zoom + "x";
}
function enlarge(button, event) {
  const frame = button.parentElement, before = button.getBoundingClientRect(), edge = frame.getBoundingClientRect();
  const x = event.clientX - before.left, y = event.clientY - before.top;
  show(button, NEXT[button.dataset.zoom]);
  const growth = button.getBoundingClientRect().width / before.width;
  frame.scrollTo(Math.round(x * growth - (event.clientX - edge.left)),
                 Math.round(y * growth - (event.clientY - edge.top)));
}
const buttons = document.querySelectorAll(".zoom");
const redraw = () => buttons.forEach(button => show(button, Number(button.dataset.zoom)));
buttons.forEach(button => button.addEventListener("click", event => enlarge(button, event)));
window.addEventListener("resize", redraw);
redraw();
"""


def page(content: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    """Return the page of a study.

    Args:
        content: the study's plain values.
        pictures: captions and PNG bytes: the plot first, then halftones, shown pixel by pixel.

    Raises:
        ValueError: bytes that are not a PNG.
    """
    return document(content["title"], sections(content), pictures[:1], pictures[1:], content)


def document(
    title: str,
    parts: Sequence[Section],
    plots: Sequence[Picture],
    halftones: Sequence[Picture],
    content: Mapping[str, Any],
) -> str:
    """Return a page: introduction, plots, tables, then pictures shown pixel by pixel, and ``content`` as a file."""
    body = [
        *(_section(section) for section in parts[:1]),
        *(_plot(*picture) for picture in plots),
        *(_section(section) for section in parts[1:]),
        *(["<h2>Pictures</h2>\n<p>A click enlarges a picture: 1x, 2x, 4x.</p>"] if halftones else []),
        *(_halftone(*picture) for picture in halftones),
        _download(content),
    ]
    return PAGE.substitute(title=escape(title), style=STYLE, script=SCRIPT, body="\n".join(body))


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.heading)}</h2>"] if section.heading else []
    parts += [f"<p>{_text(paragraph)}</p>" for paragraph in section.paragraphs]
    if section.rows:
        parts.append(_table(section))
    return "\n".join(parts)


def _text(text: str) -> str:
    """Return escaped text, what stands between backticks as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def _table(section: Section) -> str:
    """Return a table in a frame of its own, which scrolls where the screen is narrow."""
    head = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in section.head)
    rows = "\n".join(map(_row, section.rows))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(section.heading)}">\n<table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>"
    )


def _row(cells: Cells) -> str:
    first, *others = map(_text, cells)
    return f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>'


def _plot(caption: str, png: bytes) -> str:
    return f"<figure>\n{_image(caption, png, 'plot')}\n<figcaption>{escape(caption)}</figcaption>\n</figure>"


def _halftone(caption: str, png: bytes) -> str:
    """Return a picture that is never resampled: it zooms by whole numbers and scrolls."""
    return (
        f"<figure>\n<figcaption>{escape(caption)} (<output>1x</output>)</figcaption>\n"
        f'<div class="frame"><button type="button" class="zoom" data-zoom="1" aria-label="enlarge: {escape(caption)}">'
        f"{_image(caption, png, 'halftone')}</button></div>\n</figure>"
    )


def _image(caption: str, png: bytes, kind: str) -> str:
    width, height = _size(caption, png)
    return (
        f'<img class="{kind}" width="{width}" height="{height}" alt="{escape(caption)}" '
        f'src="{_data_uri("image/png", png)}">'
    )


def _size(caption: str, png: bytes) -> tuple[int, int]:
    """Return width and height in pixels, which stand at the start of every PNG."""
    if not png.startswith(PNG_SIGNATURE) or len(png) < 24:
        raise ValueError(f"the picture '{caption}' is not a PNG")
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def _download(content: Mapping[str, Any]) -> str:
    name = escape(f"{content['experiment']}.json")
    uri = _data_uri("application/json", json.dumps(content, indent=1, ensure_ascii=False).encode())
    return f'<p><a download="{name}" href="{uri}">All values of this page, {name}</a></p>'


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
