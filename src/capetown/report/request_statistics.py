"""Statistics of the requests in small tables: how many, how fast completed, how many repeated.

All times are local. An open request counts as longer than any other, so "half are completed within
n days" holds for all requests and not only for the completed ones. A completion before the creation
counts as 0 days. Creations far from nearly all others (`times.period`) count as unknown.

`request_tables` gives:

- `days`: one row per day from the first to the last creation: `day`, `created`, `completed` (of
  requests of this period), `open` at the end of the day.
- `months`: `month` (its first day), `directorate`, `requests`.
- `directorates`, `kinds` (types of request), `suburbs`, and `total` (one row), with the columns of
  `COLUMNS`.
- `hexagons`: `index`, `requests` of the last twelve months, and `requests_before`, those of the
  twelve months before, null if the table does not reach back so far.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any

import polars as pl

from capetown.city import (
    COMPLETED,
    CREATED,
    DIRECTORATE,
    INDEX,
    LATITUDE,
    LONGITUDE,
    REQUEST_TYPE,
    SUBURB,
)
from capetown.requests.reader import JOINED, MISSING, NONE, STATUS
from capetown.requests.times import period

# A request repeats another of the same type and location within these days.
AGAIN_DAYS = 30
# Directorates with a smaller share of the requests are left out of rankings.
MIN_SHARE = 0.01


def _within(part: int, whole: int) -> pl.Expr:
    """The fewest days within which a share of the requests is completed."""
    taken = pl.col("taken").drop_nulls()
    return taken.sort().get((taken.len() * part + whole - 1) // whole - 1, null_on_oob=True)


COLUMNS = {
    "requests": pl.len(),
    "without_coordinates": (~pl.col("located")).sum(),
    "open": pl.col(COMPLETED).is_null().sum(),
    "median_days": _within(1, 2),
    "p90_days": _within(9, 10),
    # Requests with coordinates that repeat another.
    "again": pl.col("again").sum(),
}  # fmt: skip


def request_tables(requests: pl.LazyFrame) -> dict[str, pl.DataFrame]:
    """The tables of the module's description, from `hexes/requests.parquet`."""
    rows = _rows(requests)
    days = _days(rows)
    return {
        "total": _grouped(rows),
        "days": days,
        "months": _months(rows),
        "directorates": _grouped(rows, DIRECTORATE),
        "kinds": _grouped(rows, REQUEST_TYPE),
        "suburbs": _grouped(rows.filter(pl.col(SUBURB).is_not_null()), SUBURB),
        "hexagons": _hexagons(rows, days),
    }


def request_metrics(tables: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    """The metrics that are worth comparing between two runs."""
    days, directorates = tables["days"], tables["directorates"]
    [overall] = tables["total"].to_dicts()
    located = overall["requests"] - overall["without_coordinates"]
    missing = missing_by_directorate(directorates)["share"]
    return {
        "first_day": _text(days["day"].min()),
        "last_day": _text(days["day"].max()),
        "requests_a_day": _rounded(days["created"].mean()),
        "median_days_to_completion": _rounded(overall["median_days"]),
        "p90_days_to_completion": _rounded(overall["p90_days"]),
        "open_at_the_end": days["open"].last() if len(days) else 0,
        "never_completed": overall["open"],
        "again_within_30_days": _rounded(overall["again"] / located if located else None),
        "without_coordinates_least": _rounded(missing.min()),
        "without_coordinates_most": _rounded(missing.max()),
    }


def missing_by_directorate(directorates: pl.DataFrame) -> pl.DataFrame:
    """The share without coordinates by larger directorate, the highest first."""
    large = directorates["requests"] >= MIN_SHARE * int(directorates["requests"].sum())
    return (
        directorates.filter(large & (directorates[DIRECTORATE] != NONE))
        .with_columns(share=pl.col("without_coordinates") / pl.col("requests"))
        .sort("share", DIRECTORATE, descending=[True, False])
    )


def _rows(requests: pl.LazyFrame) -> pl.DataFrame:
    """One row per request, with the columns that the tables need."""
    taken = (pl.col(COMPLETED) - pl.col(CREATED)).dt.total_microseconds().clip(lower_bound=0)
    # A column may have several roles.
    categories = {DIRECTORATE: 0, REQUEST_TYPE: 0, SUBURB: 0}
    found = requests.select(
        CREATED, COMPLETED, *categories, LATITUDE, LONGITUDE, INDEX,
        joined=pl.col(STATUS) == JOINED,
        located=pl.col(STATUS) != MISSING,
    ).collect()  # fmt: skip
    if span := period(found[CREATED]):
        found = found.with_columns(pl.when(pl.col(CREATED).is_between(*span)).then(CREATED))
    rows = found.with_columns(
        taken=pl.when(pl.col(CREATED).is_not_null()).then(
            (taken / 86_400_000_000).fill_null(float("inf"))
        )
    )
    here = [LATITUDE, LONGITUDE, REQUEST_TYPE]
    earlier = pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in here)
    soon = pl.col(CREATED) - pl.col(CREATED).shift() <= pl.duration(days=AGAIN_DAYS)
    return (
        rows.sort(*here, CREATED, nulls_last=True)
        .with_columns(again=(earlier & soon & pl.col("located")).fill_null(False))
    )  # fmt: skip


def _grouped(rows: pl.DataFrame, *keys: str) -> pl.DataFrame:
    """The columns of `COLUMNS` by some keys, the most frequent first."""
    named = [pl.col(key).cast(pl.String).fill_null(NONE) for key in keys]
    table = rows.lazy().group_by(keys).agg(**COLUMNS) if keys else rows.lazy().select(**COLUMNS)
    endless = [
        pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name)
        for name in ("median_days", "p90_days")
    ]
    return (
        table.with_columns(*named, *endless)
        .sort("requests", *keys, descending=[True, *[False] * len(keys)])
        .collect()
    )


def _days(rows: pl.DataFrame) -> pl.DataFrame:
    known = rows.filter(pl.col(CREATED).is_not_null())
    created = known.group_by(day=pl.col(CREATED).dt.date()).agg(created=pl.len())
    done = pl.max_horizontal(CREATED, COMPLETED).dt.date()
    completed = (
        known.filter(pl.col(COMPLETED).is_not_null()).group_by(day=done).agg(completed=pl.len())
    )
    first, last = created["day"].min(), created["day"].max()
    every = pl.DataFrame(schema={"day": pl.Date})
    if isinstance(first, date) and isinstance(last, date):
        every = pl.select(day=pl.date_range(first, last))
    return (
        every.join(created, on="day", how="left")
        .join(completed, on="day", how="left")
        .sort("day")
        .with_columns(pl.col("created", "completed").fill_null(0).cast(pl.Int64))
        .with_columns(open=(pl.col("created") - pl.col("completed")).cum_sum())
    )


def _months(rows: pl.DataFrame) -> pl.DataFrame:
    month = pl.col(CREATED).dt.date().dt.truncate("1mo")
    return (
        rows.filter(pl.col(CREATED).is_not_null())
        .group_by(month.alias("month"), DIRECTORATE)
        .agg(requests=pl.len())
        .with_columns(pl.col(DIRECTORATE).cast(pl.String).fill_null(NONE))
        .sort("month", DIRECTORATE)
    )


def _hexagons(rows: pl.DataFrame, days: pl.DataFrame) -> pl.DataFrame:
    """Requests of the last twelve months, and of the twelve before, by hexagon."""
    joined = rows.filter("joined").with_columns(day=pl.col(CREATED).dt.date())
    if days.is_empty():
        return pl.DataFrame(
            schema={INDEX: pl.String, "requests": pl.Int64, "requests_before": pl.Int64}
        )
    end = pl.lit(days["day"].max())
    year, before = end.dt.offset_by("-12mo"), end.dt.offset_by("-24mo")
    reaches_back = days.select((pl.col("day").min() <= before.dt.offset_by("1d")).first()).item()
    earlier = ((pl.col("day") > before) & (pl.col("day") <= year)).sum()
    return (
        joined.group_by(INDEX)
        .agg(
            requests=(pl.col("day") > year).sum().cast(pl.Int64),
            requests_before=earlier.cast(pl.Int64) if reaches_back else pl.lit(None, pl.Int64),
        )
        .sort(INDEX)
    )


def _text(day: Any) -> str | None:
    return day.isoformat() if isinstance(day, date) else None


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 4)
