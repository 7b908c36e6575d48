"""Every request in its hexagon: the H3 cell that contains it, and why not where it has none.

`h3_level8_index` is what the City writes: the cell, by H3's own indexing and never by the
polygons, whose straight sides are not H3's; `0` where latitude or longitude is missing; null where
the coordinates are no place on Earth. `join_status` says what came of it:

- `joined`: the cell is one of the City's.
- `missing_coordinates`: latitude or longitude is empty. No failure: nothing was there to join.
- `invalid_coordinates`: not a number, infinite, or out of range.
- `outside_city`: a real cell that is not one of the City's.

The last two are failures. A table is read, joined and written in one pass, some ten thousand rows
at a time, so that memory does not grow with its text: one thread reads, another joins, and polars'
own write.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import h3
import numpy as np
import polars as pl
from isal import igzip_threaded
from polars.io.plugins import register_io_source

from capetown.city import COMPLETED, CREATED, DIRECTORATE, INDEX, LATITUDE, LONGITUDE, PLACE, SUBURB
from capetown.city import REQUEST_ID as KEY
from capetown.errors import CapetownError
from capetown.requests.failure_reasons import with_reasons
from capetown.requests.hexagons import Floats, Hexagons, cells_of
from capetown.requests.reader import (
    ADDED,
    CATEGORIES,
    EXPLAINED,
    FAILED,
    NA_STRINGS,
    NAMES,
    STATUS,
    STATUSES,
    UNREADABLE,
    Table,
    check_keys,
    is_missing,
    read_numbers,
)
from capetown.requests.schema import CATEGORY, JUDGED, NUMBERED, REQUEST_SCHEMA, TIMED
from capetown.requests.times import read_times

# `NOTHING` as programs spell it.
SPELLED = pl.Series(
    sorted({f(word) for word in NA_STRINGS for f in (str, str.upper, str.title)} | {"NaN", "NaT"}),
    dtype=CATEGORY,
)
# Rows in a row group: fixed, so that the same requests give the same bytes.
ROW_GROUP = 200_000


@dataclass(frozen=True)
class Join:
    """A join, without its file of requests.

    Attributes:
        rows: a row a request, in the input's order: its number, `index`, `status`, `directorate`,
            `suburb`, `created`, `taken` (a duration from creation to completion),
            `half` (one coordinate of two), `unparsed: COLUMN` (there, but no time or number) for
            each of `schema.JUDGED`, and `unzoned: COLUMN` (taken as local time) for each of
            `schema.TIMED`.
        rejects: those that failed or have a value that cannot be read: all columns as text, the
            two that the join adds, `reason`, `metres_to_nearest_hexagon`, and `unreadable`, names
            of columns.
        empty: how many values are missing, by column.
        notes: what is unusual in the table and was read all the same.
    """

    rows: pl.DataFrame
    rejects: pl.DataFrame
    empty: dict[str, int]
    notes: list[str]


@dataclass(frozen=True)
class _Piece:
    """Some rows joined: as written, and as in `Join`."""

    table: pl.DataFrame
    rows: pl.DataFrame
    rejects: pl.DataFrame
    empty: pl.DataFrame


def join(path: Path, hexagons: Hexagons, requests: Path, csv: Path | None = None) -> Join:
    """Join a table of requests to the City's hexagons.

    Args:
        path: the City's `sr.csv.gz`.
        hexagons: the City's.
        requests: Parquet file to write: all columns of the table in their declared types, with
            `h3_level8_index` and `join_status`, in the input's order.
        csv: gzipped CSV file to write as well: the City's columns as text and `h3_level8_index`.

    Raises:
        CapetownError: the table cannot be read, lacks a column or has no rows, its numbers are not
            unique, a row is not strict CSV, or rows are lost on the way.
        OSError, polars.exceptions.PolarsError: a file cannot be written.
    """
    table = Table(path, NAMES, (*ADDED, *EXPLAINED))
    kept: list[tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]] = []

    def pieces(*_: object) -> Iterator[pl.DataFrame]:
        # Blocks of one size, so that the same text gives the same bytes on the same processor.
        opened = _compressed(csv) if csv else nullcontext()
        with opened as text:
            for frame in _ahead(table.frames(CATEGORIES)):
                piece = _join(frame, hexagons)
                if text:
                    columns = frame.select(*NAMES).with_columns(piece.table[INDEX])
                    columns.write_csv(text, include_header=not kept)
                kept.append((piece.rows, piece.rejects, piece.empty))
                yield piece.table

    types = {name: REQUEST_SCHEMA.get(name, pl.String()) for name in table.header}
    added = {INDEX: pl.String(), STATUS: pl.Enum(STATUSES)}
    # A quarter faster than the default level, in a file that is 6 % larger.
    register_io_source(pieces, schema=types | added).sink_parquet(
        requests, compression_level=1, row_group_size=ROW_GROUP, engine="streaming"
    )
    if not kept:
        check_keys(path, pl.Series(KEY, [], pl.String))
    rows, rejects, empty = (pl.concat(parts) for parts in zip(*kept, strict=True))
    check_keys(path, rows[KEY])
    written = pl.scan_parquet(requests).select(pl.len()).collect().item()
    if not table.requests == len(rows) == written:
        raise CapetownError(
            f"{path}: {table.requests:,} requests by their line ends, but {len(rows):,} are joined "
            f"and {written:,} written; this is a fault of the program"
        )
    return Join(
        rows, with_reasons(rejects, hexagons), empty.sum().row(0, named=True), table.notes()
    )


def _compressed(path: Path) -> Any:
    """A gzipped file to write to."""
    return igzip_threaded.open(path, "wb", 1, threads=1)  # type: ignore[no-untyped-call]


def _ahead(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same frames, each read while the one before is worked on."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, frames, None)
        while (frame := coming.result()) is not None:
            coming = reader.submit(next, frames, None)
            yield frame


def _join(written: pl.DataFrame, hexagons: Hexagons) -> _Piece:
    frame = _named(written)
    typed, unzoned, missing = {}, {}, {}
    for name in TIMED:
        typed[name], unzoned[name] = read_times(frame[name])
    for name in NUMBERED:
        typed[name] = read_numbers(frame[name])
    for name, values in typed.items():
        missing[name] = is_missing(frame[name], values)
        typed[name] = values.set(missing[name], None)
    north, east = (typed[name].to_numpy() for name in PLACE)
    nowhere = missing[LATITUDE] | missing[LONGITUDE]
    index, kind, status = _index(north, east, nowhere, hexagons)
    unread = {name: typed[name].is_null() & ~missing[name] for name in JUDGED}
    rows = frame.select(KEY, directorate=DIRECTORATE, suburb=SUBURB).with_columns(
        kind.alias("index"),
        status.alias("status"),
        typed[CREATED].alias("created"),
        (typed[COMPLETED] - typed[CREATED]).alias("taken"),
        (missing[LATITUDE] != missing[LONGITUDE]).alias("half"),
        *(values.alias(f"unparsed: {name}") for name, values in unread.items()),
        *(values.alias(f"unzoned: {name}") for name, values in unzoned.items()),
    )
    rejected = reduce(or_, unread.values(), status.is_in(FAILED)).arg_true()
    names = [pl.when(values[rejected]).then(pl.lit(name)) for name, values in unread.items()]
    rejects = written[rejected].with_columns(
        pl.all().cast(pl.String),
        index[rejected],
        status[rejected],
        pl.concat_str(*names, separator=", ", ignore_nulls=True)
        .replace("", None)
        .alias(UNREADABLE),
    )
    empty = frame.null_count().with_columns(
        pl.lit(values.sum(), pl.UInt32).alias(name) for name, values in missing.items()
    )
    return _Piece(frame.with_columns(*typed.values(), index, status), rows, rejects, empty)


def _named(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows, null where a category is a word for a missing value."""
    names = pl.col(sorted(CATEGORIES))
    nothing = names.is_in(SPELLED.implode())
    if not frame.select(pl.any_horizontal(nothing.any())).item():
        return frame
    return frame.with_columns(pl.when(~nothing).then(names))


def _index(
    latitude: Floats, longitude: Floats, nowhere: pl.Series, hexagons: Hexagons
) -> tuple[pl.Series, pl.Series, pl.Series]:
    """`h3_level8_index` as text and as categories, and `join_status`."""
    cells = cells_of(latitude, longitude)
    position = hexagons.positions(cells)
    city, _ = hexagons.ascending
    joined = len(city)
    outside = (position < 0) & (cells > 0)
    others, which = np.unique(cells[outside], return_inverse=True)
    position[cells == 0] = joined + 1
    position[outside] = joined + 2 + which
    position[nowhere.to_numpy()] = joined
    texts = [h3.int_to_str(cell) for cell in others.tolist()]
    values = pl.concat([city, pl.Series(["0", None, *texts])]).alias(INDEX)
    statuses = pl.Series(STATUS, STATUSES, pl.Enum(STATUSES))
    return (
        values.gather(position),
        values.cast(CATEGORY).gather(position),
        statuses.gather((position - joined + 1).clip(0, len(STATUSES) - 1)),
    )
