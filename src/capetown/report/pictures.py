"""Tiles as small pictures, and pictures in Markdown."""

import base64
import io
from urllib.parse import quote

from markupsafe import Markup, escape
from PIL import Image

QUALITY = 82
# A picture is shown at most 160 pixels wide; this is enough for any screen, and for a closer look.
SIDE = 512


def jpeg(image: Image.Image) -> bytes:
    """A picture as JPEG, a tenth of a PNG's size for a photograph, and at most `SIDE` pixels."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def linked(path: str, alt: str = "") -> Markup:
    """A picture in Markdown by its path, whatever signs the path is made of."""
    return Markup(f"![{_words(alt)}]({quote(path)})")


def inlined(picture: bytes, alt: str = "") -> Markup:
    """A JPEG in HTML, all of it."""
    data = base64.b64encode(picture).decode()
    return Markup(f'<img alt="{escape(alt)}" src="data:image/jpeg;base64,{data}">')


def _words(alt: str) -> str:
    """An alternative text that ends neither itself nor a table's cell."""
    return "".join("_" if sign in "\\[]|<>`*&\n" else sign for sign in alt)
