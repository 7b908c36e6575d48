"""Tiles as small pictures, and pictures in Markdown."""

import base64
import io
from urllib.parse import quote

from markupsafe import Markup
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


def linked(path: str) -> Markup:
    """A picture in Markdown by its path, whatever signs the path is made of."""
    return Markup(f"![]({quote(path)})")


def inlined(picture: bytes) -> Markup:
    """A JPEG in Markdown, all of it."""
    return Markup(f"![](data:image/jpeg;base64,{base64.b64encode(picture).decode()})")
