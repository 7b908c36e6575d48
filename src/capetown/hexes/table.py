"""The service requests: reading their table, and what is wrong with it.

Everything is read as text or as categories, which are texts that come again and again, so that
leading zeros survive and a damaged value is still there to be shown; `parsed` gives the typed
values that `schema.REQUEST_SCHEMA` declares.
"""

import csv
import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import polars as pl
from isal import igzip

from capetown.city import INDEX, TIME_ZONE
from capetown.city import NUMBER as KEY
from capetown.errors import CapetownError
from capetown.files import one_line
from capetown.hexes.schema import CATEGORY, REQUEST_SCHEMA, TIMESTAMP

# What a timestamp may end with: the quarters of an hour from 14:45 west of UTC to 14:45 east.
QUARTERS = range(-59, 60)
ZONES = pl.Enum([f"{'-' if q < 0 else '+'}{abs(q) // 4:02}:{abs(q) % 4 * 15:02}" for q in QUARTERS])
GZIP = b"\x1f\x8b"
# A value may be as long as it likes.
csv.field_size_limit(2**31 - 1)
NAMES = tuple(REQUEST_SCHEMA)
CATEGORIES = {name for name, dtype in REQUEST_SCHEMA.items() if dtype == CATEGORY}
STATUS = "join_status"
# What the join adds, to all requests and to those that failed.
ADDED = (INDEX, STATUS)
EXPLAINED = (REASON, METRES) = ("reason", "metres_to_nearest_hexagon")
# Bytes of text that are looked at at a time.
BLOCK = 1 << 18
# A value in quotes, in a line of CSV.
QUOTED = re.compile(r'(?:^|(?<=,))"(?:[^"]|"")*"(?=[,\r\n]|$)')


def scan(path: Path, needed: Sequence[str], added: Sequence[str] = ()) -> pl.LazyFrame:
    """Look at a gzipped CSV file's header and open the file lazily, as text and categories.

    Args:
        path: a `.csv.gz` file in UTF-8.
        needed: columns that must be there, in any order; others come along.
        added: columns that must not be there.

    Raises:
        CapetownError: the file is missing, empty or not gzip, or its header is not as needed.
    """
    header = _header(path)
    for name in needed:
        if name not in header:
            like = [other for other in header if other.strip().lower() == name]
            hint = f"; rename its column {like[0]!r}" if like else ""
            raise CapetownError(f"{path}: column {name!r} is missing from the header{hint}")
    for position, name in enumerate(header):
        if name in header[:position]:
            raise CapetownError(f"{path}: column {name!r} is there twice; keep one")
        if name in added:
            raise CapetownError(
                f"{path}: column {name!r} is there already and would be overwritten; rename it, "
                "or is this the City's joined table?"
            )
    schema = {name: CATEGORY if name in CATEGORIES else pl.String for name in header}
    return pl.scan_csv(path, schema=schema, null_values="")


def parsed(name: str) -> pl.Expr:
    """A column's values in its declared type; null where the text is no such value."""
    dtype = REQUEST_SCHEMA[name]
    if dtype == TIMESTAMP:
        return _timestamp(pl.col(name)).alias(name)
    if dtype == pl.Float64:
        return pl.col(name).str.strip_chars().cast(pl.Float64, strict=False)
    return pl.col(name)


def check_numbers(path: Path, numbers: pl.Series) -> None:
    """Check that the requests' numbers are there and unique, and that there are any.

    Args:
        path: the file they come from, for the message.
        numbers: a request's number each, in the file's order.

    Raises:
        CapetownError: no rows, or a number is empty or comes again; the row is counted from 1
            without the header.
    """
    if numbers.is_empty():
        raise CapetownError(f"{path}: no rows under the header; fetch the file again")
    if numbers.null_count():
        row = numbers.is_null().arg_max() or 0
        raise CapetownError(
            f"{path}: row {row + 1}: {KEY} is empty ({numbers.null_count()} such rows); "
            "remove blank lines or give the request its number"
        )
    # Equal texts have equal hashes; counting these takes a quarter of the time.
    if numbers.hash().n_unique() < len(numbers) and numbers.n_unique() < len(numbers):
        again = numbers.is_duplicated().arg_true()
        value = numbers[again[0]]
        rows = (numbers == value).arg_true() + 1
        raise CapetownError(
            f"{path}: rows {rows[0]} and {rows[1]}: {KEY} {value!r} is not unique "
            f"({len(again)} rows share a number); keep one row of each"
        )


def count_separators(path: Path) -> int:
    """How many commas outside quotes a gzipped CSV file has, with its header.

    Tells whether there is a value for each column, for polars adds empty ones itself.

    Raises:
        OSError, EOFError, isal.isal_zlib.error: the file is damaged.
    """
    commas = quotes = 0
    with igzip.open(path) as file:  # type: ignore[no-untyped-call]
        while block := file.read(BLOCK):
            parts = block.split(b'"')
            quoted = b"".join(parts[1 - quotes % 2 :: 2])
            # Ten times as fast as bytes.count where a byte is so frequent.
            commas += int(np.count_nonzero(np.frombuffer(block, np.uint8) == ord(",")))
            commas -= quoted.count(b",")
            quotes += len(parts) - 1
    return commas


def check_widths(path: Path) -> None:
    """Check, row by row, that there is a value for each column.

    Raises:
        CapetownError: a row has more or fewer values, or is damaged in another way.
    """
    if fault := _first_fault(path):
        raise CapetownError(f"{path}: {fault}")


def explain(path: Path, error: Exception) -> CapetownError:
    """Say where a file that polars gave up on is damaged, by reading it again row by row.

    Args:
        path: the file.
        error: what polars said, passed on if the second reading finds nothing wrong; then the
            fault may lie with what was written meanwhile.
    """
    said = f"every row can be read, but polars failed: {one_line(error)}"
    return CapetownError(
        f"{path}: {_first_fault(path, quotes=True) or f'{said}; is the disk full?'}"
    )


def _first_fault(path: Path, *, quotes: bool = False) -> str | None:
    """The first row that is damaged, and how; else, if asked for, a doubtful quotation mark."""
    row, doubtful = 0, None
    read: list[str] = []
    try:
        with _opened(path) as lines:
            reader = csv.reader(_kept(lines, read), strict=True)
            header = next(reader)
            for row, values in enumerate(reader, 1):
                if fault := _fault(header, values):
                    return f"row {row}, {fault}"
                if quotes and not doubtful and '"' in (bare := QUOTED.sub("", "".join(read))):
                    odd = next(value for value in bare.strip().split(",") if '"' in value)
                    doubtful = f"row {row}: a quotation mark in {odd[:80]!r}; double or remove it"
                read.clear()
    except csv.Error as found:
        return f"row {row + 1}: {found}; is a quotation mark left open?"
    except (gzip.BadGzipFile, EOFError, zlib.error) as found:
        return f"damaged gzip after row {row} ({found}); fetch the file again"
    return doubtful


def _kept(lines: Iterable[str], read: list[str]) -> Iterator[str]:
    """The lines, each put into `read` as well when it is asked for."""
    for line in lines:
        read.append(line)
        yield line


def _header(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            start = file.read(len(GZIP))
        if start and start != GZIP:
            raise CapetownError(f"{path}: not a gzip file (it starts with {start!r}); compress it")
        with _opened(path) as lines:
            first = lines.readline()
            if first.endswith("\r"):
                raise CapetownError(f"{path}: its lines end in CR alone; convert them to LF")
            header = next(csv.reader([first]), [])
    except FileNotFoundError as error:
        raise CapetownError(f"{path}: no such file; run the download stage") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CapetownError(f"{path}: damaged gzip ({error}); fetch the file again") from error
    except OSError as error:
        raise CapetownError(f"{path}: cannot be read ({error.strerror})") from error
    if not header:
        raise CapetownError(f"{path}: the file is empty; fetch it again")
    return header


def _opened(path: Path) -> TextIO:
    """The file's text; bytes that are not UTF-8 become lone surrogates."""
    return gzip.open(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="")


def _fault(header: list[str], values: list[str]) -> str | None:
    if len(values) != len(header):
        fix = "quote values that hold a comma" if len(values) > len(header) else "complete the row"
        ends = f"from {values[0]!r} to {values[-1]!r}: " if values else ""
        return f"{ends}{len(values)} values for {len(header)} columns; {fix}"
    for name, value in zip(header, values, strict=True):
        if not value.isascii() and any("\udc80" <= letter <= "\udcff" for letter in value):
            shown = value.encode("utf-8", "surrogateescape")
            return f"column {name!r}: {shown!r} is not UTF-8; save the file as UTF-8"
    return None


def _timestamp(text: pl.Expr) -> pl.Expr:
    """Instants of texts like `2020-10-07 06:55:18+02:00`.

    The zone is parsed apart from the rest: twice as fast as polars' own `%:z`.
    """
    local = text.str.head(19).str.to_datetime(
        "%Y-%m-%d %H:%M:%S", strict=False, time_unit="us", cache=False
    )
    zone = text.str.slice(19).cast(ZONES, strict=False).to_physical()
    east = pl.duration(minutes=(zone.cast(pl.Int64) + QUARTERS.start) * 15)
    return (local - east).dt.replace_time_zone("UTC").dt.convert_time_zone(TIME_ZONE)
