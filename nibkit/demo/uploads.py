"""What the page takes from a visitor: limits, and messages without this machine's folders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from nibkit.data.images import reason
from nibkit.errors import UserError

MAX_BYTES = 20 * 2**20
MAX_PIXELS = 2048 * 2048
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "GIF")  # not those that Pillow hands to other programs


def check_upload(path: Path) -> None:
    """Refuse a file that is too large or no image, by its header alone.

    Raises:
        UserError: one sentence that says which.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UserError(
            f"'{path.name}' has {size / 2**20:.1f} MB, more than the {MAX_BYTES / 2**20:.0f} MB that this page takes; "
            "give a smaller file, or use the command line, which takes any size"
        )
    with named(path):
        width, height = _dimensions(path)
    if width * height > MAX_PIXELS:
        raise UserError(
            f"'{path.name}' has {width}x{height} pixels, more than the {MAX_PIXELS / 1e6:.1f} megapixels "
            f"({MAX_PIXELS**0.5:.0f}x{MAX_PIXELS**0.5:.0f}) that this page takes; "
            "scale it down, or use the command line, which takes any size"
        )


def _dimensions(path: Path) -> tuple[int, int]:
    """Return the (width, height) that the header of an image file tells."""
    wanted = "give a PNG, JPEG, WebP or TIFF"
    try:
        with Image.open(path) as image:
            size, format_name = image.size, image.format
    except Exception as error:  # Pillow raises many kinds for a broken file
        raise UserError(f"cannot read image '{path}': {reason(error)}; {wanted}") from error
    if format_name not in FORMATS:
        raise UserError(f"cannot read image '{path}': it is {format_name}; {wanted}")
    return size


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Call ``path`` by its name alone in errors: where an upload lies is not the visitor's business."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(path), path.name)) from error
