"""Labelled tiles in their class folders: found, read and profiled."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path

from capetown.city import CLASSES, TILE_NAME
from capetown.errors import CapetownError
from capetown.imagery.reading import AS_STORED
from capetown.imagery.tiff import Pixels, UnreadableTileError
from capetown.params import BandRendering
from capetown.pools.dataset.drift import TileProfile, read_with_profile

SUFFIXES = (".tif", ".tiff")


OTHER_SUFFIXES = (".png", ".jpg", ".jpeg", ".jp2", ".webp", ".bmp", ".gif")


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
    """True if a file's name ends as a tile's does."""
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


def stray_images(folder: Path, root: Path) -> list[tuple[str, str]]:
    """Images under a folder that `find_tiles` passes over: path and reason, sorted by path.

    Args:
        folder: holds ``yes`` and ``no``.
        root: what the paths are relative to.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.name.lower().endswith((*SUFFIXES, *OTHER_SUFFIXES)) or not path.is_file():
            continue
        if path.parent.parent != folder or path.parent.name not in CLASSES:
            found.append((path, f"not directly in {folder.name}/yes or {folder.name}/no."))
        elif not is_tile_name(path.name):
            found.append((path, "no TIFF file, as tiles are."))
    return [(path.relative_to(root).as_posix(), why) for path, why in found]


def pixel_digest(pixels: Pixels) -> str:
    """A digest of an image's size and pixels: equal for equal images, whatever their files."""
    return sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def profile_tiles(
    tiles: Sequence[Tile],
    root: Path,
    rule: BandRendering = AS_STORED,
    keep: Callable[[int, Pixels], object] = lambda *_: None,
) -> tuple[dict[Tile, tuple[str, TileProfile]], dict[Tile, str]]:
    """Read tiles with all cores.

    Args:
        tiles: in any order.
        root: what their paths are relative to.
        rule: how they are read.
        keep: is given each that can be read, its row and its pixels, on any thread.

    Returns:
        The `pixel_digest` and the look of each that can be read, and why each other one cannot.
    """

    def look(row: int, tile: Tile) -> tuple[str, TileProfile] | str:
        try:
            pixels, found = read_with_profile(root / tile.path, rule)
        except UnreadableTileError as error:
            return str(error)
        keep(row, pixels)
        return pixel_digest(pixels), found

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(tiles, pool.map(look, count(), tiles), strict=True))
    reasons = {tile: reason for tile, reason in found.items() if isinstance(reason, str)}
    return {t: pair for t, pair in found.items() if not isinstance(pair, str)}, reasons
