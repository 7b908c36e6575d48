"""Requests counted by hexagon, and the table of the counts with its polygons.

`count` gives one row a hexagon, in the order of the City's file:

- `index`: the H3 cell.
- `requests`: how many requests lie in it, 0 for most hexagons.
- `directorate: NAME`: how many of them are NAME's, one column a directorate in alphabetical order
  for the commonest `DIRECTORATES`, `directorate: (other)` for the rest where there are more, and
  `directorate: (none)` for those without one. These columns sum to `requests`.
- `median_days_to_completion`: of those completed, null where none is; a completion before its
  creation (clocks differ by minutes) counts as 0 days.
- `suburb`: the commonest official suburb, the first in the alphabet among equals, null where no
  request names one.
- `geometry`: the City's polygon, longitude first, in `write_geoparquet`'s file.
"""

import json
from pathlib import Path

import numpy as np
import polars as pl

from capetown.hexes.hexagons import Hexagons
from capetown.hexes.table import NONE

# Directorates that get a column of their own: the City has a dozen.
DIRECTORATES = 40
PREFIX = "directorate: "


def count(hexagons: Hexagons, joined: pl.LazyFrame) -> pl.DataFrame:
    """Requests by hexagon, as the module's description says, without the geometry.

    Args:
        hexagons: the City's.
        joined: the requests in them: `index`, `directorate`, `suburb` as text or categories, and
            `taken`, a duration.
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
    rest = common["directorate"][DIRECTORATES:]
    name = pl.when(texts.is_in(rest.implode())).then(pl.lit("(other)")).otherwise(texts)
    named = pairs.with_columns(
        pl.concat_str(pl.lit(PREFIX), name.fill_null(NONE)).alias("directorate")
    )
    # A directorate may be called "(none)" itself.
    wide = named.pivot("directorate", index="index", values="len", aggregate_function="sum")
    names = sorted({*named["directorate"], f"{PREFIX}{NONE}"})
    table = hexagons.index.to_frame()
    for part in (totals, wide, suburbs):
        table = table.join(
            part.cast({"index": pl.String}), on="index", how="left", maintain_order="left"
        )
    missing = [pl.lit(0).alias(name) for name in names if name not in table.columns]
    return (
        table.with_columns(missing)
        .with_columns(pl.col("requests", *names).fill_null(0).cast(pl.Int64))
        .select("index", "requests", *names, "median_days_to_completion", "suburb")
    )


def write_geoparquet(hexagons: Hexagons, columns: pl.DataFrame, path: Path) -> None:
    """Write a table with one row a hexagon as GeoParquet 1.1, the polygons in `geometry`.

    Written here and not by geopandas, whose import takes longer than all the rest of the stage.
    Without a `crs` member the standard's default holds: OGC:CRS84.
    """
    heads = (np.array([1, len(ring)], "<u4").tobytes() for ring in hexagons.rings)
    polygons = [
        b"\x01\x03\x00\x00\x00" + head + ring.astype("<f8").tobytes()
        for head, ring in zip(heads, hexagons.rings, strict=True)
    ]
    vertices = np.concatenate(hexagons.rings)
    geometry = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "bbox": [*vertices.min(axis=0).tolist(), *vertices.max(axis=0).tolist()],
    }
    geo = {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {"geometry": geometry},
    }
    table = columns.with_columns(geometry=pl.Series(polygons, dtype=pl.Binary))
    table.write_parquet(path, metadata={"geo": json.dumps(geo)})
