"""Every request in its hexagon: the H3 cell that contains it, and why not where it has none.

`h3_level8_index` is what the City writes: the cell, by H3's own indexing and never by the
polygons, whose straight sides are not H3's; `0` where latitude or longitude is missing; null where
the coordinates are no place on Earth. `join_status` says what came of it:

- `joined`: the cell is one of the City's.
- `missing_coordinates`: latitude or longitude is empty. No failure: nothing was there to join.
- `invalid_coordinates`: not a number, infinite, or out of range.
- `outside_city`: a real cell that is not one of the City's.

The last two are failures. polars-h3 finds the cells: a port of H3, several times as fast as a loop
over H3 itself, that agrees with it but for points within a micrometre of a cell's corner. What lies
there comes from arithmetic and has many digits; on coordinates of so many H3 itself decides.

The tables are read, joined and written in one pass of polars' streaming
engine, so that memory does not grow with their text.
"""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import polars_h3
from isal import igzip_threaded, isal_zlib

from capetown.city import COMPLETED, CREATED, INDEX, RESOLUTION, TIMES
from capetown.city import NUMBER as KEY
from capetown.hexes.hexagons import Hexagons, metres_to_nearest
from capetown.hexes.schema import CATEGORY
from capetown.hexes.table import (
    ADDED,
    BLOCK,
    EXPLAINED,
    METRES,
    NAMES,
    REASON,
    STATUS,
    check_numbers,
    check_widths,
    count_separators,
    explain,
    parsed,
    scan,
)

JOINED, MISSING, INVALID, OUTSIDE = STATUSES = (
    "joined",
    "missing_coordinates",
    "invalid_coordinates",
    "outside_city",
)
FAILED = (INVALID, OUTSIDE)
# Rows in a row group: fixed, so that the same requests give the same bytes.
ROW_GROUP = 200_000
# Where the values of columns that are not text stand beside their text.
TYPED = {name: f"parsed: {name}" for name in (*TIMES, "latitude", "longitude")}
# Characters of a coordinate that is exact to a tenth of a millimetre, sign and point included.
DIGITS = 13
READ_ERRORS: tuple[type[Exception], ...] = (
    pl.exceptions.PolarsError,
    OSError,
    EOFError,
    isal_zlib.error,  # type: ignore[assignment]
)


@dataclass(frozen=True)
class Join:
    """A join, without its file of requests.

    Attributes:
        rows: a row a request, in the input's order: `notification_number`, `index`, `status`,
            `directorate`, `official_suburb`, `taken` (a duration from creation to completion),
            `half` (one coordinate of two), and `unparsed: COLUMN` for both timestamps.
        rejects: all columns of the failed ones as text, the two that the join adds, `reason` and
            `metres_to_nearest_hexagon`.
        empty: how many values are missing, by column.
    """

    rows: pl.DataFrame
    rejects: pl.DataFrame
    empty: dict[str, int]


@dataclass(frozen=True)
class ReferenceComparison:
    """A join against the City's own.

    Attributes:
        compared: requests in either table.
        matched: those in both with the same index.
        mismatches: the others: `notification_number`, `index` and `expected`, and whether they are
            `in_requests` and `in_reference`.
    """

    compared: int
    matched: int
    mismatches: pl.DataFrame


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
            unique, or a row has other than a value a column.
    """
    table = scan(path, NAMES, (*ADDED, *EXPLAINED, *TYPED.values()))
    joined = _joined(table, hexagons)
    text = csv.with_suffix("") if csv else None
    try:
        with ThreadPoolExecutor(1) as beside:
            separators = beside.submit(count_separators, path)
            rows, rejects, filled, fine = _written(table, joined, requests, text)
        check_numbers(path, rows[KEY])
        if separators.result() != (len(rows) + 1) * (len(filled.columns) - 1):
            check_widths(path)
        if len(fine) and len(corrections := _corrections(fine)):
            joined = _joined(table, hexagons, corrections)
            rows, rejects, filled, _ = _written(table, joined, requests, text)
        if csv and text:
            _compress(text, csv)
    except READ_ERRORS as error:
        raise explain(path, error) from error
    empty = {name: len(rows) - n for name, n in filled.row(0, named=True).items()}
    return Join(rows, explained(rejects, hexagons), empty)


def _written(
    table: pl.LazyFrame, joined: pl.LazyFrame, requests: Path, csv: Path | None
) -> list[pl.DataFrame]:
    """Write the files, and return `Join.rows`, the rejects, how many values each column has, and
    the located requests whose coordinates have more than `DIGITS`."""
    columns = table.collect_schema().names()
    values = [pl.col(TYPED.get(name, name)).alias(name) for name in columns]
    # A quarter faster than the default level, in a file that is 6 % larger.
    sinks = [
        joined.select(*values, *ADDED).sink_parquet(
            requests, compression_level=1, row_group_size=ROW_GROUP, lazy=True
        )
    ]
    if csv:
        sinks.append(joined.select(*NAMES, INDEX).sink_csv(csv, lazy=True))
    queries = [
        joined.select(
            KEY,
            pl.col(INDEX).cast(CATEGORY).alias("index"),
            pl.col(STATUS).alias("status"),
            pl.col("directorate", "official_suburb"),
            (pl.col(TYPED[COMPLETED]) - pl.col(TYPED[CREATED])).alias("taken"),
            (pl.col("latitude").is_null() != pl.col("longitude").is_null()).alias("half"),
            *(
                (pl.col(name).is_not_null() & pl.col(TYPED[name]).is_null()).alias(
                    f"unparsed: {name}"
                )
                for name in TIMES
            ),
        ),
        joined.filter(pl.col(STATUS).is_in(FAILED))
        .select(*columns, *ADDED)
        .cast({CATEGORY: pl.String}),
        joined.select(pl.col(columns).count()),
        joined.filter(
            pl.any_horizontal(pl.col("latitude", "longitude").str.len_bytes() > DIGITS),
            ~pl.col(STATUS).is_in([MISSING, INVALID]),
        ).select(KEY, INDEX, TYPED["latitude"], TYPED["longitude"]),
    ]
    return pl.collect_all([*queries, *sinks], engine="streaming")[: len(queries)]


def _compress(text: Path, path: Path) -> None:
    """Replace a text by a gzipped one: in blocks of one size, so that the same text gives the same
    bytes on the same processor. polars' own differ from run to run."""
    opened = igzip_threaded.open(path, "wb", 1, threads=2)  # type: ignore[no-untyped-call]
    with text.open("rb") as file, opened as compressed:
        shutil.copyfileobj(file, compressed, BLOCK)
    text.unlink()


def _corrections(fine: pl.DataFrame) -> pl.DataFrame:
    """Number and cell of the requests that H3 itself puts elsewhere."""
    import h3

    places = fine.select(TYPED["latitude"], TYPED["longitude"]).iter_rows()
    cells = pl.Series([h3.latlng_to_cell(*place, RESOLUTION) for place in places], dtype=pl.String)
    return fine.select(KEY, cells.alias("cell")).filter(cells != fine[INDEX])


def read_reference(path: Path) -> pl.DataFrame:
    """Read the City's own join: `notification_number` and its index as `expected`.

    Args:
        path: the City's `sr_hex.csv.gz`, in any order.

    Raises:
        CapetownError: the table cannot be read, lacks a column or has no rows, or its numbers are
            not unique.
    """
    try:
        table = (
            scan(path, [KEY, INDEX])
            .select(KEY, pl.col(INDEX).cast(CATEGORY).alias("expected"))
            .collect(engine="streaming")
        )
    except READ_ERRORS as error:
        raise explain(path, error) from error
    check_numbers(path, table[KEY])
    return table


def compare_with_reference(rows: pl.DataFrame, reference: pl.DataFrame) -> ReferenceComparison:
    """Compare a join with the City's own, request by request.

    Args:
        rows: as in `Join.rows`.
        reference: as `read_reference` gives it.
    """
    ours = rows.select(KEY, "index")
    if ours[KEY].equals(reference[KEY]):
        both = ours.with_columns(reference["expected"], in_requests=True, in_reference=True)
    else:
        both = (
            ours.with_columns(in_requests=True)
            .join(reference.with_columns(in_reference=True), on=KEY, how="full", coalesce=True)
            .with_columns(pl.col("in_requests", "in_reference").fill_null(False))
        )
    matched = (
        pl.col("index").eq_missing(pl.col("expected"))
        & pl.col("in_requests")
        & pl.col("in_reference")
    )
    mismatches = both.filter(~matched).sort(KEY)
    return ReferenceComparison(len(both), len(both) - len(mismatches), mismatches)


def explained(rejects: pl.DataFrame, hexagons: Hexagons) -> pl.DataFrame:
    """Add a likely `reason` and `metres_to_nearest_hexagon` to failed requests.

    The reason is the first change that brings the coordinates into the City; else what invalid
    coordinates are; else null. The metres, rounded to decimetres, are those of real places.
    """
    latitude, longitude = parsed("latitude"), parsed("longitude")
    city = hexagons.index.implode()

    def inside(reason: str, north: pl.Expr, east: pl.Expr) -> pl.Expr:
        return pl.when(_cell(north, east).is_in(city)).then(pl.lit(reason))

    either_nan = latitude.is_nan().fill_null(True) | longitude.is_nan().fill_null(True)
    reason = pl.coalesce(
        pl.when(latitude == 0, longitude == 0).then(pl.lit("zero, zero")),
        inside("decimal comma", _with_point("latitude"), _with_point("longitude")),
        inside("swapped", longitude, latitude),
        inside("sign lost", -latitude.abs(), longitude.abs()),
        inside("swapped and sign lost", -longitude.abs(), latitude.abs()),
        inside("decimal point lost", _two_digits(latitude), _two_digits(longitude)),
        pl.when(either_nan).then(pl.lit("not a number")),
        pl.when(latitude.is_infinite() | longitude.is_infinite()).then(pl.lit("infinite")),
        pl.when(pl.col(STATUS) == INVALID).then(pl.lit("out of range")),
    )
    points = rejects.select(latitude, longitude).to_numpy()
    metres = np.full(len(points), np.nan)
    outside = (rejects[STATUS] == OUTSIDE).to_numpy()
    metres[outside] = metres_to_nearest(hexagons, *points[outside].T).round(1)
    return rejects.with_columns(
        reason.alias(REASON),
        pl.Series(METRES, metres, nan_to_null=True),
    )


def _joined(
    table: pl.LazyFrame, hexagons: Hexagons, corrections: pl.DataFrame | None = None
) -> pl.LazyFrame:
    """The table with its typed columns as in `TYPED` and the two that the join adds.

    `corrections` are cells by number that hold instead of those found.
    """
    typed = table.with_columns(parsed(name).alias(new) for name, new in TYPED.items())
    missing = pl.col("latitude").is_null() | pl.col("longitude").is_null()
    cell = _cell(pl.col(TYPED["latitude"]), pl.col(TYPED["longitude"]))
    if corrections is not None:
        cell = pl.col(KEY).replace_strict(corrections[KEY], corrections["cell"], default=cell)
    indexed = typed.with_columns(pl.when(missing).then(pl.lit("0")).otherwise(cell).alias(INDEX))
    return indexed.with_columns(_status(hexagons.index.implode()))


def _status(city: pl.Series) -> pl.Expr:
    """From `h3_level8_index` alone: `0` is missing, null invalid, the rest in the City or not."""
    index = pl.col(INDEX)
    return (
        pl.when(index == "0")
        .then(pl.lit(MISSING))
        .when(index.is_null())
        .then(pl.lit(INVALID))
        .when(index.is_in(city))
        .then(pl.lit(JOINED))
        .otherwise(pl.lit(OUTSIDE))
        .cast(pl.Enum(STATUSES))
        .alias(STATUS)
    )


def _cell(latitude: pl.Expr, longitude: pl.Expr) -> pl.Expr:
    """The cell that contains a point, as text; null where there is no such place on Earth."""
    on_earth = latitude.is_between(-90, 90) & longitude.is_between(-180, 180)
    cell: pl.Expr = polars_h3.latlng_to_cell(
        pl.when(on_earth).then(latitude),
        pl.when(on_earth).then(longitude),
        RESOLUTION,
        return_dtype=pl.String,
    )
    return cell


def _with_point(name: str) -> pl.Expr:
    text = pl.col(name).str.replace(",", ".", literal=True).str.strip_chars()
    return text.cast(pl.Float64, strict=False)


def _two_digits(degrees: pl.Expr) -> pl.Expr:
    """The number with its decimal point moved behind the second digit, where the City's stands."""
    return degrees / 10.0 ** (degrees.abs().log10().floor() - 1)
