"""Tiles that touch, by what their names say of their places."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from capetown.city import BLOCKS_ACROSS, CELLS_ACROSS, TILE_NAME
from capetown.pools.dataset.listing import Tile


def place_in_name(tile: Tile) -> re.Match[str] | None:
    """Sheet, block and cell of a tile's name, if it says where the tile lies."""
    return TILE_NAME.fullmatch(PurePosixPath(tile.path).stem)


def parted_neighbours(tiles: Sequence[Tile], folds: Sequence[str]) -> tuple[int, int]:
    """Count pairs of tiles that touch, also at a corner, and those of them in two folds.

    Places are read off the names: blocks and cells are counted row by row from a sheet's corner.
    """
    fold_at: dict[tuple[str, int, int], str] = {}
    for tile, fold in zip(tiles, folds, strict=True):
        if named := place_in_name(tile):
            block_row, block_column = divmod(int(named["block"]) - 1, BLOCKS_ACROSS)
            row, column = divmod(int(named["cell"]) - 1, CELLS_ACROSS)
            row, column = row + block_row * CELLS_ACROSS, column + block_column * CELLS_ACROSS
            fold_at[named["sheet"], row, column] = fold
    pairs = [
        (fold, fold_at.get((sheet, row + down, column + right)))
        for (sheet, row, column), fold in fold_at.items()
        for down, right in ((0, 1), (1, -1), (1, 0), (1, 1))
    ]
    touching = [(one, other) for one, other in pairs if other]
    return len(touching), sum(one != other for one, other in touching)
