"""Labels that people corrected: a table of path and label that replaces those of the folders."""

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
    """The right label of each path in a CSV file; none, and a warning, where there is no file.

    Raises:
        CapetownError: if the file cannot be read, has other columns, a label that is no class, or
            two labels for one path.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = [row for row in csv.reader(lines, strict=True) if row]
    except FileNotFoundError:
        log.warning("%s: no such file, so no label is corrected", file)
        return {}
    except OSError as error:
        raise CapetownError(f"{file}: cannot be read ({error.strerror}).") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise CapetownError(f"{file}: not a table of path,label ({one_line(error)}).") from error
    if rows[:1] != [COLUMNS]:
        raise CapetownError(f"{file}: its first line must be path,label.")
    found: dict[str, str] = {}
    for row in rows[1:]:
        if len(row) != len(COLUMNS) or row[1] not in CLASSES:
            raise CapetownError(f"{file}: {','.join(row)!r} is not a path and yes or no.")
        path, label = row
        if found.setdefault(path, label) != label:
            raise CapetownError(f"{file}: {path} has both labels; keep one line of it.")
    return found


def corrected(tiles: Sequence[Tile], file: Path) -> tuple[list[Tile], int]:
    """Tiles with the labels of a file in the place of theirs, and how many of them changed.

    A path in it that is none of the tiles is a warning: another source has other tiles.

    Raises:
        CapetownError: as `read_corrections`.
    """
    right = read_corrections(file)
    result = [replace(tile, label=right.get(tile.path, tile.label)) for tile in tiles]
    changed = sum(new != old for new, old in zip(result, tiles, strict=True))
    if changed:
        log.info("%s changes the labels of %d tiles", file, changed)
    if unknown := sorted(set(right) - {tile.path for tile in tiles}):
        log.warning("%s: %d paths are no tile, such as %s", file, len(unknown), unknown[0])
    return result, changed
