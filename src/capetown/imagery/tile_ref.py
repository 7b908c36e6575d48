"""References to tiles: files, and windows of larger images."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import NamedTuple, TypeVar

File = TypeVar("File")


class Window(NamedTuple):
    """A part of an image: its upper left corner and its size, in pixels."""

    left: int
    top: int
    width: int
    height: int


class Sidecars(NamedTuple):
    """URLs of the files beside an image that locate it; empty for those that do not exist.

    Attributes:
        aux: ``.aux.xml``, in which GIS programs keep a corrected georeference.
        world: the world file.
        prj: the CRS as WKT.
    """

    aux: str = ""
    world: str = ""
    prj: str = ""


class TileRef(NamedTuple):
    """A tile, before it is read.

    Attributes:
        path: as given by the user.
        url: of the file, independent of the working directory.
        size: of the file, in bytes; 0 if unknown.
        mark: changes with the content of the file and of its sidecars.
        sidecars: the files beside it that locate it.
        window: the part of the image that is the tile; None for the whole image.
        error: why the tile cannot be read or cut into windows; empty if it can.
    """

    path: str
    url: str
    size: int = 0
    mark: str = ""
    sidecars: Sidecars = Sidecars()
    window: Window | None = None
    error: str = ""


def find_sidecars(location: str, files: Mapping[str, File]) -> list[File | None]:
    """An image's ``.aux.xml`` file, world file and ``.prj`` file, each None if it is missing.

    `files` are those of its folder by location, and by location in lower case.
    """
    names = sidecar_names(location)
    aux, *worlds, prj = (files.get(name) or files.get(name.lower()) for name in names)
    return [aux, next(filter(None, worlds), None), prj]


def sidecar_names(location: str) -> list[str]:
    """Possible names of an image's ``.aux.xml``, of its world file, in order, and of its CRS."""
    suffix = PurePosixPath(location).suffix
    stem = location.removesuffix(suffix)
    short = f"{suffix[:2]}{suffix[-1]}w"
    worlds = [short, f"{suffix}w", f"{short}x", ".wld"] if suffix else [".wld"]
    return [f"{location}.aux.xml", *(stem + ending for ending in (*worlds, ".prj"))]
