"""Timestamps in the common forms of ISO 8601.

The City writes `2020-10-07 06:55:18+02:00`, which is read fastest. Variants are a `T` between date
and time, `Z`, `+02` or `+0200` as the zone, fractions of a second (kept to the microsecond), no
seconds, and no dashes and colons. Other texts are read by `city.TIME_FORMATS`. A time without a
zone is local: the earlier one if clocks were put back, and null if they skipped it. Dates without a
time, weeks and days of the year are unreadable.
"""

from datetime import datetime
from typing import NamedTuple

import polars as pl

from capetown.city import TIME_FORMATS, TIME_ZONE

MICROSECONDS_A_DAY = 86_400_000_000
# Requests are apart from the others if this many days lie between them and they are at most one in
# a thousand. Tables smaller than the minimum have no such requests.
APART_DAYS, APART_ONE_IN, MIN_REQUESTS_FOR_APART = 30, 1000, 100

# Time zones: quarters of an hour from 14:45 west of UTC to 14:45 east.
QUARTERS = range(-59, 60)
ZONES = pl.Enum([f"{'-' if q < 0 else '+'}{abs(q) // 4:02}:{abs(q) % 4 * 15:02}" for q in QUARTERS])
ISO_8601 = (
    r"^(?<date>\d{4}-?\d\d-?\d\d)[Tt ](?<minute>\d\d:?\d\d)"
    r"(?::?(?<second>\d\d)(?:[.,](?<fraction>\d+))?)?"
    r" ?(?:(?<utc>[Zz])|(?<sign>[+-])(?<hours>0\d|1[0-4]):?(?<minutes>[0-5]\d)?)?$"
)


class Times(NamedTuple):
    """Times of texts, and what they do not say. All have the texts' name and order.

    Attributes:
        times: null if unreadable.
        unzoned: True for times without a zone.
        repeated: True for those of them in an hour that clocks repeat.
    """

    times: pl.Series
    unzoned: pl.Series
    repeated: pl.Series


def read_times(text: pl.Series) -> Times:
    """Read times; the module's docstring describes their forms."""
    times = text.to_frame("text").select(_own_form(pl.col("text"))).to_series()
    # Two series, because `scatter` changes the one that it is called on.
    unzoned, repeated = (pl.repeat(False, len(text), eager=True) for _ in range(2))
    other = (times.is_null() & text.is_not_null()).arg_true()
    if len(other):
        read = _any_form(text.gather(other))
        times = times.scatter(other, read["time"])
        unzoned = unzoned.scatter(other, read["unzoned"])
        repeated = repeated.scatter(other, read["repeated"])
    return Times(*(found.alias(text.name) for found in (times, unzoned, repeated)))


def is_form(form: str) -> bool:
    """True if a form of strftime can be read: it has a date, and hours with minutes or neither."""
    time = pl.Series([datetime(2017, 12, 31, 23, 59)]).dt.replace_time_zone("UTC")
    try:
        read = time.dt.strftime(form).str.to_datetime(form, strict=False)
        return bool((read.dt.date() == time.dt.date()).all(ignore_nulls=False))
    except pl.exceptions.PolarsError:
        return False


def period(times: pl.Series) -> tuple[datetime, datetime] | None:
    """The first and the last creation, or None if there are no times.

    A mistyped year such as 2200 would stretch a timeline over centuries. Requests a month or more
    apart from the others do not count if they are at most one in a thousand.

    Args:
        times: creations in any order; may be null.
    """
    time = pl.col("time")
    days = (
        times.drop_nulls().alias("time").to_frame()
        .group_by(day=time.to_physical() // MICROSECONDS_A_DAY)
        .agg(pl.len(), first=time.min(), last=time.max())
        .sort("day")
    )  # fmt: skip
    few = max(1, len(times) // APART_ONE_IN) if len(times) >= MIN_REQUESTS_FOR_APART else 0
    run = (pl.col("day").diff() >= APART_DAYS).fill_null(False).cum_sum()
    runs = days.group_by(run).agg(pl.col("len").sum(), pl.col("first").min(), pl.col("last").max())
    kept = runs.filter(pl.col("len") > few)
    kept = runs if kept.is_empty() else kept
    return None if kept.is_empty() else kept.select(pl.min("first"), pl.max("last")).row(0)


def _own_form(text: pl.Expr) -> pl.Expr:
    """Parses the zone separately, which is twice as fast as `%:z` of polars."""
    local = text.str.head(19).str.to_datetime(
        "%Y-%m-%d %H:%M:%S", strict=False, time_unit="us", cache=False
    )
    zone = text.str.slice(19).cast(ZONES, strict=False).to_physical()
    east = pl.duration(minutes=(zone.cast(pl.Int64) + QUARTERS.start) * 15)
    return _in_city(local - east)


def _any_form(text: pl.Series) -> pl.DataFrame:
    """The columns `time`, `unzoned` and `repeated`."""
    words = text.str.strip_chars()
    local, utc = words.to_frame("text").select(*_iso_8601(pl.col("text")))
    for form in TIME_FORMATS:
        read = words.str.to_datetime(form, strict=False, time_unit="us")
        # polars converts zones to UTC, and %s counts the seconds in UTC.
        if read.dtype == pl.Datetime("us") and "%s" not in form:
            local = local.fill_null(read)
        else:
            utc = utc.fill_null(read.dt.replace_time_zone(None))
    earlier, later = (
        local.dt.replace_time_zone(TIME_ZONE, ambiguous=which, non_existent="null")
        for which in ("earliest", "latest")
    )
    unzoned = utc.is_null() & earlier.is_not_null()
    return pl.select(
        time=_in_city(pl.lit(utc)).fill_null(earlier),
        unzoned=unzoned,
        repeated=unzoned & (earlier != later).fill_null(False),
    )


def _iso_8601(text: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Times without a zone as they are, and times with one in UTC; null for others."""
    part = text.str.extract_groups(ISO_8601).struct.field
    digits = pl.concat_str(part("date"), part("minute"), part("second").fill_null("00"))
    fraction = part("fraction").fill_null("").str.pad_end(6, "0").str.head(6).cast(pl.Int64)
    time = digits.str.replace_all("[:-]", "").str.to_datetime(
        "%Y%m%d%H%M%S", strict=False, time_unit="us"
    ) + pl.duration(microseconds=fraction)
    minutes = part("hours").cast(pl.Int64) * 60 + part("minutes").fill_null("0").cast(pl.Int64)
    east = pl.when(part("sign") == "-").then(-minutes).otherwise(minutes)
    zoned = part("utc").is_not_null() | part("sign").is_not_null()
    utc = time - pl.duration(minutes=east.fill_null(0))
    return pl.when(~zoned).then(time).alias("local"), pl.when(zoned).then(utc).alias("utc")


def _in_city(utc: pl.Expr) -> pl.Expr:
    return utc.dt.replace_time_zone("UTC").dt.convert_time_zone(TIME_ZONE)
