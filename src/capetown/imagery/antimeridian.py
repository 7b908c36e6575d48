"""Polygons across the antimeridian, as RFC 7946 wants them."""

import shapely


def cut_at_180(polygon: shapely.Geometry) -> shapely.Geometry:
    """A polygon whose longitudes go beyond 180, as parts between -180 and 180, counterclockwise."""
    east, west = (polygon & shapely.box(left, -90, left + 360, 90) for left in (-180, 180))
    west = shapely.transform(west, lambda points: points - [360, 0])
    parts = [part for part in (east, west) if part.area]
    return shapely.orient_polygons(parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts))
