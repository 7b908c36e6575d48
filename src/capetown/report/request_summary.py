"""What the report says about the requests, from the tables of `request_statistics`."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from capetown.city import DIRECTORATE, REQUEST_TYPE, SUBURB
from capetown.report.formatting import as_name
from capetown.report.request_statistics import missing_by_directorate, request_metrics
from capetown.requests.reader import NONE

Tables = Mapping[str, pl.DataFrame]
# Types with fewer located requests are left out of a ranking by share.
MIN_REQUESTS_FOR_SHARE = 50
# Directorates with a smaller share of all requests are left out of a ranking by days.
MIN_SHARE_FOR_DAYS = 0.01


def request_summary(tables: Tables) -> dict[str, Any]:
    """Values for the templates; empty without tables. Rows are dicts, the largest first."""
    if not tables:
        return {}
    count, days = request_count(tables), tables["days"]
    directorates = tables["directorates"]
    large = (pl.col("requests") >= MIN_SHARE_FOR_DAYS * count) & (pl.col(DIRECTORATE) != NONE)
    busiest = days.sort("created", "day", descending=[True, False])
    return {
        "count": count,
        "metrics": request_metrics(tables),
        # None if no time of creation can be read.
        "first": days["day"].min(),
        "last": days["day"].max(),
        "busiest_day": busiest.row(0, named=True) if len(days) else None,
        "top_types": _top(tables["kinds"], REQUEST_TYPE, count),
        "top_directorates": _top(directorates, DIRECTORATE, count),
        "directorates": _named(directorates, DIRECTORATE),
        "suburbs": _named(tables["suburbs"].head(5), SUBURB),
        # By the days within which half are completed, the fastest first.
        "speeds": _named(
            directorates.filter(large).sort("median_days", DIRECTORATE, nulls_last=True),
            DIRECTORATE,
        ),
        "missing": _named(missing_by_directorate(directorates), DIRECTORATE),
        "has_repeats": len(repeats_by_type(tables)) > 0,
        "has_two_years": has_two_years(tables),
    }


def request_count(tables: Tables) -> int:
    """The number of requests."""
    return int(tables["total"]["requests"].item())


def repeats_by_type(tables: Tables) -> pl.DataFrame:
    """Types by the share of their located requests that repeat another, the largest first."""
    located = pl.col("requests") - pl.col("without_coordinates")
    is_ranked = (located >= MIN_REQUESTS_FOR_SHARE) & (pl.col(REQUEST_TYPE) != NONE)
    return (
        tables["kinds"]
        .filter(is_ranked & (pl.col("again") > 0))
        .with_columns(share=pl.col("again") / located)
        .sort("share", REQUEST_TYPE, descending=[True, False])
    )


def has_two_years(tables: Tables) -> bool:
    """True if hexagons can be compared with the twelve months before."""
    before = tables["hexagons"]["requests_before"]
    return len(before) > 0 and before.null_count() == 0


def _top(table: pl.DataFrame, key: str, count: int) -> list[dict[str, Any]]:
    """The three largest rows, with their share of all requests."""
    rows = table.filter(pl.col(key) != NONE).head(3)
    return _named(rows.with_columns(share=pl.col("requests") / count), key)


def _named(table: pl.DataFrame, key: str) -> list[dict[str, Any]]:
    return [{**row, "name": as_name(row[key])} for row in table.to_dicts()]
