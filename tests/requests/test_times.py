"""Timestamps: datetime.fromisoformat as the oracle."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capetown.city import TIME_ZONE
from capetown.requests import times
from capetown.requests.times import read_times

LOCAL = ZoneInfo(TIME_ZONE)
# Minutes east of UTC. The limits are those of the module.
ZONES = st.integers(-14 * 60 - 59, 14 * 60 + 59)


def utc(text: str) -> list[datetime | None]:
    found = read_times(pl.Series("time", [text])).times
    return found.dt.convert_time_zone("UTC").to_list()


@st.composite
def stamps(draw: st.DrawFn) -> str:
    """A time in one of the forms."""
    moment = draw(st.datetimes(datetime(1900, 1, 3), datetime(2199, 12, 28)))
    text = moment.strftime(f"%Y-%m-%d{draw(st.sampled_from(' T'))}%H:%M:%S")
    if digits := draw(st.integers(0, 6)):
        text += f".{moment.microsecond:06}"[: digits + 1]
    zone = draw(st.none() | ZONES)
    if zone is not None:
        text += f"{'-' if zone < 0 else '+'}{abs(zone) // 60:02}{draw(st.sampled_from([':', '']))}"
        text += f"{abs(zone) % 60:02}"
    return text


@given(texts=st.lists(stamps() | st.sampled_from([None, "never"]), max_size=20))
@settings(max_examples=60)
def test_mixed_forms_are_read_like_python_does(texts: list[str | None]) -> None:
    expected = [None if text in (None, "never") else datetime.fromisoformat(text) for text in texts]
    found, unzoned, _ = read_times(pl.Series("time", texts, pl.String))
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
        ("2020-10-07T06:55:18.123456789+02:00", "04:55:18.123456"),
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
def test_other_texts_are_null(text: str) -> None:
    assert utc(text) == [None]


def at(*days: datetime) -> pl.Series:
    return pl.Series("time", [*days, None], pl.Datetime("us", TIME_ZONE))


def test_a_period_leaves_out_requests_far_from_the_others() -> None:
    year = [
        datetime(2020, 1, 1, tzinfo=LOCAL) + timedelta(days=n, hours=n % 24) for n in range(365)
    ]
    whole, late = (year[0], year[-1]), datetime(2200, 10, 7, 6, 55, tzinfo=LOCAL)
    assert times.period(at(*year)) == whole
    # Two of 2,921 are fewer than one in a thousand. Three are not.
    assert times.period(at(*year * 8, late)) == whole
    assert times.period(at(*year * 8, late, late)) == whole
    assert times.period(at(*year * 8, *[late] * 3)) == (year[0], late)
    early = datetime(1020, 1, 1, tzinfo=LOCAL)
    assert times.period(at(early, *year, late)) == whole
    # A month is 30 days.
    for days, counts in ((29, True), (30, False)):
        other = year[-1] + timedelta(days=days)
        assert times.period(at(*year, other)) == (year[0], other if counts else year[-1])
    # Fewer than a hundred all count.
    assert times.period(at(*year[:97], late)) == (year[0], late)
    assert times.period(at(*year[:99], late)) == (year[0], year[98])
    assert times.period(at()) is None


def test_local_times_when_clocks_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times, "TIME_ZONE", "America/New_York")
    texts = ["2020-11-01 01:30:00", "2020-03-08 02:30:00", "2020-11-01 01:30:00-05:00",
             "2020-11-01 02:00:00"]  # fmt: skip
    found, unzoned, repeated = read_times(pl.Series("time", texts))
    moments = [moment and f"{moment:%H:%M}" for moment in found.dt.convert_time_zone("UTC")]
    assert moments == ["05:30", None, "06:30", "07:00"]
    assert unzoned.to_list() == [True, False, False, True]
    assert repeated.to_list() == [True, False, False, False]


@pytest.mark.parametrize(
    ("text", "expected", "is_local"),
    [
        ("12/31/2017 11:59:58 PM", "2017-12-31T21:59:58", True),
        ("1/2/2018 12:00:00 AM", "2018-01-01T22:00:00", True),
        (" 1/2/2018 23:10 ", "2018-01-02T21:10:00", True),
        ("31.12.2017", "2017-12-30T22:00:00", True),
        ("Dec 31, 2017 11:59 PM -0500", "2018-01-01T04:59:00", False),
        ("1602046518", "2020-10-07T04:55:18", False),
        ("2020-10-07T06:55:18Z", "2020-10-07T06:55:18", False),
        ("31/12/2017 11:59:58 PM", None, False),
        ("12/31/2017", None, False),
    ],
)
def test_other_forms_are_read_by_their_formats(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: str | None, is_local: bool
) -> None:
    forms = ("%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %H:%M", "%d.%m.%Y", "%b %d, %Y %I:%M %p %z", "%s")
    monkeypatch.setattr(times, "TIME_FORMATS", forms)
    [found] = utc(text)
    assert (found and f"{found:%Y-%m-%dT%H:%M:%S}") == expected
    assert read_times(pl.Series("time", [text])).unzoned.item() == is_local
