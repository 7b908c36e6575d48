"""Corrected labels: a table of path and label that overrides the class folders."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from capetown.city import CLASSES
from capetown.errors import CapetownError
from capetown.pools.dataset.listing import Tile
from capetown.pools.dataset.path_table import read_path_table

log = logging.getLogger("capetown")


def read_corrections(file: Path) -> dict[str, str]:
    """The corrected label of each path in a CSV file. A missing file is empty and is logged.

    Raises:
        CapetownError: see `read_path_table`; or a label is not a class.
    """
    try:
        labels = read_path_table(file, "label")
    except FileNotFoundError:
        log.warning("%s: no such file, so no label is corrected", file)
        return {}
    for path, label in labels.items():
        if label not in CLASSES:
            raise CapetownError(
                f"{f'{path},{label}'!r} is not a path and yes or no", where=file,
                fix="correct the label",
            )  # fmt: skip
    return labels


def apply_corrections(tiles: Sequence[Tile], file: Path) -> tuple[list[Tile], int]:
    """Tiles with the labels of a file, and the number of tiles whose label changed.

    Paths in the file that are not among the tiles are logged. Errors: see `read_corrections`.
    """
    labels = read_corrections(file)
    corrected = [replace(tile, label=labels.get(tile.path, tile.label)) for tile in tiles]
    changed = sum(new != old for new, old in zip(corrected, tiles, strict=True))
    if changed:
        log.info("%s changes the labels of %d tiles", file, changed)
    if unknown := sorted(set(labels) - {tile.path for tile in tiles}):
        log.warning("%s: %d paths are unknown, such as %s", file, len(unknown), unknown[0])
    return corrected, changed
