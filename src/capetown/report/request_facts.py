"""The requests' part of the report: its tables, and the numbers that its sentences need."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from capetown.city import DIRECTORATE, REQUEST_TYPE, SUBURB
from capetown.report.formatting import as_name
from capetown.report.request_statistics import missing_by_directorate, service_numbers
from capetown.requests.reader import NONE

# A kind that comes less often is left out where shares of kinds are ranked.
FEWEST = 50


@dataclass(frozen=True)
class Requests:
    """What the report tells of the requests.

    Attributes:
        tables: as `capetown.report.request_statistics.service_tables` gives them.
    """

    tables: Mapping[str, pl.DataFrame]

    @property
    def numbers(self) -> dict[str, Any]:
        """The few numbers that `metrics/` keeps."""
        return service_numbers(dict(self.tables))

    @property
    def total(self) -> dict[str, Any]:
        """The columns of all requests together."""
        [row] = self.tables["total"].to_dicts()
        return row

    @property
    def count(self) -> int:
        """Requests in all."""
        return int(self.total["requests"])

    @property
    def first(self) -> date | None:
        """The day of the first request; None where no time of creation can be read."""
        days = self.tables["days"]["day"]
        return days.min() if len(days) else None  # type: ignore[return-value]

    @property
    def last(self) -> date | None:
        """The day of the last request, likewise."""
        days = self.tables["days"]["day"]
        return days.max() if len(days) else None  # type: ignore[return-value]

    @property
    def busiest_day(self) -> dict[str, Any]:
        """The day with most requests."""
        days: dict[str, Any] = self.tables["days"].sort(
            "created", "day", descending=[True, False]
        ).row(0, named=True)  # fmt: skip
        return days

    @property
    def top_kinds(self) -> list[dict[str, Any]]:
        """The commonest kinds, with their share of all requests."""
        return [
            {**row, "name": as_name(row[REQUEST_TYPE]), "share": row["requests"] / self.count}
            for row in self.tables["kinds"].filter(pl.col(REQUEST_TYPE) != NONE).head(3).to_dicts()
        ]

    @property
    def top_directorates(self) -> list[dict[str, Any]]:
        """The directorates with most requests, with their share of all."""
        named = self.tables["directorates"].filter(pl.col(DIRECTORATE) != NONE)
        return [
            {**row, "name": as_name(row[DIRECTORATE]), "share": row["requests"] / self.count}
            for row in named.head(3).to_dicts()
        ]

    @property
    def suburbs(self) -> list[dict[str, Any]]:
        """The suburbs that most requests name."""
        return [
            {**row, "name": as_name(row[SUBURB])}
            for row in self.tables["suburbs"].head(5).to_dicts()
        ]

    @property
    def speeds(self) -> pl.DataFrame:
        """The larger directorates with the days that half of their requests take, fastest first."""
        table = self.tables["directorates"]
        large = (pl.col("requests") >= 0.01 * self.count) & (pl.col(DIRECTORATE) != NONE)
        return table.filter(large).sort("median_days", DIRECTORATE, nulls_last=True)

    @property
    def missing(self) -> list[dict[str, Any]]:
        """The larger directorates by their share without coordinates, the largest first."""
        rows = missing_by_directorate(self.tables["directorates"]).to_dicts()
        return [{**row, "name": as_name(row[DIRECTORATE])} for row in rows]

    @property
    def again_by_kind(self) -> pl.DataFrame:
        """Kinds by the share of their located requests that come again, the largest first."""
        located = pl.col("requests") - pl.col("without_coordinates")
        return (
            self.tables["kinds"]
            .filter((located >= FEWEST) & (pl.col("again") > 0) & (pl.col(REQUEST_TYPE) != NONE))
            .with_columns(share=pl.col("again") / located)
            .sort("share", REQUEST_TYPE, descending=[True, False])
        )

    @property
    def has_two_years(self) -> bool:
        """True if each hexagon can be held against the twelve months before."""
        return self.tables["hexagons"]["requests_before"].null_count() == 0 and bool(
            len(self.tables["hexagons"])
        )
