"""Tiles in Markdown, read from the disk."""

from pathlib import Path

from markupsafe import Markup
from PIL import Image

from capetown.errors import one_line
from capetown.imagery.reading import UnreadableTileError, read_tile
from capetown.params import BandRendering
from capetown.report.pictures import inlined, jpeg


def tile_picture(root: Path, rule: BandRendering, path: str) -> Markup | str:
    """A tile in Markdown as the model sees it; why not, where it cannot be read.

    Args:
        root: the folder that the path is relative to.
        rule: how tiles are read.
        path: the tile's; nothing is shown of one that is not there, or not within the folder.
    """
    file = root / path
    if ".." in file.parts or not file.is_relative_to(root):
        return ""
    try:
        return inlined(jpeg(Image.fromarray(read_tile(file, rule)))) if file.exists() else ""
    except (UnreadableTileError, ValueError) as error:
        return f"no picture: {one_line(error)}"
