"""The City's hexagons: H3 cells of one resolution, read from GeoJSON and checked; counts on them.

`counts` gives one row a hexagon, in the order of the City's file:

- `index`: the H3 cell.
- `requests`: how many requests lie in it, 0 for most hexagons.
- `directorate: NAME`: how many of them are NAME's, one column a directorate in alphabetical order,
  `directorate: (none)` for those without one. These columns sum to `requests`.
- `median_days_to_completion`: of those completed, null where none is; a completion before its
  creation (clocks differ by minutes) counts as 0 days.
- `suburb`: the commonest official suburb, the first in the alphabet among equals, null where no
  request names one.
- `geometry`: the City's polygon, longitude first, in `write_geoparquet`'s file.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import polars_h3
from numpy.typing import NDArray

from capetown.city import RESOLUTION, TOLERANCE
from capetown.errors import CapetownError
from capetown.hexes.schema import HEXAGON_SCHEMA

# Radius of H3's own sphere, in metres. Distances on it are within 0.6 % of those on WGS84.
EARTH = 6_371_007.180918475
WGS84 = (
    "urn:ogc:def:crs:OGC:1.3:CRS84",
    "urn:ogc:def:crs:OGC::CRS84",
    "OGC:CRS84",
    "urn:ogc:def:crs:EPSG::4326",
    "EPSG:4326",
)
# Points whose distances are taken at a time: bounds the memory that it takes.
BLOCK = 2048

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Hexagons:
    """The City's cells.

    Attributes:
        index: H3 cells as text, in the file's order.
        rings: a closed ring of longitudes and latitudes for each cell, in degrees.
        deviation: metres of the vertex that is farthest from H3's own.
        empty: how many values are missing or of another type, by the schema's column.
    """

    index: pl.Series
    rings: list[Floats]
    deviation: float
    empty: dict[str, int]


def read_hexagons(path: Path) -> Hexagons:
    """Read and check the City's hexagons.

    Args:
        path: a GeoJSON FeatureCollection of polygons in WGS84, longitude first, each with a
            property `index`.

    Raises:
        CapetownError: the file cannot be read, is in another CRS or has no hexagon, or an index is
            not a cell of the City's resolution, comes twice, or has another boundary than H3
            gives it.
    """
    properties, rings = [], []
    for number, feature in enumerate(_features(path), 1):
        try:
            properties.append([feature["properties"].get(name) for name in HEXAGON_SCHEMA])
            rings.append(_ring(feature["geometry"]))
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise CapetownError(
                f"{path}: feature {number}: not a polygon of one ring with properties; "
                "fetch the file again"
            ) from error
    columns = [
        pl.Series(name, values, dtype, strict=False)
        for (name, dtype), values in zip(
            HEXAGON_SCHEMA.items(), zip(*properties, strict=True), strict=True
        )
    ]
    cells = columns[0]
    _check_cells(path, cells)
    empty = {values.name: values.null_count() for values in columns}
    return Hexagons(cells, rings, _check_boundaries(path, cells, rings), empty)


def metres_to_nearest(hexagons: Hexagons, latitude: Floats, longitude: Floats) -> Floats:
    """Metres from points outside all hexagons to the nearest one.

    Along the sphere to the nearest point of the edges that only one hexagon has.

    Args:
        hexagons: the City's.
        latitude: degrees, shape (n,).
        longitude: degrees, shape (n,).
    """
    start, end = _outer_edges(hexagons.rings)
    normal = np.cross(start, end)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    # The planes through an edge's two ends that cut it off, seen from the centre of the Earth.
    after, before = np.cross(normal, start), np.cross(end, normal)
    points = _vectors(np.column_stack([longitude, latitude]))
    nearest = np.empty(len(points))
    for at in range(0, len(points), BLOCK):
        block = points[at : at + BLOCK]
        beside = (block @ after.T >= 0) & (block @ before.T >= 0)
        to_edge = np.where(beside, np.abs(block @ normal.T), 2).min(axis=1)
        cosine = np.maximum(block @ start.T, block @ end.T).max(axis=1)
        to_vertex = np.arccos(np.clip(cosine, -1, 1))
        nearest[at : at + BLOCK] = np.minimum(
            np.where(to_edge <= 1, np.arcsin(np.clip(to_edge, 0, 1)), np.inf), to_vertex
        )
    return nearest * EARTH


def count(hexagons: Hexagons, joined: pl.LazyFrame) -> pl.DataFrame:
    """Requests by hexagon, as the module's description says, without the geometry.

    Args:
        hexagons: the City's.
        joined: the requests in them: `index`, `directorate`, `official_suburb` as text or
            categories, and `taken`, a duration.
    """
    queries = [
        joined.group_by("index").agg(
            requests=pl.len(),
            median_days_to_completion=pl.col("taken").clip(lower_bound=pl.duration()).median()
            / pl.duration(days=1),
        ),
        joined.drop_nulls("official_suburb").group_by("index", suburb="official_suburb").len(),
        joined.group_by("index", "directorate").len(),
    ]
    totals, named_suburbs, pairs = pl.collect_all(queries, engine="streaming")
    suburbs = (
        named_suburbs.cast({"suburb": pl.String})
        .sort("len", "suburb", descending=[True, False])
        .unique("index", keep="first")
        .drop("len")
    )
    named = pairs.with_columns(
        pl.concat_str(
            pl.lit("directorate: "), pl.col("directorate").cast(pl.String).fill_null("(none)")
        ).alias("directorate")
    )
    # A directorate may be called "(none)" itself.
    wide = named.pivot("directorate", index="index", values="len", aggregate_function="sum")
    names = sorted({*named["directorate"], "directorate: (none)"})
    table = hexagons.index.to_frame()
    for part in (totals, wide, suburbs):
        texts = part.cast({"index": pl.String})
        table = table.join(texts, on="index", how="left", maintain_order="left")
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


def _features(path: Path) -> list[Any]:
    try:
        collection = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CapetownError(f"{path}: no such file; run the download stage") from error
    except OSError as error:
        raise CapetownError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise CapetownError(f"{path}: not valid JSON ({error}); fetch the file again") from error
    if not isinstance(collection, dict) or not isinstance(collection.get("features"), list):
        raise CapetownError(f"{path}: not a GeoJSON FeatureCollection; fetch the file again")
    crs = collection.get("crs")
    try:
        name = None if crs is None else crs["properties"]["name"]
    except (KeyError, TypeError):
        name = crs
    if crs is not None and name not in WGS84:
        raise CapetownError(f"{path}: its crs is {name!r}; reproject the file to WGS84 (CRS84)")
    if not collection["features"]:
        raise CapetownError(f"{path}: no hexagon in it; fetch the file again")
    features: list[Any] = collection["features"]
    return features


def _ring(geometry: dict[str, Any]) -> Floats:
    [ring] = geometry["coordinates"]
    points = np.array(ring, dtype=np.float64)
    if geometry["type"] != "Polygon" or points.ndim != 2 or len(points) < 4:
        raise ValueError
    return points[:, :2]


def _check_cells(path: Path, cells: pl.Series) -> None:
    table = cells.to_frame().with_columns(
        valid=polars_h3.is_valid_cell("index") & pl.col("index").str.contains("^[0-9a-f]{15}$"),
        resolution=polars_h3.get_resolution("index"),
    )
    for number, (cell, valid, resolution) in enumerate(table.iter_rows(), 1):
        if not valid:
            raise CapetownError(
                f"{path}: feature {number}: index {cell!r} is no H3 cell; fetch the file again"
            )
        if resolution != RESOLUTION:
            raise CapetownError(
                f"{path}: feature {number}: index {cell!r} is of resolution {resolution}, not "
                f"{RESOLUTION}; use the file of resolution {RESOLUTION} alone"
            )
    if not cells.is_unique().all():
        value = cells[cells.is_duplicated().arg_true()[0]]
        numbers = ", ".join(str(at + 1) for at in (cells == value).arg_true())
        raise CapetownError(
            f"{path}: features {numbers}: index {value!r} comes more than once; keep one of them"
        )


def _check_boundaries(path: Path, cells: pl.Series, rings: list[Floats]) -> float:
    """Metres of the vertex farthest from H3's own."""
    own = cells.to_frame().select(polars_h3.cell_to_boundary("index")).to_series()
    sizes = np.array([len(ring) - 1 if (ring[0] == ring[-1]).all() else 0 for ring in rings])
    deviations = np.full(len(rings), np.inf)
    for size in (5, 6):
        rows = np.flatnonzero((sizes == size) & (own.list.len() == size).to_numpy())
        if len(rows):
            flat = own[rows].explode().explode().to_numpy()
            boundaries = flat.reshape(-1, size, 2)[..., ::-1]
            deviations[rows] = _deviations(np.stack([rings[row][:-1] for row in rows]), boundaries)
    if not (deviations <= TOLERANCE).all():
        row = int(np.argmax(~(deviations <= TOLERANCE)))
        raise CapetownError(
            f"{path}: feature {row + 1}: the polygon of {cells[row]} is not the cell's own "
            f"boundary ({deviations[row]:.1f} m off); is it WGS84 with longitude first?"
        )
    return float(deviations.max())


def _deviations(rings: Floats, boundaries: Floats) -> Floats:
    """Metres between vertices, wherever a ring starts and whichever way it turns."""
    to_metres = np.full((len(rings), 1, 2), np.radians(1) * EARTH)
    to_metres[..., 0] *= np.cos(np.radians(boundaries[:, :1, 1]))
    nearest: Floats = np.full(len(rings), np.inf)
    for way in (boundaries, boundaries[:, ::-1]):
        for shift in range(boundaries.shape[1]):
            apart = (np.roll(way, shift, axis=1) - rings) * to_metres
            nearest = np.fmin(nearest, np.hypot(apart[..., 0], apart[..., 1]).max(axis=1))
            if (nearest <= TOLERANCE).all():
                return nearest
    return nearest


def _outer_edges(rings: list[Floats]) -> tuple[Floats, Floats]:
    """Both ends, as vectors, of the edges that belong to one hexagon only."""
    start = np.concatenate([ring[:-1] for ring in rings])
    end = np.concatenate([ring[1:] for ring in rings])
    # An edge's middle is its own. Neighbours' vertices are equal to the last digits only.
    middle = np.round((start + end) @ [1, 1j] * 1e7)
    _, first, times = np.unique(middle, return_index=True, return_counts=True)
    outer = first[times == 1]
    return _vectors(start[outer]), _vectors(end[outer])


def _vectors(degrees: Floats) -> Floats:
    """Points on the unit sphere of longitudes and latitudes."""
    longitude, latitude = np.radians(degrees).T
    return np.column_stack(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ]
    )
