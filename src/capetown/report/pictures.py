"""Tiles as small pictures, for Markdown and for HTML."""

import base64
import io
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup, escape
from PIL import Image

from capetown.errors import one_line
from capetown.imagery.reading import UnreadableTileError, read_tile
from capetown.params import BandRendering
from capetown.report.formatting import backslashed, in_html

QUALITY = 82
# Pixels; pages show at most 160, so this suits any screen.
SIDE = 512


def jpeg(image: Image.Image) -> bytes:
    """A picture of at most `SIDE` pixels as JPEG, a tenth of a PNG's size for a photograph."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def linked(path: str, alt: str = "") -> Markup:
    """A picture in Markdown by its path, which may contain any character."""
    # Underscores only emphasise, which an alternative text does not show.
    text = escape(backslashed(alt)).replace("\\_", "_")
    return Markup(f"![{text}]({quote(path)})")


def inlined(picture: bytes, alt: str = "") -> Markup:
    """A JPEG in HTML, as part of the page."""
    data = base64.b64encode(picture).decode()
    return Markup(f'<img alt="{in_html(alt)}" src="data:image/jpeg;base64,{data}">')


def tile_picture(root: Path, rule: BandRendering, path: str) -> Markup | str:
    """A tile in HTML as the model sees it, or the reason why it cannot be read.

    The result is empty if the tile does not exist, or lies outside of the folder `root`.
    """
    file = root / path
    if ".." in file.parts or not file.is_relative_to(root):
        return ""
    try:
        return inlined(jpeg(Image.fromarray(read_tile(file, rule)))) if file.exists() else ""
    except (UnreadableTileError, ValueError) as error:
        return f"no picture: {one_line(error)}"
