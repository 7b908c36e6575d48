"""The City's own join, and a comparison with it, request by request."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from capetown.city import INDEX, REQUEST_ID
from capetown.requests.reader import CATEGORY, RequestTable, check_ids


@dataclass(frozen=True)
class Reference:
    """The City's own join.

    Attributes:
        path: of the table.
        rows: number and its index as `expected`.
        notes: what is unusual in the table and was read all the same.
    """

    path: Path
    rows: pl.DataFrame
    notes: list[str]


@dataclass(frozen=True)
class ReferenceComparison:
    """A join against the City's own.

    Attributes:
        compared: requests in either table.
        matched: those in both with the same index.
        mismatches: the others: their number, `index` and `expected`, and whether they are
            `in_requests` and `in_reference`.
        notes: what is unusual in the City's table and was read all the same.
    """

    compared: int
    matched: int
    mismatches: pl.DataFrame
    notes: list[str]


def read_reference(path: Path) -> Reference:
    """Read the City's own join.

    Args:
        path: the City's `sr_hex.csv.gz`, in any order.

    Raises:
        CapetownError: the table cannot be read, lacks a column, or a row is not strict CSV.
    """
    table = RequestTable(path, [REQUEST_ID, INDEX])
    types = {REQUEST_ID: pl.String(), INDEX: CATEGORY}
    rows = pl.concat([pl.DataFrame(schema=types), *table.frames({INDEX}, [REQUEST_ID, INDEX])])
    return Reference(path, rows.rename({INDEX: "expected"}), table.notes())


def compare_with_reference(rows: pl.DataFrame, reference: Reference) -> ReferenceComparison:
    """Compare a join with the City's own.

    Args:
        rows: as in `Join.rows`, whose numbers are there and unique.
        reference: as `read_reference` gives it.

    Raises:
        CapetownError: the reference has no rows, or its numbers are not there or not unique.
    """
    ours, theirs = rows.select(REQUEST_ID, "index"), reference.rows
    if ours[REQUEST_ID].equals(theirs[REQUEST_ID]):
        both = ours.with_columns(theirs["expected"], in_requests=True, in_reference=True)
    else:
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
    return ReferenceComparison(len(both), len(both) - len(mismatches), mismatches, reference.notes)
