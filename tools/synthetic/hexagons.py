"""The City's H3 cells and the two GeoJSON files that list them.

The cells are real ones: those that an outline of the metro holds, grown cell by cell to the
number that the City's own file has.
"""

from functools import cache
from pathlib import Path

import h3
import numpy as np
import shapely

from capetown.city import RESOLUTION

CELLS = 3832
# Longitudes and latitudes of the box that all of the City's cells lie in.
BOUNDS = (18.298, -34.365, 19.013, -33.464)
# Real cells on the City's edge that its own file lacks although requests lie in them.
LACKING = frozenset({"88ad36c629fffff", "88ad361b51fffff"})
# The metro's boundary, clockwise from the north-west: longitude, latitude in degrees.
OUTLINE = (
    (18.305, -33.475), (18.400, -33.471), (18.520, -33.476), (18.545, -33.520), (18.560, -33.575),
    (18.600, -33.615), (18.660, -33.635), (18.735, -33.665), (18.755, -33.720), (18.770, -33.775),
    (18.785, -33.820), (18.765, -33.855), (18.735, -33.880), (18.714, -33.893), (18.721, -33.906),
    (18.721, -33.916), (18.735, -33.930), (18.735, -33.965), (18.755, -34.000), (18.765, -34.030),
    (18.772, -34.044), (18.784, -34.050), (18.800, -34.035), (18.840, -34.030), (18.880, -34.005),
    (18.930, -34.000), (18.970, -34.030), (19.008, -34.070), (18.995, -34.110), (18.955, -34.145),
    (18.940, -34.200), (18.900, -34.240), (18.845, -34.290), (18.815, -34.310), (18.830, -34.255),
    (18.845, -34.215), (18.855, -34.175), (18.830, -34.125), (18.800, -34.095), (18.740, -34.080),
    (18.680, -34.085), (18.600, -34.080), (18.530, -34.095), (18.475, -34.110), (18.450, -34.130),
    (18.437, -34.150), (18.450, -34.190), (18.470, -34.215), (18.475, -34.260), (18.470, -34.310),
    (18.498, -34.360), (18.475, -34.362), (18.430, -34.320), (18.380, -34.260), (18.365, -34.205),
    (18.310, -34.150), (18.345, -34.100), (18.305, -34.045), (18.335, -34.005), (18.370, -33.950),
    (18.375, -33.920), (18.400, -33.895), (18.440, -33.900), (18.475, -33.895), (18.475, -33.840),
    (18.455, -33.800), (18.435, -33.735), (18.430, -33.680), (18.360, -33.620), (18.345, -33.580),
    (18.315, -33.530),
)  # fmt: skip
# Kilometres in a degree of longitude and of latitude at the City.
DEGREE = np.array([92.4, 110.9])
# The cell in the middle of the central business district, and how many rings around it are the
# corner of the City that the file with three resolutions covers.
CORNER, RINGS = "88ad361519fffff", 2

Ring = list[tuple[float, float]]


@cache
def city_cells() -> tuple[str, ...]:
    """The City's 3,832 resolution-8 cells in ascending order.

    They are the cells whose centres lie deepest inside the outline, or least far outside it.
    """
    inside = h3.polygon_to_cells(h3.LatLngPoly([(lat, lon) for lon, lat in OUTLINE]), RESOLUTION)
    around = {cell for centre in inside for cell in h3.grid_disk(centre, 2)}
    candidates = sorted(cell for cell in around - LACKING if _within_bounds(cell))
    centres = np.array([h3.cell_to_latlng(cell)[::-1] for cell in candidates]) * DEGREE
    outline = shapely.Polygon(np.array(OUTLINE) * DEGREE)
    points = shapely.points(centres)
    depth = shapely.distance(points, outline.exterior)
    depth = np.where(shapely.contains(outline, points), -depth, depth)
    nearest = np.argsort(depth, kind="stable")[:CELLS]
    return tuple(sorted(candidates[k] for k in nearest))


def corner_cells() -> tuple[str, ...]:
    """The cells of resolutions 8, 9 and 10 that make up the middle of the City."""
    coarse = sorted(set(h3.grid_disk(CORNER, RINGS)) & set(city_cells()))
    finer = (RESOLUTION, RESOLUTION + 1, RESOLUTION + 2)
    return tuple(c for r in finer for cell in coarse for c in sorted(h3.cell_to_children(cell, r)))


def write_hexagons(folder: Path) -> None:
    """Write `city-hex-polygons-8.geojson` and `city-hex-polygons-8-10.geojson` in `folder`."""
    features = [_feature(cell) for cell in city_cells()]
    _write_collection(
        folder / "city-hex-polygons-8.geojson", features, '"name": "city-hex-polygons-8",\n'
    )
    features = [
        _feature(cell, f', "resolution": {h3.get_resolution(cell)}') for cell in corner_cells()
    ]
    _write_collection(folder / "city-hex-polygons-8-10.geojson", features)


def _within_bounds(cell: str) -> bool:
    west, south, east, north = BOUNDS
    return all(west < lon < east and south < lat < north for lon, lat in _ring(cell))


def _ring(cell: str) -> Ring:
    """The cell's vertices as H3 has them, longitude first, the last equal to the first."""
    ring = [(lon, lat) for lat, lon in h3.cell_to_boundary(cell)]
    return [*ring, ring[0]]


def _feature(cell: str, more: str = "") -> str:
    latitude, longitude = h3.cell_to_latlng(cell)
    ring = ", ".join(f"[ {lon!r}, {lat!r} ]" for lon, lat in _ring(cell))
    return (
        f'{{ "type": "Feature", "properties": {{ "index": "{cell}", "centroid_lat": {latitude!r}, '
        f'"centroid_lon": {longitude!r}{more} }}, '
        f'"geometry": {{ "type": "Polygon", "coordinates": [ [ {ring} ] ] }} }}'
    )


def _write_collection(path: Path, features: list[str], name: str = "") -> None:
    lines = (
        '{\n"type": "FeatureCollection",\n'
        f"{name}"
        '"crs": { "type": "name", "properties": { "name": "urn:ogc:def:crs:OGC:1.3:CRS84" } },\n'
        '"features": [\n' + ",\n".join(features) + "\n]\n}\n"
    )
    path.write_text(lines, encoding="utf-8", newline="\n")
