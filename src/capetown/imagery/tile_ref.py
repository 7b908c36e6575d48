"""References to tiles: files, and windows of larger images."""

from typing import NamedTuple


class Window(NamedTuple):
    """A part of an image: its upper left corner and its size, in pixels."""

    left: int
    top: int
    width: int
    height: int


class TileRef(NamedTuple):
    """Where a tile comes from.

    Attributes:
        path: as asked for; that of the row.
        url: the file, for any working directory.
        size: of the file, in bytes; 0 if it is not known.
        mark: of the file and of those beside it: their dates, or what else changes with their
            content, as far as it is known.
        world: the URL of the world file beside it; empty if there is none.
        prj: likewise, of the file that names the CRS.
        window: the part of the image that is the tile; None for all of it.
        error: why the image cannot be cut into windows; empty if it can.
    """

    path: str
    url: str
    size: int = 0
    mark: str = ""
    world: str = ""
    prj: str = ""
    window: Window | None = None
    error: str = ""
