"""What the City's tables must hold: each column's type, whether it may be empty, what it means.

A plain table and not a pandera schema, because importing pandera alone takes as long as indexing
a year of requests. What must not be empty stops the stage or is counted, as
`requests`, `hexagons` and `summary` say.
"""

from dataclasses import dataclass

import polars as pl

TIME_ZONE = "Africa/Johannesburg"
TIMESTAMP = pl.Datetime("us", TIME_ZONE)
# Text of which there are few different ones: read, kept and written faster.
CATEGORY = pl.Categorical()


@dataclass(frozen=True)
class Column:
    """What a column holds, and whether it may be empty."""

    name: str
    dtype: pl.DataType
    nullable: bool
    meaning: str


REQUESTS = (
    Column("notification_number", pl.String(), False, "unique number of the request, zero-padded"),
    Column("reference_number", pl.String(), True, "the number that the resident was given"),
    Column("creation_timestamp", TIMESTAMP, False, "when the request was logged, with its zone"),
    Column("completion_timestamp", TIMESTAMP, True, "when it was closed, with its zone"),
    Column("directorate", CATEGORY, True, "the City's directorate in charge"),
    Column("department", CATEGORY, True, "department of the directorate"),
    Column("branch", CATEGORY, True, "branch of the department"),
    Column("section", CATEGORY, True, "section of the branch"),
    Column("code_group", CATEGORY, True, "group of kinds of request"),
    Column("code", CATEGORY, True, "kind of request"),
    Column("cause_code_group", CATEGORY, True, "group of causes, as found on site"),
    Column("cause_code", CATEGORY, True, "cause, as found on site"),
    Column("official_suburb", CATEGORY, True, "suburb by the City's own division"),
    Column("latitude", pl.Float64(), True, "degrees north in WGS84, so negative"),
    Column("longitude", pl.Float64(), True, "degrees east in WGS84"),
)

# The properties of a hexagon's feature. Its geometry must be the cell's own boundary.
HEXAGONS = (
    Column("index", pl.String(), False, "unique H3 cell of resolution 8"),
    Column("centroid_lat", pl.Float64(), True, "degrees north of the cell's centre; not used"),
    Column("centroid_lon", pl.Float64(), True, "degrees east of the cell's centre; not used"),
)
