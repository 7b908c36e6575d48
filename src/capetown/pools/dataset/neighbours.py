"""Tiles that touch or are near each other, by their outlines."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import shapely

from capetown.imagery.georeference import Outline
from capetown.pools.dataset.locations import to_utm, utm_zone

# Degrees between tiles that touch: a decimetre of rounding.
ROUNDING = 1e-6
# UTM changes lengths by a thousandth at most. A distance that is less short counts as whole.
UTM_ERROR = 0.002


def count_neighbours(
    folds: Sequence[str], outlines: Sequence[Outline | None]
) -> tuple[int, int] | None:
    """Count pairs of tiles that touch, corners included, and the pairs that lie in two folds.

    None if it is unknown where some tile is.
    """
    located = [outline for outline in outlines if outline]
    if len(located) < len(outlines):
        return None
    divided = [folds[one] != folds[other] for one, other in _touching(located)]
    return len(divided), sum(divided)


def _touching(outlines: Sequence[Outline]) -> Iterable[tuple[int, int]]:
    corners = np.stack([outline.corners for outline in outlines])
    # Longitudes from the first tile: they do not jump at 180 degrees.
    corners[..., 0] = (corners[..., 0] - outlines[0].longitude + 180) % 360 - 180
    polygons = shapely.polygons(corners)
    pairs = shapely.STRtree(polygons).query(polygons, predicate="dwithin", distance=ROUNDING)
    return ((one, other) for one, other in pairs.T.tolist() if one < other)


def find_near(outlines: Sequence[Outline], targets: Sequence[int], metres: float) -> set[int]:
    """The tiles whose outline is nearer than that to the outline of a target, targets included."""
    corners = np.stack([outline.corners for outline in outlines])
    zones = defaultdict(list)
    for target in targets:
        zones[utm_zone(outlines[target].longitude)].append(target)
    near: set[int] = set()
    for zone, members in zones.items():
        points = np.stack(to_utm(zone).transform(corners[..., 0], corners[..., 1]), axis=-1)
        # Far from its zone, UTM is infinite.
        usable = np.flatnonzero(np.isfinite(points).all(axis=(1, 2)))
        polygons = shapely.polygons(points[usable])
        there = polygons[np.isin(usable, members)]
        distance = metres * (1 - UTM_ERROR)
        found = shapely.STRtree(polygons).query(there, predicate="dwithin", distance=distance)
        near.update(usable[found[1]].tolist())
    return near
