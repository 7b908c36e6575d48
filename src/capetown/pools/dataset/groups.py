"""Groups of neighbouring tiles. All tiles of a group go into one fold.

Groups come from the best source that has one for every tile: a table that people write, else
georeferences, else names like `city.TILE_NAME`, else subfolders of the class folders. Without any
of them it is unknown which tiles are neighbours, so the split is random.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from capetown.city import TILES_FOLDER
from capetown.errors import CapetownError
from capetown.imagery.georeference import Outline
from capetown.params import GroupsSource, Split
from capetown.pools.dataset.listing import Tile, match_name
from capetown.pools.dataset.locations import Locations, to_utm, utm_zone
from capetown.pools.dataset.path_table import read_path_table

log = logging.getLogger("capetown")

# What a tile needs for a group from each source, best source first.
NEEDED: dict[GroupsSource, str] = {
    "table": "a line in the table",
    "georeference": "a georeference",
    "names": "a name like SHEET_BLOCK_CELL",
    "folders": "a subfolder",
}
RANDOM_SPLIT = (
    "the split is random: it is unknown which tiles are neighbours, so neighbours may be in two "
    "folds, and metrics may be too good; see `split` in params.yaml"
)


@dataclass(frozen=True)
class Grouping:
    """Tiles with their groups.

    Attributes:
        tiles: each with its sheet and its group. A tile without a group is a group of its own.
        source: where the groups come from; ``none`` unless all tiles have one.
        notes: why better sources were not used, and what that means.
    """

    tiles: list[Tile]
    source: GroupsSource
    notes: list[str]


def group_tiles(
    tiles: Sequence[Tile], table: Mapping[str, str], locations: Locations, settings: Split
) -> Grouping:
    """Give each tile the group of the best source that has one for all.

    If none has, groups come from the source with most, and the grouping's source is ``none``. The
    strategy ``sheet`` prefers names, since only these have sheets.

    Args:
        tiles: with at least one tile.
        table: the group of each path, from `read_groups`; empty without a table.
        locations: of the tiles.
        settings: strategy and size of blocks.
    """
    by_sheet = settings.strategy == "sheet"
    found: dict[GroupsSource, list[str | None]] = {
        "table": [table.get(tile.path) for tile in tiles],
        "georeference": [
            block_of(place, settings.block_metres) if place and by == "georeference" else None
            for place, by in zip(locations.outlines, locations.sources, strict=True)
        ],
        "names": [name_group(tile.path, by_sheet=by_sheet) for tile in tiles],
        "folders": [subfolder(tile.path) or None for tile in tiles],
    }
    order = list(found)
    if by_sheet:
        order[1], order[2] = order[2], order[1]
    known = {name: sum(map(bool, found[name])) for name in order}
    best = max(order, key=lambda name: known[name])  # the first of equal ones
    source: GroupsSource = best if known[best] == len(tiles) else "none"
    notes = []
    for name in order[: order.index(best) + 1]:
        if 0 < known[name] < len(tiles):
            first = found[name].index(None)
            why = name == "georeference" and locations.errors[first]
            notes.append(
                f"{len(tiles) - known[name]} of {len(tiles)} tiles lack {NEEDED[name]}, such as "
                f"{tiles[first].path}{f' ({why})' if why else ''}"
            )
    if source == "none":
        notes.append(RANDOM_SPLIT)
    grouped = []
    for tile, group in zip(tiles, found[best], strict=True):
        sheet = group if group and source not in ("names", "none") else tile.sheet
        grouped.append(replace(tile, sheet=sheet, group=group or tile.path))
    return Grouping(grouped, source, notes)


def read_groups(file: Path, tiles: Sequence[Tile]) -> dict[str, str]:
    """The group of each tile's path in a CSV file of path and group; empty if it has no rows.

    Its paths may be shorter than those of the tiles, down to the names of the files.

    Raises:
        CapetownError: the file is missing or damaged, or lacks a tile.
    """
    try:
        rows = read_path_table(file, "group")
    except FileNotFoundError as error:
        raise CapetownError("no such file", where=file, fix="correct split.groups") from error
    if not rows:
        return {}
    keys = {tile.path: next(filter(rows.__contains__, _endings(tile.path)), "") for tile in tiles}
    if missing := [path for path, key in keys.items() if not key]:
        raise CapetownError(
            f"{len(missing)} of {len(tiles)} tiles are not in it, such as {missing[0]}",
            where=file,
            fix="add a line for each, or remove all lines but the first",
        )
    if unknown := sorted(rows.keys() - keys.values()):
        log.warning("%s: %d paths are unknown, such as %s", file, len(unknown), unknown[0])
    return {path: rows[key] for path, key in keys.items()}


def _endings(path: str) -> list[str]:
    """``a/b/c``, ``b/c`` and ``c`` of ``a/b/c``."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def name_group(path: str, *, by_sheet: bool) -> str | None:
    """The block in a tile's name, or its sheet; None if the name has another form."""
    name = match_name(path)
    if name is None or by_sheet:
        return name and name["sheet"]
    return f"{name['sheet']}_{name['block']}"


def subfolder(path: str) -> str:
    """The folder of a tile below its class folder; empty if it lies directly in that."""
    return "/".join(path.removeprefix(f"{TILES_FOLDER}/").split("/")[1:-1])


def block_of(place: Outline, metres: int) -> str:
    """The square of the UTM grid, with that side, in which the centre of a tile lies."""
    zone = utm_zone(place.longitude)
    easting, northing = to_utm(zone).transform(place.longitude, place.latitude)
    return f"{zone}_{easting // metres:.0f}_{northing // metres:.0f}"
