"""Predictions as a table: its columns, and the files that hold it.

The columns are described in `capetown.pools.prediction`.
"""

from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

import polars as pl
import pyarrow as pa
import shapely

from capetown.geoparquet import write_tables

SCHEMA = pa.schema(
    [
        ("path", pa.string()), ("probability", pa.float64()), ("decision", pa.string()),
        ("error", pa.string()), ("unlike", pa.string()), ("place_error", pa.string()),
        ("h3_index", pa.string()), ("longitude", pa.float64()), ("latitude", pa.float64()),
        ("evidence_x", pa.float64()), ("evidence_y", pa.float64()),
        ("evidence_longitude", pa.float64()), ("evidence_latitude", pa.float64()),
        ("geometry", pa.binary()),
    ]
)  # fmt: skip
# The key of a table's metadata that counts windows without any data.
EMPTY = b"windows without data"


class Row(NamedTuple):
    """A tile's prediction; the columns, in their order."""

    path: str
    probability: float | None = None
    decision: str | None = None
    error: str | None = None
    unlike: str | None = None
    place_error: str | None = None
    h3_index: str | None = None
    longitude: float | None = None
    latitude: float | None = None
    evidence_x: float | None = None
    evidence_y: float | None = None
    evidence_longitude: float | None = None
    evidence_latitude: float | None = None
    geometry: bytes | None = None


def as_table(rows: Sequence[Row]) -> pa.Table:
    """Rows as a table."""
    return pa.Table.from_pylist([row._asdict() for row in rows], SCHEMA)


def write_csv(tables: Iterator[pa.Table], file: IO[bytes]) -> None:
    """Write tables one after the other, outlines as WKT."""
    for number, table in enumerate(tables):
        wkb = table["geometry"].to_numpy(zero_copy_only=False)
        wkt = shapely.to_wkt(shapely.from_wkb(wkb), rounding_precision=-1)
        frame = pl.DataFrame(table.drop_columns("geometry"))
        frame = frame.with_columns(geometry=pl.Series(wkt.tolist(), dtype=pl.String))
        frame.write_csv(file, include_header=number == 0)


def write_geoparquet(tables: Iterator[pa.Table], file: IO[bytes]) -> None:
    """Write tables as one GeoParquet file."""
    write_tables(tables, SCHEMA, file)
