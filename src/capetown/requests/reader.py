"""The service requests' table: its rows as text, strictly read, and their typed values.

Everything is read as text or as categories, which are texts that come again and again, so that
leading zeros survive and a damaged value is still there to be shown; `read_numbers` and
`times.read_times` give the typed values that `schema.REQUEST_SCHEMA` declares.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from capetown.city import INDEX
from capetown.city import REQUEST_ID as KEY
from capetown.errors import CapetownError, one_line
from capetown.requests.csv_header import read_layout, text_blocks
from capetown.requests.csv_strict import Rows, Seen, check_widths, locate, whole_rows
from capetown.requests.schema import CATEGORY, REQUEST_SCHEMA

NAMES = tuple(REQUEST_SCHEMA)
CATEGORIES = {name for name, dtype in REQUEST_SCHEMA.items() if dtype == CATEGORY}
STATUS = "join_status"
JOINED, MISSING, INVALID, OUTSIDE = STATUSES = (
    "joined",
    "missing_coordinates",
    "invalid_coordinates",
    "outside_city",
)
FAILED = (INVALID, OUTSIDE)
# What the join adds, to all requests and to those that failed.
ADDED = (INDEX, STATUS)
EXPLAINED = (REASON, METRES, UNREADABLE) = ("reason", "metres_to_nearest_hexagon", "unreadable")
# What stands for a directorate, kind or suburb that is not given.
NONE = "(none)"
# How programs write that a value is missing, in lower case.
NA_STRINGS = ("", "null", "none", "nil", "n/a", "#n/a", "na", "<na>", "nan", "nat", "\\n")


class Table:
    """A table whose rows are read once, in pieces.

    Attributes:
        path: the file.
        header: its columns' names.
        count: rows by their line ends, so far: not polars' count.
    """

    def __init__(self, path: Path, needed: Sequence[str], added: Sequence[str] = ()) -> None:
        """Look at the header.

        Args:
            path: a `.csv.gz` file.
            needed: columns that must be there, in any order; others come along.
            added: columns that must not be there.

        Raises:
            CapetownError: the file is no such table, as `read_layout` says.
        """
        self.path, self.layout = path, read_layout(path, needed, added)
        self.header, self.count = self.layout.header, 0
        self._seen, self._repeated, self._empty = Seen(), 0, 0

    def frames(self, categories: set[str], columns: Sequence[str] = ()) -> Iterator[pl.DataFrame]:
        """The rows, some ten thousand at a time: texts, and null where there is none.

        Args:
            categories: columns in which values come again and again.
            columns: those wanted; all by default.

        Raises:
            CapetownError: a row is not strict CSV in UTF-8, as `rows` says, with its number.
        """
        self.count, self._seen, self._repeated, self._empty = 0, Seen(), 0, 0
        types = {name: CATEGORY if name in categories else pl.String() for name in self.header}
        wanted = [self.header.index(name) for name in columns] or None
        blocks = text_blocks(self.path, self.layout)
        separator = self.layout.separator
        for rows in whole_rows(self.path, blocks, len(self.header), separator, self._seen):
            frame = self._parse(rows, types, wanted)
            self.count += rows.count
            if set(NAMES) <= set(frame.columns):
                self._refuse_totals(frame, rows.first)
            yield self._without_headers(frame)

    def notes(self) -> list[str]:
        """Oddities that were read all the same; a line each."""
        found = [*self.layout.notes, *self._seen.notes()]
        if self._repeated:
            found.append(f"{self._repeated:,} rows that repeat the header, skipped")
        if self._empty:
            found.append(f"{self._empty:,} rows of empty values, skipped")
        return [f"{self.path}: {note}" for note in found]

    @property
    def requests(self) -> int:
        """Rows by their line ends, but for those that hold no request."""
        return self.count - self._repeated - self._empty

    def _parse(
        self, rows: Rows, types: Mapping[str, pl.DataType], wanted: list[int] | None
    ) -> pl.DataFrame:
        separator = self.layout.separator
        try:
            frame = pl.read_csv(
                rows.text, has_header=False, schema=types, columns=wanted, null_values="",
                separator=separator,
            )  # fmt: skip
        except pl.exceptions.PolarsError as error:
            try:
                rows.text.decode()
            except UnicodeDecodeError as found:
                where = locate(rows, found.start, separator)
                raise CapetownError(
                    f"{self.path}: {where} is not UTF-8; save the file as UTF-8"
                ) from error
            check_widths(self.path, rows, len(types), separator)
            last = rows.first + rows.count - 1
            raise CapetownError(
                f"{self.path}: rows {rows.first} to {last} cannot be read ({one_line(error)})"
            ) from error
        if len(frame) != rows.count:
            last = rows.first + rows.count - 1
            raise CapetownError(
                f"{self.path}: rows {rows.first} to {last} are {rows.count:,} by their line ends, "
                f"but polars reads {len(frame):,}; look there for quotation marks"
            )
        return frame

    def _refuse_totals(self, frame: pl.DataFrame, first: int) -> None:
        """Refuse a row that has a number and nothing else, as a line of totals has."""
        others = [name for name in REQUEST_SCHEMA if name != KEY]
        bare = frame.select(
            pl.col(KEY).is_not_null() & pl.all_horizontal(pl.col(others).is_null())
        ).to_series()
        if bare.any():
            at = bare.arg_max() or 0
            raise CapetownError(
                f"{self.path}: row {first + at}: {KEY} {frame[KEY][at]!r} and no other value; is "
                "it a line of totals? remove it"
            )

    def _without_headers(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The requests: not the header again, as in files put together, and no empty rows."""
        keys = frame[KEY]
        if (keys == KEY).any():
            again = pl.all_horizontal(
                pl.col(name).cast(pl.String).fill_null("") == name for name in frame.columns
            )
            kept = frame.filter(~again)
            self._repeated += len(frame) - len(kept)
            frame = kept
        if keys.null_count():
            kept = frame.filter(~pl.all_horizontal(pl.all().is_null()))
            self._empty += len(frame) - len(kept)
            frame = kept
        return frame


def read_numbers(text: pl.Series) -> pl.Series:
    """Numbers of texts; null where a text is none, NaN is one."""
    return text.str.strip_chars().cast(pl.Float64, strict=False)


def is_missing(text: pl.Series, values: pl.Series) -> pl.Series:
    """True where a typed value is missing: nothing, or what programs write for it.

    Args:
        text: as it stands in the table.
        values: what was read of it.
    """
    missing = text.is_null()
    doubtful = (
        values.is_null() if values.dtype != pl.Float64 else ~values.is_finite().fill_null(False)
    )
    odd = (doubtful & ~missing).arg_true()
    if len(odd):
        said = text.gather(odd).str.strip_chars().str.to_lowercase()
        missing = missing.scatter(odd, said.is_in(NA_STRINGS))
    return missing


def check_keys(path: Path, numbers: pl.Series) -> None:
    """Check that the requests' numbers are there and unique, and that there are any.

    Args:
        path: the file they come from, for the message.
        numbers: a request's number each, in the file's order.

    Raises:
        CapetownError: no rows, or a number is empty, has no digit or comes again; the row is
            counted from 1 without the header.
    """
    if numbers.is_empty():
        raise CapetownError(f"{path}: no rows under the header; fetch the file again")
    if numbers.null_count():
        row = numbers.is_null().arg_max() or 0
        raise CapetownError(
            f"{path}: row {row + 1}: {KEY} is empty ({numbers.null_count()} such rows); "
            "give the request its number or remove the row"
        )
    wordy = ~numbers.str.contains(r"\d")
    if wordy.any():
        row = wordy.arg_max() or 0
        raise CapetownError(
            f"{path}: row {row + 1}: {KEY} {numbers[row]!r} is no number; is it a line of totals "
            "or a remark? remove it"
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
