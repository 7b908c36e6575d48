"""The likely reason why a request is in none of the City's hexagons, from the hexagons alone."""

from itertools import product

import numpy as np
import polars as pl
from numpy.typing import NDArray

from capetown.city import PLACE
from capetown.requests.cells import Floats, locate
from capetown.requests.hexagons import Hexagons, metres_to_nearest
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
# Places by which a decimal point may have moved: a number of degrees has no more digits.
PLACES = 17


def with_reasons(rejects: pl.DataFrame, hexagons: Hexagons) -> pl.DataFrame:
    """Add a likely `reason` and `metres_to_nearest_hexagon` to failed requests.

    The reason is the first change that brings the coordinates into the City; else what invalid
    coordinates are; else null, and null for requests that did not fail. The metres, rounded to
    decimetres, are those of real places.

    Args:
        rejects: `latitude` and `longitude` as text, `join_status` and `unreadable`.
        hexagons: the City's.
    """
    status = rejects[STATUS].cast(pl.String)
    failed = status.is_in(FAILED).to_numpy()
    reason = np.full(len(rejects), None, dtype=object)
    reason[failed] = _reasons(rejects.filter(failed), hexagons)
    outside = (status == OUTSIDE).to_numpy()
    metres = np.full(len(rejects), np.nan)
    points = [read_numbers(rejects[name]).to_numpy()[outside] for name in PLACE]
    metres[outside] = metres_to_nearest(hexagons, *points).round(1)
    return rejects.with_columns(
        pl.Series(REASON, reason.tolist(), pl.String), pl.Series(METRES, metres, nan_to_null=True)
    ).select(pl.exclude(UNREADABLE), UNREADABLE)


def _reasons(failed: pl.DataFrame, hexagons: Hexagons) -> Strings:
    texts = [failed[name] for name in PLACE]
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
    return locate(latitude, longitude, hexagons.cells)[1] >= 0


def _bounds(hexagons: Hexagons) -> list[tuple[float, float]]:
    """The least and greatest latitude, and longitude, of the City."""
    east, north = np.concatenate(hexagons.rings).T
    return [(float(values.min()), float(values.max())) for values in (north, east)]


def _point_moved(degrees: Floats, low: float, high: float) -> Floats:
    """The number divided by the power of ten that brings it between two bounds, else NaN."""
    moved = np.full(len(degrees), np.nan)
    for places in range(PLACES, -1, -1):
        fewer = degrees / 10.0**places
        inside = (fewer >= low) & (fewer <= high)
        moved[inside] = fewer[inside]
    return moved
