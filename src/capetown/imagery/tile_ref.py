"""References to tiles: files, and windows of larger images."""

from typing import NamedTuple


class Window(NamedTuple):
    """A part of an image: its upper left corner and its size, in pixels."""

    left: int
    top: int
    width: int
    height: int


class TileRef(NamedTuple):
    """A tile, before it is read.

    Attributes:
        path: as given by the user.
        url: of the file, independent of the working directory.
        size: of the file, in bytes; 0 if unknown.
        mark: changes with the content of the file and its world and ``.prj`` files, such as their
            dates.
        world: URL of the world file; empty if there is none.
        prj: URL of the ``.prj`` file; empty if there is none.
        window: the part of the image that is the tile; None for the whole image.
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
