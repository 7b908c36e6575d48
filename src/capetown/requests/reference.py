"""The join that the City published, and a comparison with it per request."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from capetown.city import INDEX, REQUEST_ID
from capetown.errors import CapetownError, one_line
from capetown.requests.csv_reader import FETCH, CsvTable
from capetown.requests.reader import CATEGORY, check_ids

WITHOUT = "or leave transform.reference empty"


@dataclass(frozen=True)
class Reference:
    """The join that the City published.

    Attributes:
        path: the table.
        rows: ID of each request, and its index as `expected`.
    """

    path: Path
    rows: pl.DataFrame


@dataclass(frozen=True)
class ReferenceComparison:
    """Differences between a join and the reference.

    Attributes:
        compared: requests in either table.
        matched: requests in both with the same index.
        mismatches: the others: ID, `index` and `expected`, and whether they are `in_requests` and
            `in_reference`.
    """

    compared: int
    matched: int
    mismatches: pl.DataFrame


@contextmanager
def _optional() -> Iterator[None]:
    """Errors say also how to do without the reference."""
    try:
        yield
    except CapetownError as error:
        fix = f"{error.fix}; {WITHOUT}"
        raise CapetownError(error.what, where=error.where, fix=fix) from error


@_optional()
def open_reference(path: Path, *, part: bool = False) -> CsvTable:
    """Read the header of the join that the City published. Errors are those of `CsvTable`."""
    if not path.exists():
        raise CapetownError("no such file", where=path, fix="add it to download.requests")
    return CsvTable(path, [REQUEST_ID, INDEX], part=part)


def read_reference(path: Path) -> Reference:
    """Read the join that the City published.

    Rows need not be strict CSV. A row that is read wrongly does not match the join.

    Args:
        path: the City's `sr_hex.csv.gz`, in any order.

    Raises:
        CapetownError: the table cannot be read or lacks a column.
    """
    table = open_reference(path)
    types = {INDEX: CATEGORY}
    try:
        rows = (
            pl.scan_csv(
                path,
                separator=table.separator,
                infer_schema=False,
                schema_overrides=types,
                glob=False,
            )
            .select(REQUEST_ID, expected=INDEX)
            .collect(engine="streaming")
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        fix = f"{FETCH}; {WITHOUT}"
        raise CapetownError(f"cannot be read ({one_line(error)})", where=path, fix=fix) from error
    return Reference(path, rows)


def compare_with_reference(rows: pl.DataFrame, reference: Reference) -> ReferenceComparison:
    """Compare a join with the reference.

    Args:
        rows: as in `Join.rows`; IDs are unique.
        reference: from `read_reference`.

    Raises:
        CapetownError: the reference has no rows, or an ID is missing or not unique.
    """
    ours, theirs = rows.select(REQUEST_ID, "index"), reference.rows
    if ours[REQUEST_ID].equals(theirs[REQUEST_ID]):
        both = ours.with_columns(theirs["expected"], in_requests=True, in_reference=True)
    else:
        with _optional():
            check_ids(reference.path, theirs[REQUEST_ID])
        both = (
            ours.with_columns(in_requests=True)
            .join(theirs.with_columns(in_reference=True), on=REQUEST_ID, how="full", coalesce=True)
            .with_columns(pl.col("in_requests", "in_reference").fill_null(False))
        )
    matched = (
        pl.col("index").eq_missing(pl.col("expected"))
        & pl.col("in_requests")
        & pl.col("in_reference")
    )
    mismatches = both.filter(~matched).sort(REQUEST_ID)
    return ReferenceComparison(len(both), len(both) - len(mismatches), mismatches)
