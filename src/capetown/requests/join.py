"""Finds the H3 cell of every request, and says why a request has none.

`city.INDEX` follows the City: the point's cell in H3, `0` if latitude or longitude is missing,
and null if the coordinates do not exist. Polygons would give other cells near edges, because the
edges of cells are not straight. `join_status` is one of

- `joined`: the cell is one of the City's.
- `missing_coordinates`: latitude or longitude is empty. This is not a failure.
- `invalid_coordinates`: not a number, infinite, or out of range.
- `outside_city`: a real cell that is not one of the City's.

The last two are failures. A table is read, joined and written in one pass, some ten thousand rows
at a time, so that memory does not grow with its text. One thread reads, one converts types, one
finds cells, and polars writes with its own threads.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TypeVar

import h3
import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from capetown.city import (
    COMPLETED,
    COORDINATES,
    CREATED,
    DIRECTORATE,
    INDEX,
    REQUEST_ID,
    SUBURB,
)
from capetown.errors import CapetownError
from capetown.requests.failure_reasons import with_reasons
from capetown.requests.hexagons import Hexagons, cells_of
from capetown.requests.reader import (
    CATEGORIES,
    CATEGORY,
    FAILED,
    NAMES,
    NUMBERED,
    PARSED,
    REQUEST_SCHEMA,
    RESERVED,
    STATUS,
    STATUSES,
    UNREADABLE,
    RequestTable,
    Values,
    check_ids,
    read_values,
)
from capetown.requests.times import period

T = TypeVar("T")
# Rows per row group: fixed, so that the same requests give the same bytes.
ROW_GROUP = 200_000


@dataclass(frozen=True)
class Join:
    """A join, without the file of requests.

    Attributes:
        rows: one row per request, in the order of the table: its ID, `index`, `status`,
            `directorate`, `suburb`, `created`, `taken` (from creation to completion), `half` (has
            one coordinate of two), `apart` (created long before or after nearly all others),
            `unparsed: COLUMN` (not readable) for each of `PARSED`, and `unzoned: COLUMN` (taken as
            local time) and `repeated: COLUMN` (in an hour that clocks repeat) for each of `TIMED`.
        rejects: requests that failed or have an unreadable value: all columns as text, the two that
            the join adds, `reason`, `metres_to_nearest_hexagon`, and `unreadable`, names of
            columns.
        empty: number of missing values by column.
        notes: accepted oddities of the table.
    """

    rows: pl.DataFrame
    rejects: pl.DataFrame
    empty: dict[str, int]
    notes: list[str]


def join(path: Path, hexagons: Hexagons, requests: Path, csv: Path | None = None) -> Join:
    """Join a table of requests to the City's hexagons.

    Args:
        path: the City's `sr.csv.gz`.
        hexagons: the City's hexagons.
        requests: Parquet file to write: all columns of the table in their declared types, with
            `city.INDEX` and `join_status`, in the order of the table.
        csv: CSV file to write as well, for people: the City's columns as text, `city.INDEX` and
            `join_status`, in UTF-8 with a byte order mark. An apostrophe precedes a text that a
            spreadsheet would take for a formula.

    Raises:
        CapetownError: the table cannot be read, lacks a column or has no rows, its IDs are not
            unique, a row is not strict CSV, or rows are lost.
        OSError, polars.exceptions.PolarsError: a file cannot be written.
    """
    table = RequestTable(path, NAMES, RESERVED)
    rows: list[pl.DataFrame] = []
    rejects: list[pl.DataFrame] = []
    missing: list[dict[str, int]] = []

    def joined_frames(*_: object) -> Iterator[pl.DataFrame]:
        with csv.open("wb") if csv else nullcontext() as file:
            texts = _ahead(table.frames(CATEGORIES))
            for text, values in _ahead((text, read_values(text)) for text in texts):
                index, status = find_cells(values, hexagons)
                if file:
                    columns = text.select(*NAMES).with_columns(index, status)
                    _without_formulas(columns).write_csv(
                        file, include_header=not rows, include_bom=not rows
                    )
                rows.append(_rows(values, index, status))
                rejects.append(_rejects(text, values, index, status))
                missing.append(values.missing)
                yield values.frame.with_columns(index.cast(pl.String), status)

    types = {name: REQUEST_SCHEMA.get(name, pl.String()) for name in table.header}
    added = {INDEX: pl.String(), STATUS: pl.Enum(STATUSES)}
    # Level 1 is a quarter faster than the default, for a file that is 6 % larger.
    register_io_source(joined_frames, schema=types | added).sink_parquet(
        requests, compression_level=1, row_group_size=ROW_GROUP, engine="streaming"
    )
    if not rows:
        check_ids(path, pl.Series(REQUEST_ID, [], pl.String))
    joined = pl.concat(rows)
    check_ids(path, joined[REQUEST_ID])
    written = pl.scan_parquet(requests, glob=False).select(pl.len()).collect().item()
    if not table.requests == len(joined) == written:
        raise CapetownError(
            f"{table.requests:,} requests read, {len(joined):,} joined, {written:,} written",
            where=path, fix="report this bug",
        )  # fmt: skip
    span = period(joined["created"])
    apart = ~pl.col("created").is_between(*span).fill_null(True) if span else pl.lit(False)
    return Join(
        rows=joined.with_columns(apart=apart),
        rejects=with_reasons(pl.concat(rejects), hexagons),
        empty={name: sum(counts[name] for counts in missing) for name in missing[0]},
        notes=table.notes(),
    )


def _without_formulas(text: pl.DataFrame) -> pl.DataFrame:
    """Texts as in `storage.FORMULA`. Numbers may begin with a sign."""
    # Imported here, because it loads fsspec, and the CSV is optional.
    from capetown.storage import FORMULA

    words = text.cast(pl.String)
    risky = {name: pl.col(name).str.contains(FORMULA) for name in words.columns}
    for name in NUMBERED:
        risky[name] &= pl.col(name).cast(pl.Float64, strict=False).is_null()
    flags = words.select(**risky)
    return words.with_columns(
        pl.when(found).then(pl.format("'{}", found.name)).otherwise(found.name).alias(found.name)
        for found in flags
        if found.any()
    )


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made while the previous one is used."""
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = maker.submit(next, items, None)
            yield item


def find_cells(values: Values, hexagons: Hexagons) -> tuple[pl.Series, pl.Series]:
    """`city.INDEX` as categories, and `join_status`."""
    cells = cells_of(*(values.frame[name].to_numpy() for name in COORDINATES))
    city, _ = hexagons.ascending
    absent, invalid, outside = range(len(city), len(city) + 3)
    position = hexagons.positions(cells)
    beyond = (position < 0) & (cells > 0)
    others, which = np.unique(cells[beyond], return_inverse=True)
    position[cells == 0] = invalid
    position[beyond] = outside + which
    position[reduce(or_, _missing(values)).to_numpy()] = absent
    texts = [h3.int_to_str(cell) for cell in others.tolist()]
    index = pl.concat([city, pl.Series(["0", None, *texts])]).cast(CATEGORY).alias(INDEX)
    statuses = pl.Series(STATUS, STATUSES, pl.Enum(STATUSES))
    return (
        index.gather(position),
        statuses.gather((position - absent + 1).clip(0, len(STATUSES) - 1)),
    )


def _missing(values: Values) -> list[pl.Series]:
    """True for requests without a latitude, and without a longitude."""
    return [values.frame[name].is_null() & ~values.unreadable[name] for name in COORDINATES]


def _rows(values: Values, index: pl.Series, status: pl.Series) -> pl.DataFrame:
    """`Join.rows` of some requests, without `apart`."""
    latitude, longitude = _missing(values)
    return values.frame.select(
        REQUEST_ID,
        directorate=DIRECTORATE,
        suburb=SUBURB,
        index=index,
        status=status,
        created=CREATED,
        taken=pl.col(COMPLETED) - pl.col(CREATED),
        half=latitude != longitude,
        **{f"unparsed: {name}": values.unreadable[name] for name in PARSED},
        **{f"unzoned: {name}": flags for name, flags in values.unzoned.items()},
        **{f"repeated: {name}": flags for name, flags in values.repeated.items()},
    )


def _rejects(
    text: pl.DataFrame, values: Values, index: pl.Series, status: pl.Series
) -> pl.DataFrame:
    """`Join.rejects` of some requests, without reasons and metres."""
    unreadable = {name: values.unreadable[name] for name in PARSED}
    rejected = reduce(or_, unreadable.values(), status.is_in(FAILED)).arg_true()
    names = [pl.when(flags[rejected]).then(pl.lit(name)) for name, flags in unreadable.items()]
    return text[rejected].with_columns(
        pl.all().cast(pl.String),
        index[rejected].cast(pl.String),
        status[rejected],
        pl.concat_str(*names, separator=", ", ignore_nulls=True)
        .replace("", None)
        .alias(UNREADABLE),
    )
