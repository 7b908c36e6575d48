"""Timestamps: datetime.fromisoformat as the oracle, and none that is lost without a count."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capetown.city import TIME_ZONE
from capetown.hexes import times
from capetown.hexes.times import read_times

LOCAL = ZoneInfo(TIME_ZONE)
# Minutes east of UTC, as far as any place is.
ZONES = st.integers(-14 * 60 - 59, 14 * 60 + 59)


def utc(text: str) -> list[datetime | None]:
    found, _ = read_times(pl.Series("time", [text]))
    return found.dt.convert_time_zone("UTC").to_list()


@st.composite
def stamps(draw: st.DrawFn) -> str:
    """A time as one of the forms has it."""
    moment = draw(st.datetimes(datetime(1900, 1, 3), datetime(2199, 12, 28)))
    text = moment.strftime(f"%Y-%m-%d{draw(st.sampled_from(' T'))}%H:%M:%S")
    if digits := draw(st.integers(0, 6)):
        text += f".{moment.microsecond:06}"[: digits + 1]
    zone = draw(st.none() | ZONES)
    if zone is not None:
        text += f"{'-' if zone < 0 else '+'}{abs(zone) // 60:02}{draw(st.sampled_from([':', '']))}"
        text += f"{abs(zone) % 60:02}"
    return text


@given(texts=st.lists(stamps() | st.none(), max_size=20))
@settings(max_examples=60, deadline=None)
def test_every_form_is_read_as_python_reads_it(texts: list[str | None]) -> None:
    expected = [datetime.fromisoformat(text) if text else None for text in texts]
    found, unzoned = read_times(pl.Series("time", texts, pl.String))
    assert found.to_list() == [
        time.replace(tzinfo=time.tzinfo or LOCAL) if time else None for time in expected
    ]
    assert unzoned.to_list() == [time is not None and time.tzinfo is None for time in expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-10-07 06:55:18+02:00", "04:55:18"),
        ("2020-10-07 06:55:18+0200", "04:55:18"),
        ("2020-10-07 06:55:18+02", "04:55:18"),
        ("2020-10-07 06:55:18 +02:00", "04:55:18"),
        ("2020-10-07T06:55:18Z", "06:55:18"),
        ("2020-10-07t06:55:18z", "06:55:18"),
        ("2020-10-07T06:55:18.25Z", "06:55:18.250000"),
        ("2020-10-07T06:55:18,25Z", "06:55:18.250000"),
        ("2020-10-07T06:55:18.123456789+02:00", "04:55:18.123456"),
        ("2020-10-07 06:55:18.000", "04:55:18"),
        ("2020-10-07 06:55:18", "04:55:18"),
        ("2020-10-07T06:55", "04:55:00"),
        ("20201007T065518+0200", "04:55:18"),
        (" 2020-10-07 06:55:18+02:00 ", "04:55:18"),
        ("2020-10-07 06:55:18-03:30", "10:25:18"),
        ("2020-10-07 06:55:18+00:07", "06:48:18"),
    ],
)
def test_forms_of_iso_8601(text: str, expected: str) -> None:
    [found] = utc(text)
    assert found is not None
    assert found.isoformat() == f"2020-10-07T{expected}+00:00"


@pytest.mark.parametrize(
    "text",
    [
        "yesterday", "07/10/2020 06:55", "2020/10/07 06:55:18", "2020-10-07", "2021-02-29 06:55:18",
        "2020-10-07 06:55:18 SAST", "2020-10-07 25:55:18",
        "2020-10-07 06:55:18+15:00", "2020-10-07 06:55:18+02:60", "2020-10-07 06:55:18.",
        "44111.288", "1602046518", "", "2020-10-07 06:55:18+02:00 or so",
    ],
)  # fmt: skip
def test_what_is_no_time_is_null(text: str) -> None:
    assert utc(text) == [None]


def test_mixed_forms_do_not_disturb_each_other() -> None:
    texts = ["2020-10-07 06:55:18+02:00", "2020-10-07T06:55:18", None, "never", "2020-10-07T06:55Z"]
    found, unzoned = read_times(pl.Series("time", texts))
    moment = datetime(2020, 10, 7, 4, 55, 18, tzinfo=UTC)
    assert found.to_list() == [moment, moment, None, None, moment + timedelta(hours=2, seconds=-18)]
    assert unzoned.to_list() == [False, True, False, False, False]


def days(**counts: int) -> pl.Series:
    """Days by their month and year, `m1_2020=3` for three times 1 January 2020."""
    found = []
    for name, count in counts.items():
        month, year = map(int, name.removeprefix("m").split("_"))
        found += [date(year, month, 1)] * count
    return pl.Series("day", [*found, None], pl.Date).shuffle(seed=1)


def test_a_period_leaves_out_what_lies_apart() -> None:
    year = {f"m{month}_2020": 200 for month in range(1, 13)}
    whole = (date(2020, 1, 1), date(2020, 12, 1))
    dense = pl.concat([days(**year), pl.date_range(*whole, eager=True).alias("day")])
    assert times.period(dense) == whole
    # 2,735 of them: two are fewer than one in a thousand, three are not.
    for count, last in ((2, whole[1]), (3, date(2200, 10, 1))):
        assert times.period(pl.concat([dense, days(m10_2200=count)])) == (whole[0], last)
    # Less than a month from the others, and two of a thousand on both sides.
    assert times.period(pl.concat([dense, pl.Series("day", [date(2020, 12, 30)])])) == (
        whole[0], date(2020, 12, 30)
    )  # fmt: skip
    assert times.period(pl.concat([dense, days(m1_1020=1, m1_9999=2)])) == whole
    # Of few requests, all count.
    assert times.period(days(m1_2020=98, m10_2200=1)) == (date(2020, 1, 1), date(2200, 10, 1))
    assert times.period(days(m1_2020=99, m10_2200=1)) == (date(2020, 1, 1),) * 2
    assert times.period(days()) is None


def test_where_clocks_change_the_earlier_time_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times, "TIME_ZONE", "America/New_York")
    found, unzoned = read_times(pl.Series("time", ["2020-11-01 01:30:00", "2020-03-08 02:30:00"]))
    moments = found.dt.convert_time_zone("UTC").to_list()
    assert moments == [datetime(2020, 11, 1, 5, 30, tzinfo=UTC), None]
    assert unzoned.to_list() == [True, False]
