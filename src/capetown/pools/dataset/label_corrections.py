"""Corrected labels: a table of path and label that overrides the class folders."""

import csv
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from capetown.city import CLASSES
from capetown.errors import CapetownError, one_line
from capetown.pools.dataset.listing import Tile

COLUMNS = ["path", "label"]

log = logging.getLogger("capetown")


def read_corrections(file: Path) -> dict[str, str]:
    """The corrected label of each path in a CSV file. A missing file is empty and is logged.

    Raises:
        CapetownError: the file cannot be read, has other columns, a label that is not a class, or
            two labels for one path.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = [row for row in csv.reader(lines, strict=True) if row]
    except FileNotFoundError:
        log.warning("%s: no such file, so no label is corrected", file)
        return {}
    except OSError as error:
        raise CapetownError(f"cannot be read ({error.strerror})", where=file) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise CapetownError(f"not a CSV file ({one_line(error)})", where=file) from error
    if rows[:1] != [COLUMNS]:
        raise CapetownError("the header is not path,label", where=file, fix="add it as first line")
    labels: dict[str, str] = {}
    for row in rows[1:]:
        if len(row) != len(COLUMNS) or row[1] not in CLASSES:
            raise CapetownError(f"{','.join(row)!r} is not a path and yes or no", where=file)
        path, label = row
        if labels.setdefault(path, label) != label:
            raise CapetownError(f"{path} has both labels", where=file, fix="keep one line of it")
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
