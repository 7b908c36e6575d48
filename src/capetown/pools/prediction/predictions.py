"""The table of predictions: its columns, how it is written, and how it is read again.

`capetown.pools.prediction` describes the columns.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import h3
import polars as pl
import pyarrow as pa
import shapely

from capetown.city import CLASSES, RESOLUTION
from capetown.errors import CapetownError, one_line
from capetown.geoparquet import GEOMETRY
from capetown.layers import SUFFIXES, Layer
from capetown.legend import ranges

SCHEMA = pa.schema(
    [
        ("path", pa.string()), ("probability", pa.float64()), ("decision", pa.string()),
        ("error", pa.string()), ("drift", pa.string()), ("location_source", pa.string()),
        ("location_error", pa.string()), ("data_share", pa.float64()), ("h3_index", pa.string()),
        ("longitude", pa.float64()), ("latitude", pa.float64()), ("saliency_x", pa.float64()),
        ("saliency_y", pa.float64()),
        ("saliency_longitude", pa.float64()), ("saliency_latitude", pa.float64()),
        (GEOMETRY, pa.binary()),
    ]
)  # fmt: skip
# Lower bounds of the classes of probabilities on a map.
BOUNDS = (0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95)
LAYER = Layer(
    "tiles", "Probability of a pool", "probability", BOUNDS,
    ranges([100 * bound for bound in BOUNDS[1:]], " %"), most=1, edges=False,
)  # fmt: skip
# Metadata key of a table: the number of windows with little data, which have no row.
EMPTY = b"windows with little data"
# The columns that are read again.
PATH, PROBABILITY, DECISION, CELL = READ = ("path", "probability", "decision", "h3_index")


def as_table(rows: Sequence[Mapping[str, object]], empty: int) -> pa.Table:
    """Rows as a table, with the number of windows with little data in its metadata."""
    return pa.Table.from_pylist(rows, SCHEMA).replace_schema_metadata({EMPTY: str(empty)})


def read_predictions(path: Path) -> pl.DataFrame:
    """Each tile's path, probability, decision, cell and, if known, outline.

    Args:
        path: written by `capetown predict`.

    Raises:
        CapetownError: the file is unreadable, lacks a column or has no located tile; or a row has
            an invalid value or repeats a tile. Rows count from 1 without the header.
    """
    table = _read(path)
    probability, decision, cell = map(pl.col, (PROBABILITY, DECISION, CELL))
    # A null is neither valid nor invalid, so `arg_true` leaves it out.
    checks = [
        (PROBABILITY, "not a number from 0 to 1", ~probability.is_between(0, 1)),
        (DECISION, f"not {' or '.join(CLASSES)}", ~decision.is_in(CLASSES)),
        (CELL, f"not an H3 cell of resolution {RESOLUTION}",
         ~cell.map_elements(_is_cell, pl.Boolean)),
        (DECISION, "inconsistent with its probability",
         probability.is_null() != decision.is_null()),
        (PATH, "repeated", pl.col(PATH).is_duplicated()),
    ]  # fmt: skip
    for name, what, invalid in checks:
        if len(rows := table.select(invalid).to_series().arg_true()):
            raise CapetownError(
                f"{name} {table[name][rows[0]]!r} is {what} ({len(rows)} such rows)",
                where=f"{path}: row {rows[0] + 1}", fix="predict again, each tile once",
            )  # fmt: skip
    if table[CELL].null_count() == len(table):
        raise CapetownError(
            f"no tile is located ({CELL} is empty in all {len(table):,} rows)", where=path,
            fix="predict GeoTIFFs, tiles with world files and --crs, or names that locate tiles",
        )  # fmt: skip
    return table


def repeated_area(table: pl.DataFrame) -> float:
    """The share of the tiles' area that other tiles also show; 0 if no outline is known."""
    if GEOMETRY not in table.columns:
        return 0.0
    known = table[GEOMETRY].drop_nulls()
    read = shapely.from_wkb if known.dtype == pl.Binary else shapely.from_wkt
    outlines = read(known.to_list(), on_invalid="ignore")
    outlines = outlines[~shapely.is_missing(outlines)]
    area = shapely.area(outlines).sum()
    return float(1 - shapely.area(shapely.union_all(outlines)) / area) if area else 0.0


def _is_cell(text: str) -> bool:
    return bool(h3.is_valid_cell(text) and h3.get_resolution(text) == RESOLUTION)


def _read(path: Path) -> pl.DataFrame:
    types: dict[str, pl.DataType] = dict.fromkeys(READ, pl.String()) | {PROBABILITY: pl.Float64()}
    try:
        if path.suffix == ".parquet":
            lazy, types[GEOMETRY] = pl.scan_parquet(path, glob=False), pl.Binary()
        elif path.suffix == ".csv":
            lazy = pl.scan_csv(path, infer_schema=False, glob=False)
            types[GEOMETRY] = pl.String()
        elif path.suffix in SUFFIXES:
            lazy, types[GEOMETRY] = _read_by_gdal(path).lazy(), pl.Binary()
        else:
            raise CapetownError(f"not one of {', '.join(SUFFIXES)}", where=path)
        names = lazy.collect_schema().names()
        if missing := [name for name in READ if name not in names]:
            raise CapetownError(
                f"no column {', '.join(missing)}", where=path, fix="name an output of `predict`"
            )
        wanted = [pl.col(name).cast(dtype) for name, dtype in types.items() if name in names]
        table = lazy.select(wanted).collect()
    except (OSError, RuntimeError, pl.exceptions.PolarsError) as error:  # RuntimeError is pyogrio's
        raise CapetownError(
            f"unreadable ({one_line(error)})", where=path, fix="write it with `capetown predict`"
        ) from error
    if table.is_empty():
        raise CapetownError("no row", where=path, fix="predict at least one tile")
    return table


def _read_by_gdal(path: Path) -> pl.DataFrame:
    # Imported here: only these formats need it.
    from pyogrio.raw import read_arrow

    options = {"layer": LAYER.name} if path.suffix == ".gpkg" else {"DATE_AS_STRING": "YES"}
    meta, table = read_arrow(path.absolute(), columns=list(READ), **options)
    named = meta["geometry_name"] or "wkb_geometry"
    outlines = pl.Series(GEOMETRY, table[named].to_pylist(), pl.Binary)
    return pl.DataFrame(table.drop_columns(named)).with_columns(outlines)
