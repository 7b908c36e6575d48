"""Labelled tiles in their class folders: found, read and profiled."""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pandas as pd

from capetown.city import CLASSES, TILE_NAME
from capetown.errors import CapetownError
from capetown.imagery.reading import AS_STORED
from capetown.imagery.tiff import Pixels, UnreadableTileError
from capetown.params import BandRendering
from capetown.pools.dataset.drift import TileProfile, read_with_profile
from capetown.pools.dataset.name_check import Edges, edges_of

SUFFIXES = (".tif", ".tiff")
OTHER_SUFFIXES = (".png", ".jpg", ".jpeg", ".jp2", ".webp", ".bmp", ".gif")


@dataclass(frozen=True, order=True)
class Tile:
    """A labelled tile: its path relative to some root, its class, map sheet, and group."""

    path: str
    label: str
    sheet: str
    group: str = ""


def match_name(path: str) -> re.Match[str] | None:
    """The sheet, block and cell in the name of a tile's file; None if it has another form."""
    return TILE_NAME.fullmatch(Path(path).stem)


def sheet_of(path: str) -> str:
    """The map sheet in the name of a file: ``W35A`` of ``W35A_7_58.tif``; else the name's stem."""
    matched = match_name(path)
    return matched["sheet"] if matched else Path(path).stem


def find_tiles(folder: Path, root: Path) -> list[Tile]:
    """The tiles in and below the folders ``yes`` and ``no`` of a folder.

    They are sorted by their path relative to `root`.

    Raises:
        CapetownError: a class folder is missing or has no tiles.
    """
    tiles = []
    for label in CLASSES:
        if not (folder / label).is_dir():
            raise CapetownError(
                "no such folder", where=folder / label, fix="put the tiles into `yes` and `no`"
            )
        paths = [p for p in (folder / label).rglob("*") if p.name.lower().endswith(SUFFIXES)]
        if not paths:
            raise CapetownError(
                "no tiles (*.tif) in it", where=folder / label, fix="add some, as TIFF"
            )
        tiles += [Tile(p.relative_to(root).as_posix(), label, sheet_of(p.name)) for p in paths]
    return sorted(tiles)


def stray_images(folder: Path, root: Path) -> list[tuple[str, str]]:
    """Images under a folder that `find_tiles` ignores: path relative to `root`, and reason."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.name.lower()
        if not name.endswith((*SUFFIXES, *OTHER_SUFFIXES)) or not path.is_file():
            continue
        if not any(path.is_relative_to(folder / label) for label in CLASSES):
            found.append((path, f"not in {folder.name}/yes or {folder.name}/no"))
        elif not name.endswith(SUFFIXES):
            found.append((path, "not a TIFF file"))
    return [(path.relative_to(root).as_posix(), why) for path, why in found]


def reduced_sides(inventory: Path) -> dict[str, int]:
    """The side in pixels that `download` downsampled tiles to, by path; without the originals.

    Raises:
        CapetownError: there is no inventory.
    """
    try:
        rows = pd.read_csv(inventory, dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise CapetownError(
            "no such file", where=inventory, fix="run `dvc repro download_tiles`"
        ) from error
    reduced = rows[rows["kept_sha256"] != rows["sha256"]]
    return dict(zip(reduced["key"], reduced["tile_side"].astype(int), strict=True))


def pixel_digest(pixels: Pixels) -> str:
    """A digest of an image's size and pixels, which does not depend on the file format."""
    return sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def profile_tiles(
    tiles: Sequence[Tile], root: Path, rendering: BandRendering = AS_STORED
) -> tuple[list[Tile], list[str], list[TileProfile], list[Edges], dict[str, str]]:
    """Read tiles with all cores. Their paths are relative to `root`.

    Returns:
        The readable tiles, the `pixel_digest`, profile and edges of each, and the reason for each
        path that cannot be read.
    """

    def read(tile: Tile) -> tuple[str, TileProfile, Edges] | str:
        try:
            pixels, profile = read_with_profile(root / tile.path, rendering)
        except UnreadableTileError as error:
            return str(error)
        return pixel_digest(pixels), profile, edges_of(pixels)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(zip(tiles, pool.map(read, tiles), strict=True))
    reasons = {tile.path: reason for tile, reason in found if isinstance(reason, str)}
    readable = [(tile, *result) for tile, result in found if not isinstance(result, str)]
    return (
        [tile for tile, _, _, _ in readable],
        [digest for _, digest, _, _ in readable],
        [profile for _, _, profile, _ in readable],
        [edges for _, _, _, edges in readable],
        reasons,
    )
