"""Write tables with polygons as GeoParquet 1.1.

Importing geopandas would take longer than the whole join of requests. Without a ``crs`` member, the
standard's default applies: OGC:CRS84, longitude first.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

if TYPE_CHECKING:
    import pyarrow as pa

GEOMETRY = "geometry"
# Smaller tables are collected into row groups of at least this many rows.
ROW_GROUP = 50_000


def write_frame(frame: pl.DataFrame, rings: Sequence[npt.NDArray[np.float64]], path: Path) -> None:
    """Write a table with one polygon per row.

    Args:
        frame: the table without its geometry.
        rings: the outer ring of each row's polygon, shape (vertices, 2), longitude first, closed.
        path: the file.
    """
    heads = (np.array([1, len(ring)], "<u4").tobytes() for ring in rings)
    polygons = [
        b"\x01\x03\x00\x00\x00" + head + ring.astype("<f8").tobytes()
        for head, ring in zip(heads, rings, strict=True)
    ]
    vertices = np.concatenate(rings)
    box = [*vertices.min(axis=0).tolist(), *vertices.max(axis=0).tolist()]
    table = frame.with_columns(pl.Series(GEOMETRY, polygons, dtype=pl.Binary))
    table.write_parquet(path, metadata=_metadata(box, {"Polygon"}))


def write_tables(tables: "Iterable[pa.Table]", schema: "pa.Schema", file: IO[bytes]) -> None:
    """Write tables one after the other into one file.

    Args:
        tables: each with `schema`. Its column ``geometry`` has WKB or nulls.
        schema: of the file.
        file: open for writing.
    """
    # Imported here, because `transform` needs neither.
    import pyarrow as pa
    import pyarrow.parquet as pq
    import shapely

    box = np.array([np.inf, np.inf, -np.inf, -np.inf])
    types: set[str] = set()
    waiting: list[pa.Table] = []
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for table in tables:
            polygons = shapely.from_wkb(table[GEOMETRY].to_numpy(zero_copy_only=False))
            bounds = shapely.bounds(polygons)
            if not np.isnan(bounds).all():
                box[:2] = np.minimum(box[:2], np.nanmin(bounds[:, :2], axis=0))
                box[2:] = np.maximum(box[2:], np.nanmax(bounds[:, 2:], axis=0))
            types |= {polygon.geom_type for polygon in polygons if polygon}
            waiting.append(table)
            if sum(map(len, waiting)) >= ROW_GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
        writer.add_key_value_metadata(_metadata(box.tolist(), types))


def _metadata(box: list[float], types: set[str]) -> dict[str, str]:
    """The file's metadata. `box` is west, south, east, north; unused without any geometry type."""
    column: dict[str, Any] = {"encoding": "WKB", "geometry_types": sorted(types)}
    if types:
        column["bbox"] = box
    geo = {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}
    return {"geo": json.dumps(geo)}
