"""Finds likely reasons why requests failed to join, and their distances to the City."""

from itertools import product

import h3
import numpy as np
import polars as pl
from numpy.typing import NDArray

from capetown.city import COORDINATES
from capetown.requests.hexagons import Floats, Hexagons, cells_of
from capetown.requests.reader import (
    FAILED,
    METRES,
    OUTSIDE,
    REASON,
    STATUS,
    UNREADABLE,
    read_numbers,
)

Strings = NDArray[np.object_]
# Radius of H3's sphere, in metres. Distances on it are within 0.6 % of those on WGS84.
EARTH = 6_371_007.180918475
# Points whose distances are computed at a time, to bound the memory.
BLOCK = 2048
# Digits by which a decimal point may have moved. Doubles have no more.
MAX_DIGITS = 17


def with_reasons(rejects: pl.DataFrame, hexagons: Hexagons) -> pl.DataFrame:
    """Add a likely `reason` and `metres_to_nearest_hexagon` to failed requests.

    The reason is the first change that brings the coordinates into the City. Without one, it says
    how the coordinates are invalid, or is null. Requests that did not fail have no reason. Metres
    are rounded to decimetres, and null for invalid coordinates.

    Args:
        rejects: `latitude` and `longitude` as text, `join_status` and `unreadable`.
        hexagons: the City's hexagons.
    """
    status = rejects[STATUS].cast(pl.String)
    failed = status.is_in(FAILED).to_numpy()
    reason = np.full(len(rejects), None, dtype=object)
    reason[failed] = _reasons(rejects.filter(failed), hexagons)
    outside = (status == OUTSIDE).to_numpy()
    metres = np.full(len(rejects), np.nan)
    points = [read_numbers(rejects[name]).to_numpy()[outside] for name in COORDINATES]
    metres[outside] = metres_to_nearest(hexagons, *points).round(1)
    return rejects.with_columns(
        pl.Series(REASON, reason.tolist(), pl.String), pl.Series(METRES, metres, nan_to_null=True)
    ).select(pl.exclude(UNREADABLE), UNREADABLE)


def _reasons(failed: pl.DataFrame, hexagons: Hexagons) -> Strings:
    texts = [failed[name] for name in COORDINATES]
    north, east = (read_numbers(text).to_numpy() for text in texts)
    points = (read_numbers(text.str.replace(",", ".", literal=True)).to_numpy() for text in texts)
    reason = np.full(len(failed), None, dtype=object)

    def give(name: str, where: NDArray[np.bool_]) -> None:
        reason[where & (reason == None)] = name  # noqa: E711

    give("zero, zero", (north == 0) & (east == 0))
    give("decimal comma", _in_city(hexagons, *points))
    give("swapped", _in_city(hexagons, east, north))
    for name, latitude, longitude in (
        ("sign lost", north, east),
        ("swapped and sign lost", east, north),
    ):
        for signs in product((1, -1), repeat=2):
            give(name, _in_city(hexagons, signs[0] * latitude, signs[1] * longitude))
    moved = (_point_moved(at, low, high) for at, (low, high) in
             zip((north, east), _bounds(hexagons), strict=True))  # fmt: skip
    give("decimal point lost", _in_city(hexagons, *moved))
    give("not a number", np.isnan(north) | np.isnan(east))
    give("infinite", np.isinf(north) | np.isinf(east))
    give("out of range", (np.abs(north) > 90) | (np.abs(east) > 180))
    return reason


def _in_city(hexagons: Hexagons, latitude: Floats, longitude: Floats) -> NDArray[np.bool_]:
    return hexagons.positions(cells_of(latitude, longitude)) >= 0


def _bounds(hexagons: Hexagons) -> list[tuple[float, float]]:
    """The smallest and largest latitude, and longitude, of the City."""
    east, north = np.concatenate(hexagons.rings).T
    return [(float(values.min()), float(values.max())) for values in (north, east)]


def _point_moved(degrees: Floats, low: float, high: float) -> Floats:
    """Numbers divided by the power of ten that brings them between two bounds, or NaN."""
    moved = np.full(len(degrees), np.nan)
    for places in range(MAX_DIGITS, -1, -1):
        fewer = degrees / 10.0**places
        inside = (fewer >= low) & (fewer <= high)
        moved[inside] = fewer[inside]
    return moved


def metres_to_nearest(hexagons: Hexagons, latitude: Floats, longitude: Floats) -> Floats:
    """Metres from points outside all hexagons to the nearest one, along the sphere.

    Args:
        hexagons: the City's hexagons.
        latitude: degrees, shape (n,).
        longitude: degrees, shape (n,).
    """
    start, end = _outline(hexagons)
    normal = np.cross(start, end)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    # Planes through the ends of an edge and the centre of the Earth, at right angles to the edge.
    after, before = np.cross(normal, start), np.cross(end, normal)
    points = _vectors(latitude, longitude)
    nearest = np.empty(len(points))
    for at in range(0, len(points), BLOCK):
        block = points[at : at + BLOCK]
        beside = (block @ after.T >= 0) & (block @ before.T >= 0)
        to_edge = np.where(beside, np.abs(block @ normal.T), 2).min(axis=1)
        to_vertex = np.arccos(np.clip((block @ start.T).max(axis=1), -1, 1))
        nearest[at : at + BLOCK] = np.minimum(
            np.where(to_edge <= 1, np.arcsin(np.clip(to_edge, 0, 1)), np.inf), to_vertex
        )
    return nearest * EARTH


def _outline(hexagons: Hexagons) -> tuple[Floats, Floats]:
    """Both ends of the edges on the outline of all hexagons, as vectors."""
    shapes = h3.cells_to_geo(hexagons.index.to_list())
    polygons = [shapes["coordinates"]] if shapes["type"] == "Polygon" else shapes["coordinates"]
    rings = [np.array(ring) for polygon in polygons for ring in polygon]
    starts, ends = (np.concatenate(parts) for parts in
                    ([ring[:-1] for ring in rings], [ring[1:] for ring in rings]))  # fmt: skip
    return _vectors(*starts.T[::-1]), _vectors(*ends.T[::-1])


def _vectors(latitude: Floats, longitude: Floats) -> Floats:
    """Points on the unit sphere, shape (n, 3)."""
    north, east = np.radians(latitude), np.radians(longitude)
    return np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], -1)
