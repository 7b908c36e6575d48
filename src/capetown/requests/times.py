"""Timestamps in the forms of ISO 8601 that tables come with.

`2020-10-07 06:55:18+02:00` is the City's own and read fastest. Others are a `T` between date and
time, `Z`, `+02` or `+0200` as the zone, fractions of a second (kept to the microsecond), no
seconds, no dashes and colons. One without a zone is the City's local time, the earlier instant
where clocks were put back; none where they skipped it. A date alone, a week or a day of the year
is no instant, and counts as unreadable.
"""

from datetime import datetime

import polars as pl

from capetown.city import TIME_ZONE

MICROSECONDS_A_DAY = 86_400_000_000
# What lies apart in time: so many days from all others, and at most one in a thousand; of fewer
# than a hundred requests, nothing can be said.
APART_DAYS, APART_ONE_IN, FEWEST = 30, 1000, 100

# What a timestamp may end with: the quarters of an hour from 14:45 west of UTC to 14:45 east.
QUARTERS = range(-59, 60)
ZONES = pl.Enum([f"{'-' if q < 0 else '+'}{abs(q) // 4:02}:{abs(q) % 4 * 15:02}" for q in QUARTERS])
ISO_8601 = (
    r"^(?<date>\d{4}-?\d\d-?\d\d)[Tt ](?<minute>\d\d:?\d\d)"
    r"(?::?(?<second>\d\d)(?:[.,](?<fraction>\d+))?)?"
    r" ?(?:(?<utc>[Zz])|(?<sign>[+-])(?<hours>0\d|1[0-4]):?(?<minutes>[0-5]\d)?)?$"
)


def read_times(text: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Instants of texts, null where a text is none, and True for those without a zone."""
    times = text.to_frame("text").select(_own_form(pl.col("text"))).to_series()
    unzoned = pl.repeat(False, len(text), eager=True)
    other = (times.is_null() & text.is_not_null()).arg_true()
    if len(other):
        read = text.gather(other).to_frame("text").select(_any_form(pl.col("text")).struct.unnest())
        times, unzoned = times.scatter(other, read["time"]), unzoned.scatter(other, read["unzoned"])
    return times.alias(text.name), unzoned.alias(text.name)


def period(times: pl.Series) -> tuple[datetime, datetime] | None:
    """The first and the last instant at which requests came; None if there is none.

    A year is easily mistyped, and one request of the year 2200 would make a timeline of centuries:
    what lies a month or more apart from the others does not count, where it is at most one request
    in a thousand.

    Args:
        times: instants, in any order; null where it is not known.
    """
    time = pl.col("time")
    days = (
        times.drop_nulls().alias("time").to_frame()
        .group_by(day=time.to_physical() // MICROSECONDS_A_DAY)
        .agg(pl.len(), first=time.min(), last=time.max())
        .sort("day")
    )  # fmt: skip
    few = max(1, len(times) // APART_ONE_IN) if len(times) >= FEWEST else 0
    run = (pl.col("day").diff() >= APART_DAYS).fill_null(False).cum_sum()
    runs = days.group_by(run).agg(pl.col("len").sum(), pl.col("first").min(), pl.col("last").max())
    kept = runs.filter(pl.col("len") > few)
    kept = runs if kept.is_empty() else kept
    return None if kept.is_empty() else kept.select(pl.min("first"), pl.max("last")).row(0)


def _own_form(text: pl.Expr) -> pl.Expr:
    """The zone is parsed apart from the rest: twice as fast as polars' own `%:z`."""
    local = text.str.head(19).str.to_datetime(
        "%Y-%m-%d %H:%M:%S", strict=False, time_unit="us", cache=False
    )
    zone = text.str.slice(19).cast(ZONES, strict=False).to_physical()
    east = pl.duration(minutes=(zone.cast(pl.Int64) + QUARTERS.start) * 15)
    return _in_city(local - east)


def _any_form(text: pl.Expr) -> pl.Expr:
    part = text.str.strip_chars().str.extract_groups(ISO_8601).struct.field
    digits = pl.concat_str(part("date"), part("minute"), part("second").fill_null("00"))
    fraction = part("fraction").fill_null("").str.pad_end(6, "0").str.head(6).cast(pl.Int64)
    local = digits.str.replace_all("[:-]", "").str.to_datetime(
        "%Y%m%d%H%M%S", strict=False, time_unit="us"
    ) + pl.duration(microseconds=fraction)
    minutes = part("hours").cast(pl.Int64) * 60 + part("minutes").fill_null("0").cast(pl.Int64)
    east = pl.when(part("sign") == "-").then(-minutes).otherwise(minutes)
    zoned = part("utc").is_not_null() | part("sign").is_not_null()
    own = local.dt.replace_time_zone(TIME_ZONE, ambiguous="earliest", non_existent="null")
    time = (
        pl.when(zoned).then(_in_city(local - pl.duration(minutes=east.fill_null(0)))).otherwise(own)
    )
    return pl.struct(time.alias("time"), (~zoned & time.is_not_null()).alias("unzoned"))


def _in_city(utc: pl.Expr) -> pl.Expr:
    return utc.dt.replace_time_zone("UTC").dt.convert_time_zone(TIME_ZONE)
