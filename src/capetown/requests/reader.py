"""The table of service requests: strict rows of text, and their typed values.

Rows are read as text, so that leading zeros survive and an unreadable value can be shown.
`read_values` then converts them to the types of `REQUEST_SCHEMA`. That is a plain mapping, because
importing pandera takes as long as finding the cells of a year of requests.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from capetown import city
from capetown.city import INDEX, REQUEST_ID
from capetown.errors import CapetownError
from capetown.requests.csv_reader import FETCH, CsvTable
from capetown.requests.times import is_form, read_times

CATEGORY = pl.Categorical()
TYPES: dict[str, pl.DataType] = {
    "text": pl.String(),
    "category": CATEGORY,
    "time": pl.Datetime("us", city.TIME_ZONE),
    "number": pl.Float64(),
}
REQUEST_SCHEMA = {column.name: TYPES[column.kind] for column in city.REQUEST_COLUMNS}
NAMES = tuple(REQUEST_SCHEMA)
CATEGORIES = {column.name for column in city.REQUEST_COLUMNS if column.kind == "category"}
TIMED = tuple(column.name for column in city.REQUEST_COLUMNS if column.kind == "time")
NUMBERED = tuple(column.name for column in city.REQUEST_COLUMNS if column.kind == "number")
# Columns whose unreadable values are reported per column; coordinates are reported as points.
PARSED = tuple(name for name in (*TIMED, *NUMBERED) if name not in city.COORDINATES)
STATUS = "join_status"
JOINED, MISSING, INVALID, OUTSIDE = STATUSES = (
    "joined",
    "missing_coordinates",
    "invalid_coordinates",
    "outside_city",
)
FAILED = (INVALID, OUTSIDE)
# Columns that the join adds to all requests, and to rejected ones.
ADDED = (INDEX, STATUS)
EXPLAINED = (REASON, METRES, UNREADABLE) = ("reason", "metres_to_nearest_hexagon", "unreadable")
# Names that no column of the table may have.
RESERVED = (*ADDED, *EXPLAINED)
# Columns with a role, and the kinds that suit it.
ROLES = {
    REQUEST_ID: ("text",),
    **dict.fromkeys(city.TIMES, ("time",)),
    **dict.fromkeys(city.COORDINATES, ("number",)),
    **dict.fromkeys((city.DIRECTORATE, city.REQUEST_TYPE, city.SUBURB), ("category", "text")),
}
# Columns that the join and the report compute beside those with a role.
COMPUTED = (
    "index", "status", "taken", "half", "apart", "joined", "located", "again", "requests",
    "without_coordinates", "open", "median_days", "p90_days", "month",
)  # fmt: skip
# Stands for a directorate, type or suburb that is not given.
NONE = "(none)"
# Spellings of a missing value in lower case, and the spellings that programs write. Exports of
# fixed width have blanks.
NA_STRINGS = ("", "null", "none", "nil", "n/a", "#n/a", "na", "<na>", "nan", "nat", "\\n")
NA_SPELLINGS = pl.Series(
    sorted({form(word) for word in NA_STRINGS for form in (str, str.upper, str.title)}
           | {"NaN", "NaT", "\t", "\u00a0"} | {" " * width for width in range(1, 256)}),
    dtype=CATEGORY,
)  # fmt: skip


class RequestTable(CsvTable):
    """A table with one row per request. Empty rows and repetitions of the header are skipped.

    Attributes:
        requests: how many were read.
    """

    def __init__(
        self, path: Path, required: Sequence[str], reserved: Collection[str] = (), *,
        part: bool = False,
    ) -> None:  # fmt: skip
        """Read the header; see `check_city` and `CsvTable`."""
        check_city()
        super().__init__(path, required, reserved, part=part)
        self.requests = self._repeated = self._empty = 0

    def frames(self, categories: Collection[str] = ()) -> Iterator[pl.DataFrame]:
        """Requests as text; see `CsvTable.frames`.

        Raises:
            CapetownError: as there, or a row with an ID and no other value.
        """
        self.requests = self._repeated = self._empty = 0
        for frame in super().frames(categories):
            first = self.requests + self._repeated + self._empty + 1
            if set(NAMES) <= set(frame.columns):
                self._refuse_totals(frame, first)
            kept = frame
            if (kept[REQUEST_ID] == REQUEST_ID).any():
                values = (pl.col(name).cast(pl.String).fill_null("") for name in kept.columns)
                repeats = [value == name for value, name in zip(values, kept.columns, strict=True)]
                kept = kept.filter(~pl.all_horizontal(repeats))
                self._repeated += len(frame) - len(kept)
            filled = kept
            if kept[REQUEST_ID].null_count():
                filled = kept.filter(~pl.all_horizontal(pl.all().is_null()))
                self._empty += len(kept) - len(filled)
            self.requests += len(filled)
            yield filled

    def notes(self) -> list[str]:
        """Accepted oddities, one line each."""
        counts = {
            "rows that repeat the header, skipped": self._repeated,
            "rows of empty values, skipped": self._empty,
        }
        found = super().notes() + [f"{count:,} {what}" for what, count in counts.items() if count]
        return [f"{self.path}: {note}" for note in found]

    def _refuse_totals(self, frame: pl.DataFrame, first: int) -> None:
        others = [name for name in NAMES if name != REQUEST_ID]
        bare = frame.select(
            pl.col(REQUEST_ID).is_not_null() & pl.all_horizontal(pl.col(others).is_null())
        ).to_series()
        if bare.any():
            row = bare.arg_max() or 0
            raise CapetownError(
                f"{REQUEST_ID} {frame[REQUEST_ID][row]!r} and no other value",
                where=f"{self.path}: row {first + row}", fix="remove the row if it has totals",
            )  # fmt: skip


def check_city() -> None:
    """Check the columns, the time zone and the forms of times of `city.py`.

    Raises:
        CapetownError: a column is declared twice, or one with a role is not declared, of the wrong
            kind or called like a computed one; or the time zone or a form of times does not exist.
    """
    names = [column.name for column in city.REQUEST_COLUMNS]
    kinds = {column.name: column.kind for column in city.REQUEST_COLUMNS}
    single = (REQUEST_ID, *city.TIMES, *city.COORDINATES)
    faults = [(name, "is declared twice", "keep one") for name in names if names.count(name) > 1]
    for name, suitable in ROLES.items():
        if single.count(name) > 1:
            faults.append((name, "has two roles", "name another column for one of them"))
        if name not in kinds:
            faults.append((name, "is not declared", "add it to REQUEST_COLUMNS"))
        elif kinds[name] not in suitable:
            faults.append((name, f"is a {kinds[name]}", f"declare it as a {suitable[0]}"))
        if name in COMPUTED:
            faults.append((name, "would be overwritten", "rename it in the table"))
    try:
        ZoneInfo(city.TIME_ZONE)
    except (ZoneInfoNotFoundError, ValueError):
        faults.append((city.TIME_ZONE, "is not a time zone", "correct TIME_ZONE"))
    if isinstance(city.TIME_FORMATS, str):
        faults.append(
            (city.TIME_FORMATS, "is not a tuple", "write a comma after it in TIME_FORMATS")
        )
    faults += [(form, "is not a form of times", "correct TIME_FORMATS")
               for form in city.TIME_FORMATS if not is_form(form)]  # fmt: skip
    for name, what, fix in faults:
        raise CapetownError(f"{name!r} {what}", where=city.__file__, fix=fix)


@dataclass(frozen=True)
class Values:
    """Typed values of some requests.

    Attributes:
        frame: all columns in their types; null if missing or unreadable.
        unreadable: True for values that exist but cannot be read, by column with times or numbers.
        unzoned: True for times without a zone, by column with times.
        repeated: True for those of them in an hour that clocks repeat, by column with times.
        missing: number of missing values by column.
    """

    frame: pl.DataFrame
    unreadable: dict[str, pl.Series]
    unzoned: dict[str, pl.Series]
    repeated: dict[str, pl.Series]
    missing: dict[str, int]


def read_values(text: pl.DataFrame) -> Values:
    """Convert columns of text to the types of `REQUEST_SCHEMA`."""
    values, unreadable, unzoned, repeated = {}, {}, {}, {}
    for name in TIMED:
        values[name], unzoned[name], repeated[name] = read_times(text[name])
    for name in NUMBERED:
        values[name] = read_numbers(text[name])
    for name, value in values.items():
        unreadable[name] = pl.repeat(False, len(text), eager=True).alias(name)
        unknown = value.is_null() if name in TIMED else ~value.is_finite().fill_null(False)
        if unknown.sum() == text[name].null_count():
            continue
        rows = (unknown & text[name].is_not_null()).arg_true()
        words = text[name].gather(rows).str.strip_chars().str.to_lowercase()
        absent = words.is_in(NA_STRINGS)
        values[name] = value.scatter(rows.filter(absent), None)
        unreadable[name] = unreadable[name].scatter(
            rows, ~absent & values[name].gather(rows).is_null()
        )
    frame = text.with_columns(values.values())
    names = pl.col(sorted(CATEGORIES))
    absent_names = names.is_in(NA_SPELLINGS.implode())
    if frame.select(pl.any_horizontal(absent_names.any())).item():
        frame = frame.with_columns(pl.when(~absent_names).then(names))
    missing = frame.null_count().row(0, named=True)
    missing |= {name: missing[name] - int(flags.sum()) for name, flags in unreadable.items()}
    return Values(frame, unreadable, unzoned, repeated, missing)


def read_numbers(text: pl.Series) -> pl.Series:
    """Numbers of texts; null if a text is not a number. NaN and infinities are numbers."""
    numbers = text.cast(pl.Float64, strict=False)
    if numbers.null_count() > text.null_count():
        numbers = text.str.strip_chars().cast(pl.Float64, strict=False)
    return numbers


def check_ids(path: Path, ids: pl.Series) -> None:
    """Check that there are requests and that their IDs exist, have a digit and are unique.

    Args:
        path: the file, for messages.
        ids: one per request, in the order of the file.

    Raises:
        CapetownError: if not; rows are counted from 1 under the header.
    """
    if ids.is_empty():
        raise CapetownError("no rows under the header", where=path, fix=FETCH)
    wrong = {
        "empty": (ids.is_null(), "add the ID or remove the row"),
        "not an ID": (~ids.str.contains(r"\d"), "remove the row if it has totals or a remark"),
    }
    for what, (flags, fix) in wrong.items():
        if flags.any():
            row = flags.arg_max() or 0
            raise CapetownError(
                f"{REQUEST_ID} {ids[row]!r} is {what} ({flags.sum()} such rows)",
                where=f"{path}: row {row + 1}", fix=fix,
            )  # fmt: skip
    # Hashes are counted first, because that takes a quarter of the time.
    if ids.hash().n_unique() < len(ids) and ids.n_unique() < len(ids):
        value = ids.filter(ids.is_duplicated())[0]
        rows = (ids == value).arg_true() + 1
        raise CapetownError(
            f"{REQUEST_ID} {value!r} is not unique ({ids.is_duplicated().sum()} rows share an ID)",
            where=f"{path}: rows {rows[0]} and {rows[1]}", fix="keep one row of each",
        )  # fmt: skip
