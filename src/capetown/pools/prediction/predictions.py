"""The table that `capetown predict` writes, read and checked for counting by hexagon."""

from pathlib import Path

import h3
import polars as pl
import shapely

from capetown.city import CLASSES, RESOLUTION
from capetown.errors import CapetownError, one_line

# The columns that are used here.
PATH, PROBABILITY, DECISION, CELL = COLUMNS = ("path", "probability", "decision", "h3_index")
OUTLINE = "geometry"


def read_predictions(path: Path) -> pl.DataFrame:
    """Read a row a tile: its path, probability, decision, cell and, in Parquet, outline.

    Args:
        path: what `capetown predict` wrote, ``.parquet`` or ``.csv``.

    Raises:
        CapetownError: the file cannot be read, lacks a column or has no tile with a place; or a
            tile is there twice, or its probability, decision or cell can be none. Rows are counted
            from 1 without the header.
    """
    table = _read(path)
    checks = {
        PROBABILITY: ("no number from 0 to 1", ~pl.col(PROBABILITY).is_between(0, 1)),
        DECISION: (f"none of {', '.join(CLASSES)}", ~pl.col(DECISION).is_in(CLASSES)),
        CELL: (
            f"no H3 cell of resolution {RESOLUTION}",
            ~pl.col(CELL).map_elements(_is_cell, pl.Boolean),
        ),
    }
    for name, (fault, wrong) in checks.items():
        found = table.select(pl.col(name).is_not_null() & wrong.fill_null(True)).to_series()
        rows = found.arg_true()
        if len(rows):
            raise CapetownError(
                f"{path}: row {rows[0] + 1}: {name} {table[name][rows[0]]!r} is {fault} "
                f"({len(rows)} such rows); predict again"
            )
    judged = pl.col(PROBABILITY).is_not_null() != pl.col(DECISION).is_not_null()
    if len(rows := table.select(judged).to_series().arg_true()):
        raise CapetownError(
            f"{path}: row {rows[0] + 1}: a probability without a decision, or a decision without "
            f"a probability ({len(rows)} such rows); predict again"
        )
    if len(rows := table[PATH].is_duplicated().arg_true()):
        raise CapetownError(
            f"{path}: row {rows[0] + 1}: the tile {table[PATH][rows[0]]} is there more than once "
            f"({len(rows)} such rows) and would count as often; predict each tile once"
        )
    if table[CELL].null_count() == len(table):
        raise CapetownError(
            f"{path}: no tile has a place on Earth ({CELL} is empty in all {len(table):,} rows): "
            "predict GeoTIFFs, or tiles with world files beside them"
        )
    return table


def shared_area(table: pl.DataFrame) -> float:
    """The share of the tiles' area that repeats what others show; 0 where no outline is known.

    Args:
        table: as `read_predictions` gives it.
    """
    if OUTLINE not in table.columns:
        return 0.0
    known = table[OUTLINE].drop_nulls()
    read = shapely.from_wkb if known.dtype == pl.Binary else shapely.from_wkt
    outlines = read(known.to_list(), on_invalid="ignore")
    outlines = outlines[~shapely.is_missing(outlines)]
    area = shapely.area(outlines).sum()
    return float(1 - shapely.area(shapely.union_all(outlines)) / area) if area else 0.0


def _is_cell(text: str) -> bool:
    return bool(h3.is_valid_cell(text) and h3.get_resolution(text) == RESOLUTION)


def _read(path: Path) -> pl.DataFrame:
    """The columns that are used here, in their types."""
    types: dict[str, pl.DataType] = dict.fromkeys((PATH, DECISION, CELL), pl.String())
    types[PROBABILITY] = pl.Float64()
    try:
        match path.suffix:
            case ".parquet":
                lazy = pl.scan_parquet(path)
                types[OUTLINE] = pl.Binary()
            case ".csv":
                lazy = pl.scan_csv(path, infer_schema=False)
                types[OUTLINE] = pl.String()
            case other:
                raise CapetownError(
                    f"{path}: a table of predictions ends in .parquet or .csv, not in {other!r}"
                )
        names = lazy.collect_schema().names()
        if missing := [name for name in COLUMNS if name not in names]:
            raise CapetownError(
                f"{path}: no column {', '.join(missing)}; is it what `capetown predict` wrote?"
            )
        wanted = [pl.col(name).cast(dtype) for name, dtype in types.items() if name in names]
        table = lazy.select(wanted).collect()
    except FileNotFoundError as error:
        raise CapetownError(f"{path}: no such file; `capetown predict` writes one") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CapetownError(f"{path}: cannot be read ({one_line(error)})") from error
    if table.is_empty():
        raise CapetownError(f"{path}: no row under the header; predict at least one tile")
    return table
