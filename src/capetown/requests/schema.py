"""The types of the City's columns, as polars knows them.

A plain mapping and not a pandera schema, because importing pandera alone takes as long as indexing
a year of requests. What must not be empty stops the stage or is counted, as `table`, `hexagons` and
`summary` say.
"""

import polars as pl

from capetown import city

TIMESTAMP = pl.Datetime("us", city.TIME_ZONE)
# Text of which there are few different ones: read, kept and written faster.
CATEGORY = pl.Categorical()
TYPES: dict[str, pl.DataType] = {
    "text": pl.String(),
    "category": CATEGORY,
    "time": TIMESTAMP,
    "number": pl.Float64(),
}
REQUEST_SCHEMA = {column.name: TYPES[column.kind] for column in city.REQUEST_COLUMNS}
# Columns that are read as something else than text, and those of them that are judged each for
# itself: coordinates are judged together, as places.
TIMED = tuple(name for name, dtype in REQUEST_SCHEMA.items() if dtype == TIMESTAMP)
NUMBERED = tuple(name for name, dtype in REQUEST_SCHEMA.items() if dtype == pl.Float64())
JUDGED = tuple(name for name in (*TIMED, *NUMBERED) if name not in city.PLACE)
