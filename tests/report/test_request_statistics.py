"""Tables and metrics of the requests, on cases worked out by hand."""

from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capetown.report.request_statistics import (
    missing_by_directorate,
    request_metrics,
    request_tables,
)
from capetown.requests.reader import STATUSES

ZONE = ZoneInfo("Africa/Johannesburg")
CELL, OTHER = "88ad360225fffff", "88ad36022dfffff"
TIME = pl.Datetime("us", "Africa/Johannesburg")
SCHEMA = {
    "creation_timestamp": TIME, "completion_timestamp": TIME, "directorate": pl.Categorical(),
    "code": pl.Categorical(), "official_suburb": pl.Categorical(), "latitude": pl.Float64(),
    "longitude": pl.Float64(), "h3_level8_index": pl.String(), "join_status": pl.Enum(STATUSES),
}  # fmt: skip


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZONE)


def request(created: str | None, completed: str | None, **values: Any) -> dict[str, Any]:
    return {
        "creation_timestamp": created and at(created),
        "completion_timestamp": completed and at(completed),
        "directorate": "WATER", "code": "Leak", "official_suburb": "STRAND", "latitude": -34.1,
        "longitude": 18.8, "h3_level8_index": CELL, "join_status": "joined", **values,
    }  # fmt: skip


NOWHERE = {"latitude": None, "longitude": None, "join_status": "missing_coordinates",
           "h3_level8_index": "0", "official_suburb": None}  # fmt: skip


def tables(*rows: dict[str, Any]) -> dict[str, pl.DataFrame]:
    return request_tables(pl.LazyFrame(list(rows), schema=SCHEMA))


FEW = (
    request("2020-01-01T10:00", "2020-01-02T10:00"),
    # The same type and location, exactly 30 days later: a repeat.
    request("2020-01-31T10:00", "2020-02-10T10:00"),
    # One second later than that: not a repeat.
    request("2020-03-01T10:00:01", None),
    # Another type, another location, and no location.
    request("2020-01-01T11:00", "2020-01-01T10:59", code="Burst", directorate=None),
    request("2020-01-02T00:00", "2020-01-05T00:00", latitude=-34.2, official_suburb=None,
            h3_level8_index=OTHER),
    request("2020-01-02T01:00", "2020-01-02T02:00", **NOWHERE, directorate="FINANCE"),
)  # fmt: skip


def test_the_tables_of_a_few_requests() -> None:
    """WATER: 1, 10 and 3 days and one open: half within 3, nine in ten not yet."""
    found = tables(*FEW)
    # Days without requests are rows too, and open requests add up.
    assert found["days"].height == 61  # from 1 January to 1 March of a leap year
    assert found["days"].head(5).rows() == [
        (date(2020, 1, 1), 2, 1, 1),
        (date(2020, 1, 2), 2, 2, 1),
        (date(2020, 1, 3), 0, 0, 1),
        (date(2020, 1, 4), 0, 0, 1),
        (date(2020, 1, 5), 0, 1, 0),
    ]
    assert found["days"].tail(1).rows() == [(date(2020, 3, 1), 1, 0, 1)]
    assert found["months"].rows() == [
        (date(2020, 1, 1), "(none)", 1),
        (date(2020, 1, 1), "FINANCE", 1),
        (date(2020, 1, 1), "WATER", 3),
        (date(2020, 3, 1), "WATER", 1),
    ]
    columns = ["requests", "without_coordinates", "open", "median_days", "p90_days", "again"]
    assert found["directorates"].select("directorate", *columns).rows() == [
        ("WATER", 4, 0, 1, 3.0, None, 1),
        ("(none)", 1, 0, 0, 0.0, 0.0, 0),
        ("FINANCE", 1, 1, 0, 1 / 24, 1 / 24, 0),
    ]
    kinds = found["kinds"].select("code", "requests", "again").rows()
    assert kinds == [("Leak", 5, 1), ("Burst", 1, 0)]
    assert found["suburbs"].select("official_suburb", "requests").rows() == [("STRAND", 4)]
    assert found["total"].rows() == [(6, 1, 1, 1.0, None, 1)]


def test_metrics() -> None:
    assert request_metrics(tables(*FEW)) == {
        "first_day": "2020-01-01", "last_day": "2020-03-01", "requests_a_day": round(6 / 61, 4),
        "median_days_to_completion": 1.0, "p90_days_to_completion": None, "open_at_the_end": 1,
        "never_completed": 1, "again_within_30_days": 0.2, "without_coordinates_least": 0.0,
        "without_coordinates_most": 1.0,
    }  # fmt: skip


def test_rankings_leave_out_small_directorates_and_none() -> None:
    rows = [request("2020-01-01T10:00", None)] * 198
    small = request("2020-01-01T10:00", None, **NOWHERE, directorate="SMALL")
    nobody = request("2020-01-01T10:00", None, **NOWHERE, directorate=None)
    found = missing_by_directorate(tables(*rows, small, nobody, nobody)["directorates"])
    assert found.select("directorate", "share").rows() == [("WATER", 0.0)]


def test_a_request_with_unknown_creation_is_counted_without_days() -> None:
    found = tables(request(None, "2020-01-02T10:00"), request("2020-01-01T10:00", None))
    assert found["total"].select("requests", "open", "median_days").rows() == [(2, 1, None)]
    assert found["days"].rows() == [(date(2020, 1, 1), 1, 0, 1)]
    assert found["months"]["requests"].sum() == 1


def test_an_implausible_creation_does_not_extend_the_period() -> None:
    usual = [request(f"2020-01-{1 + n % 28:02}T10:00", None) for n in range(120)]
    found = tables(*usual, request("2200-01-01T10:00", None))
    assert found["days"]["day"].to_list()[-1] == date(2020, 1, 28)
    assert found["days"]["open"].to_list()[-1] == 120
    assert found["hexagons"]["requests"].to_list() == [120]
    assert found["total"]["requests"].to_list() == [121]
    found = tables(request(None, None))
    assert found["days"].is_empty()
    assert found["hexagons"].is_empty()
    assert request_metrics(found)["requests_a_day"] is None


def test_hexagons_are_compared_with_the_year_before_given_two_years() -> None:
    """The last twelve months are 2 January 2020 to 1 January 2021."""
    times = ("2021-01-01T10:00", "2020-01-02T00:00", "2020-01-01T23:59")
    rows = (
        *(request(created, None) for created in times),
        request("2020-06-01T00:00", None, h3_level8_index=OTHER),
        request("2020-06-01T00:00", None, **NOWHERE),
    )
    first = request("2019-01-02T00:00", None)
    assert tables(first, *rows)["hexagons"].rows() == [(CELL, 2, 2), (OTHER, 1, 0)]
    # Without it, the table is a day short of two years.
    assert tables(*rows)["hexagons"].rows() == [(CELL, 2, None), (OTHER, 1, None)]


@pytest.mark.parametrize(("share", "column"), [((1, 2), "median_days"), ((9, 10), "p90_days")])
@given(taken=st.lists(st.integers(0, 1000), min_size=1, max_size=40))
def test_days_to_completion_are_the_fewest_for_the_share(
    share: tuple[int, int], column: str, taken: list[int]
) -> None:
    created = at("2020-01-01T00:00")
    rows = [
        request("2020-01-01T00:00", None) | {"completion_timestamp": created + timedelta(days=n)}
        for n in taken
    ]
    part, whole = share
    found = tables(*rows)["total"][column][0]
    least = min(n for n in taken if sum(m <= n for m in taken) * whole >= part * len(taken))
    assert found == least
