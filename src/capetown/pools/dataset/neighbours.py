"""Tiles that touch, found by their outlines or by the sheet, block and cell in their names."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import shapely

from capetown.city import BLOCKS_ACROSS, CELLS_ACROSS
from capetown.imagery.georeference import Outline
from capetown.pools.dataset.listing import Tile, match_name

# Degrees between tiles that touch: a decimetre of rounding.
ROUNDING = 1e-6


def count_neighbours(
    tiles: Sequence[Tile], folds: Sequence[str], outlines: Sequence[Outline | None]
) -> tuple[int, int] | None:
    """Count pairs of tiles that touch, corners included, and the pairs that lie in two folds.

    None if it is unknown where some tile is, by its outline or by its name.
    """
    located = [outline for outline in outlines if outline]
    names = [name for tile in tiles if (name := match_name(tile.path))]
    if len(located) == len(tiles):
        pairs = _by_outline(located)
    elif len(names) == len(tiles):
        pairs = _by_name(names)
    else:
        return None
    divided = [folds[one] != folds[other] for one, other in pairs]
    return len(divided), sum(divided)


def _by_outline(outlines: Sequence[Outline]) -> Iterable[tuple[int, int]]:
    corners = np.stack([outline.corners for outline in outlines])
    # Longitudes from the first tile: they do not jump at 180 degrees.
    corners[..., 0] = (corners[..., 0] - outlines[0].longitude + 180) % 360 - 180
    polygons = shapely.polygons(corners)
    pairs = shapely.STRtree(polygons).query(polygons, predicate="dwithin", distance=ROUNDING)
    return ((one, other) for one, other in pairs.T.tolist() if one < other)


def _by_name(names: Sequence[re.Match[str]]) -> Iterable[tuple[int, int]]:
    """Blocks and cells are numbered row by row from a sheet's corner."""
    tile_at: dict[tuple[str, int, int], int] = {}
    for number, name in enumerate(names):
        block_row, block_column = divmod(int(name["block"]) - 1, BLOCKS_ACROSS)
        row, column = divmod(int(name["cell"]) - 1, CELLS_ACROSS)
        row, column = row + block_row * CELLS_ACROSS, column + block_column * CELLS_ACROSS
        tile_at[name["sheet"], row, column] = number
    for (sheet, row, column), number in tile_at.items():
        for down, right in ((0, 1), (1, -1), (1, 0), (1, 1)):
            if (other := tile_at.get((sheet, row + down, column + right))) is not None:
                yield number, other
