"""Tiles in Markdown, read from the disk."""

from pathlib import Path

from markupsafe import Markup
from PIL import Image

from capetown.pools.tiles.reading import UnreadableTileError, read_tile
from capetown.reporting.pictures import inlined, jpeg


def tile_picture(root: Path, path: str) -> Markup:
    """A tile in Markdown; nothing where it is not within the folder, or cannot be read."""
    file = root / path
    if ".." in file.parts or not file.is_relative_to(root):
        return Markup("")
    try:
        return inlined(jpeg(Image.fromarray(read_tile(file))))
    except (UnreadableTileError, ValueError):
        return Markup("")
