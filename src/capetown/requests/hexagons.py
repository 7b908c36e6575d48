"""The City's hexagons: H3 cells of one resolution, read from GeoJSON and checked."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import polars_h3

from capetown.city import CELL, RESOLUTION, TOLERANCE
from capetown.errors import CapetownError
from capetown.requests.cells import EARTH, Cells, Floats, prepare, vectors
from capetown.requests.schema import HEXAGON_SCHEMA

# WGS84 in any of the usual spellings, with or without height: CRS84 is longitude first, as GeoJSON
# has it, and what calls itself EPSG:4326 in GeoJSON nearly always means the same.
WGS84 = re.compile(r"(.*[^a-z0-9])?(crs:?84h?|wgs[ _]?84|4326|4979)", re.IGNORECASE)
# Points whose distances are taken at a time: bounds the memory that it takes.
BLOCK = 2048


@dataclass(frozen=True)
class Hexagons:
    """The City's cells.

    Attributes:
        index: H3 cells as text, in the file's order.
        rings: a closed ring of longitudes and latitudes for each cell, in degrees.
        cells: the same cells, ready to find points in.
        deviation: metres of the vertex that is farthest from H3's own.
        empty: how many values are missing or of another type, by the schema's column.
    """

    index: pl.Series
    rings: list[Floats]
    cells: Cells
    deviation: float
    empty: dict[str, int]


def read_hexagons(path: Path) -> Hexagons:
    """Read and check the City's hexagons.

    Args:
        path: a GeoJSON FeatureCollection of polygons in WGS84, longitude first, each with a
            property with its cell.

    Raises:
        CapetownError: the file cannot be read, is in another CRS or has no hexagon, or an index is
            not a cell of resolution 8, comes twice, or has another boundary than H3 gives it.
    """
    properties, rings = [], []
    for number, feature in enumerate(_features(path), 1):
        try:
            properties.append([feature["properties"].get(name) for name in HEXAGON_SCHEMA])
            rings.append(_ring(feature["geometry"]))
        except CapetownError as error:
            raise CapetownError(f"{path}: feature {number}: {error}") from error
        except (AttributeError, KeyError, TypeError) as error:
            raise CapetownError(
                f"{path}: feature {number}: not a polygon with properties; fetch the file again"
            ) from error
    columns = [
        pl.Series(name, values, dtype, strict=False)
        for (name, dtype), values in zip(
            HEXAGON_SCHEMA.items(), zip(*properties, strict=True), strict=True
        )
    ]
    index = next(values for values in columns if values.name == CELL).alias("index")
    _check_cells(path, index)
    deviation = _check_boundaries(path, index, rings)
    empty = {values.name: values.null_count() for values in columns}
    return Hexagons(index, rings, prepare(index, RESOLUTION), deviation, empty)


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
    points = vectors(latitude, longitude)
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
    if crs is not None:
        try:
            properties = crs["properties"]
            name = properties["name"] if "name" in properties else properties["code"]
        except (KeyError, TypeError):
            name = crs
        if not WGS84.fullmatch(str(name).strip()):
            raise CapetownError(f"{path}: its crs is {name!r}; reproject the file to WGS84 (CRS84)")
    if not collection["features"]:
        raise CapetownError(f"{path}: no hexagon in it; fetch the file again")
    features: list[Any] = collection["features"]
    return features


def _ring(geometry: dict[str, Any]) -> Floats:
    """The one ring of a Polygon, or of a MultiPolygon of one part; a third dimension is dropped."""
    kind, parts = geometry["type"], geometry["coordinates"]
    if kind == "MultiPolygon" and len(parts) == 1:
        [parts] = parts
    elif kind != "Polygon":
        count = f" of {len(parts)} parts" if kind == "MultiPolygon" else ""
        raise CapetownError(f"a {kind}{count}, not the polygon of one cell; dissolve it or drop it")
    if len(parts) != 1:
        raise CapetownError(f"a polygon of {len(parts)} rings, not one; a cell has no holes")
    try:
        ring = np.array([point[:2] for point in parts[0]], dtype=np.float64)
    except (OverflowError, ValueError) as error:
        raise CapetownError("a corner that is not longitude and latitude; fetch again") from error
    if ring.ndim != 2 or ring.shape[1] != 2:
        raise CapetownError("a corner that is not longitude and latitude; fetch again")
    if len(ring) < 4:
        raise CapetownError(f"a ring of {len(ring)} corners; fetch the file again")
    return ring


def _check_cells(path: Path, cells: pl.Series) -> None:
    table = cells.to_frame().with_columns(
        valid=polars_h3.is_valid_cell("index") & pl.col("index").str.contains("^[0-9a-f]{15}$"),
        resolution=polars_h3.get_resolution("index"),
    )
    for number, (cell, valid, resolution) in enumerate(table.iter_rows(), 1):
        if cell is None:
            raise CapetownError(
                f"{path}: feature {number}: no text in its property {CELL!r}, which names the cell"
            )
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
            f"boundary ({_unlike(rings[row], own[row].to_list(), deviations[row])})"
        )
    return float(deviations.max())


def _unlike(ring: Floats, boundary: list[list[float]], deviation: float) -> str:
    """The difference of a ring from the boundary, latitudes first, that it should be."""
    if (np.abs(ring) > 180).any():
        return f"{ring[0].tolist()} are no degrees; reproject the file to WGS84 (CRS84)"
    if (ring[0] != ring[-1]).any():
        return "its ring is not closed"
    if len(ring) - 1 != len(boundary):
        return f"it has {len(ring) - 1} corners, the cell {len(boundary)}"
    turned = _deviations(ring[None, :-1, ::-1], np.array(boundary)[None, :, ::-1])
    if (turned <= TOLERANCE).all():
        return "latitude comes first; swap the coordinates"
    return f"{deviation:.1f} m off; is it WGS84?"


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
    return vectors(*start[outer].T[::-1]), vectors(*end[outer].T[::-1])
