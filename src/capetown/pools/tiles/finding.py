"""Finding tiles: in one folder a class, and named after the map sheet they were cut from.

Files that are not ``.tif`` or ``.tiff``, in any case, are no tiles: the City puts a ``manifest``
beside them.
"""

from dataclasses import dataclass
from pathlib import Path

from capetown.city import CLASSES, TILE_NAME
from capetown.errors import CapetownError

SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True, order=True)
class Tile:
    """A labelled tile: its path relative to some root, its class, and its map sheet."""

    path: str
    label: str
    sheet: str


def sheet_of(name: str) -> str:
    """The map sheet in a file name: ``W35A`` of ``W35A_7_58.tif``.

    A name of another form stands for a sheet of its own.
    """
    stem = Path(name).stem
    matched = TILE_NAME.fullmatch(stem)
    return matched["sheet"] if matched else stem


def is_tile_name(name: str) -> bool:
    """Whether a file's name ends as a tile's does."""
    return name.lower().endswith(SUFFIXES)


def find_tiles(folder: Path, root: Path) -> list[Tile]:
    """The tiles in the class folders of a folder, sorted by path.

    Args:
        folder: holds ``yes`` and ``no``.
        root: what the paths of the tiles are relative to.

    Raises:
        CapetownError: if a class folder is missing or has no tiles.
    """
    tiles = []
    for label in CLASSES:
        if not (folder / label).is_dir():
            raise CapetownError(f"{folder / label}: no such folder; tiles lie in `yes` and `no`.")
        paths = [p for p in (folder / label).iterdir() if is_tile_name(p.name)]
        if not paths:
            raise CapetownError(f"{folder / label}: no tiles (*.tif) in it.")
        tiles += [Tile(p.relative_to(root).as_posix(), label, sheet_of(p.name)) for p in paths]
    return sorted(tiles)
