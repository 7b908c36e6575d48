"""Counts of requests per hexagon.

`count` gives one row per hexagon, in the order of the City's file:

- `index`: the H3 cell.
- `requests`: number of requests.
- `directorate: NAME`: number of requests of the directorate. The `MAX_DIRECTORATES` most common
  ones have a column each, in alphabetical order. `directorate: (other)` has the rest, and
  `directorate: (none)` requests without a directorate. These columns sum to `requests`. Their
  prefix is the first of `city.DIRECTORATE_WORDS`.
- `median_days_to_completion`: median over completed requests, null if there are none. A
  completion before the creation (clocks differ by minutes) counts as 0 days.
- `suburb`, or the first of `city.SUBURB_WORDS`: the most common official suburb, alphabetically
  first in a tie; may be null.
"""

import polars as pl

from capetown.city import DIRECTORATE_WORDS, SUBURB_WORDS
from capetown.requests.hexagons import Hexagons
from capetown.requests.reader import NONE

# Directorates with a column of their own; the City has a dozen.
MAX_DIRECTORATES = 40
COUNT_PREFIX = f"{DIRECTORATE_WORDS[0]}: "
MOST_COMMON = SUBURB_WORDS[0]


def count(hexagons: Hexagons, joined: pl.LazyFrame) -> pl.DataFrame:
    """Count requests per hexagon. The module's docstring describes the columns.

    Args:
        hexagons: the City's hexagons.
        joined: requests in the hexagons: `index`, `directorate` and `suburb` as text or categories,
            and `taken`, a duration.
    """
    queries = [
        joined.group_by("index").agg(
            requests=pl.len(),
            median_days_to_completion=pl.col("taken").clip(lower_bound=pl.duration()).median()
            / pl.duration(days=1),
        ),
        joined.drop_nulls("suburb").group_by("index", "suburb").len(),
        joined.group_by("index", "directorate").len(),
    ]
    totals, named_suburbs, pairs = pl.collect_all(queries, engine="streaming")
    suburbs = (
        named_suburbs.cast({"suburb": pl.String})
        .sort("len", "suburb", descending=[True, False])
        .unique("index", keep="first")
        .drop("len")
    )
    texts = pl.col("directorate").cast(pl.String)
    common = (
        pairs.drop_nulls().group_by(texts).agg(pl.col("len").sum())
        .sort("len", "directorate", descending=[True, False])
    )  # fmt: skip
    rest = common["directorate"][MAX_DIRECTORATES:]
    name = pl.when(texts.is_in(rest.implode())).then(pl.lit("(other)")).otherwise(texts)
    named = pairs.with_columns(
        pl.concat_str(pl.lit(COUNT_PREFIX), name.fill_null(NONE)).alias("directorate")
    )
    # The City may call a directorate "(none)".
    wide = named.pivot("directorate", index="index", values="len", aggregate_function="sum")
    names = sorted({*named["directorate"], f"{COUNT_PREFIX}{NONE}"})
    table = hexagons.index.to_frame()
    for part in (totals, wide, suburbs):
        table = table.join(
            part.cast({"index": pl.String}), on="index", how="left", maintain_order="left"
        )
    missing = [pl.lit(0).alias(name) for name in names if name not in table.columns]
    return (
        table.with_columns(missing)
        .with_columns(pl.col("requests", *names).fill_null(0).cast(pl.Int64))
        .select(
            "index",
            "requests",
            *names,
            "median_days_to_completion",
            pl.col("suburb").alias(MOST_COMMON),
        )
    )
