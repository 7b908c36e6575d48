"""Tiles that touch, found by the sheet, block and cell in their names."""

from collections.abc import Sequence

from capetown.city import BLOCKS_ACROSS, CELLS_ACROSS
from capetown.pools.dataset.listing import Tile, match_name


def count_neighbours(tiles: Sequence[Tile], folds: Sequence[str]) -> tuple[int, int]:
    """Count pairs of tiles that touch, corners included, and the pairs that lie in two folds.

    Names give the position: blocks and cells are numbered row by row from a sheet's corner.
    """
    fold_at: dict[tuple[str, int, int], str] = {}
    for tile, fold in zip(tiles, folds, strict=True):
        if name := match_name(tile.path):
            block_row, block_column = divmod(int(name["block"]) - 1, BLOCKS_ACROSS)
            row, column = divmod(int(name["cell"]) - 1, CELLS_ACROSS)
            row, column = row + block_row * CELLS_ACROSS, column + block_column * CELLS_ACROSS
            fold_at[name["sheet"], row, column] = fold
    pairs = [
        (fold, fold_at.get((sheet, row + down, column + right)))
        for (sheet, row, column), fold in fold_at.items()
        for down, right in ((0, 1), (1, -1), (1, 0), (1, 1))
    ]
    touching = [(one, other) for one, other in pairs if other]
    return len(touching), sum(one != other for one, other in touching)
