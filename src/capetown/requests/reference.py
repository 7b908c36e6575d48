"""The City's own join, and a comparison with it, request by request."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from capetown.city import INDEX
from capetown.city import REQUEST_ID as KEY
from capetown.requests.reader import Table, check_keys
from capetown.requests.schema import CATEGORY


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
    table = Table(path, [KEY, INDEX])
    types = {KEY: pl.String(), INDEX: CATEGORY}
    rows = pl.concat([pl.DataFrame(schema=types), *table.frames({INDEX}, [KEY, INDEX])])
    return Reference(path, rows.rename({INDEX: "expected"}), table.notes())


def compare_with_reference(rows: pl.DataFrame, reference: Reference) -> ReferenceComparison:
    """Compare a join with the City's own.

    Args:
        rows: as in `Join.rows`, whose numbers are there and unique.
        reference: as `read_reference` gives it.

    Raises:
        CapetownError: the reference has no rows, or its numbers are not there or not unique.
    """
    ours, theirs = rows.select(KEY, "index"), reference.rows
    if ours[KEY].equals(theirs[KEY]):
        both = ours.with_columns(theirs["expected"], in_requests=True, in_reference=True)
    else:
        check_keys(reference.path, theirs[KEY])
        both = (
            ours.with_columns(in_requests=True)
            .join(theirs.with_columns(in_reference=True), on=KEY, how="full", coalesce=True)
            .with_columns(pl.col("in_requests", "in_reference").fill_null(False))
        )
    matched = (
        pl.col("index").eq_missing(pl.col("expected"))
        & pl.col("in_requests")
        & pl.col("in_reference")
    )
    mismatches = both.filter(~matched).sort(KEY)
    return ReferenceComparison(len(both), len(both) - len(mismatches), mismatches, reference.notes)
