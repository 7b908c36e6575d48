"""The ground of a map of hexagons, as SVG: sea, land, outlines, place names and a scale.

It is drawn in UTM, so lengths on it are true; its longer side has `SIDE` units. The coast lies
where the hexagons end and no neighbour's land begins. Without neighbours near them there is no sea.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import polars as pl
import shapely
from numpy.typing import NDArray

from capetown.city import NEIGHBOURS, WATERS
from capetown.report.formatting import as_name, printable
from capetown.requests.counts import MOST_COMMON

SIDE = 11_000
# Font sizes in units; `page.css` enlarges the names for phones.
LARGE, SMALL, ON_PHONE = 165, 130, 250
# Free space around the City, as a share of it, and around a name, in units.
MARGIN, GAP = 0.05, 60
# Names on a map, and how many of them fit on a phone.
ALL, MAJOR = 22, 12
# Mean width of a letter, as a share of the font size.
LETTER_WIDTH = 0.56
# Radius that smooths the outline of the hexagons, in hexagon widths.
SMOOTHING = 0.45


class Label(NamedTuple):
    """A name on a map, centred at a point in units."""

    css: str
    words: str
    x: float
    y: float
    size: int


@dataclass(frozen=True)
class Ground:
    """A map without its hexagons' colours, in SVG."""

    size: tuple[int, int]  # width and height, in units
    below: str  # what lies under the hexagons
    outlines: Sequence[str]  # paths of the hexagons, in the order of their table
    above: str  # names and scale, over the hexagons
    centres: NDArray[np.float64]  # middles of the hexagons, shape (hexagons, 2)
    covered: shapely.Geometry  # the hexagons, names and scale


def draw_ground(table: gpd.GeoDataFrame) -> Ground:
    """The map of hexagons: `geometry`, and `MOST_COMMON` and `requests` for names, if any."""
    metres = table.geometry.to_crs(table.estimate_utm_crs())
    left, bottom, right, top = metres.total_bounds
    margin = MARGIN * max(right - left, top - bottom)
    unit = (max(right - left, top - bottom) + 2 * margin) / SIDE
    # To the right and downwards from the top left corner.
    to_units = [1 / unit, 0, 0, -1 / unit, (margin - left) / unit, (margin + top) / unit]

    def in_units(*shapes: shapely.Geometry) -> list[Any]:
        there = gpd.GeoSeries(shapes, crs="OGC:CRS84").to_crs(metres.crs)
        return list(there.affine_transform(to_units))

    size = (round((right - left + 2 * margin) / unit), round((top - bottom + 2 * margin) / unit))
    frame = shapely.box(0, 0, *size)
    hexagons = metres.affine_transform(to_units)
    radius = SMOOTHING * float(np.sqrt(hexagons.area.median()))
    city = shapely.union_all(hexagons.to_numpy())
    city = city.buffer(2 * radius).buffer(-3 * radius).buffer(radius).simplify(1)
    sea, land, waters = "", frame, WATERS[:0]
    if shapely.Polygon(NEIGHBOURS).intersects(shapely.box(*table.total_bounds)):
        land = shapely.union(*in_units(shapely.Polygon(NEIGHBOURS)), city).intersection(frame)
        sea, waters = f'<rect class="sea" width="{size[0]}" height="{size[1]}"/>', WATERS
    below = f'{sea}<path class="land" d="{_path(land)}"/><path class="city" d="{_path(city)}"/>'
    centres = shapely.get_coordinates(hexagons.centroid.to_numpy())
    middles = in_units(*(shapely.Point(at) for _, *at in waters))
    labels = [
        Label("water", name, at.x, at.y, LARGE)
        for (name, *_), at in zip(waters, middles, strict=True)
        if not land.contains(at)
    ]
    if {MOST_COMMON, "requests"} <= {*table.columns}:
        labels += _places(table, centres)
    scale, scale_room = _scale(size, unit)
    shown = _fitting(labels, frame.difference(scale_room))
    above = "".join(
        svg_text(label.words, label.x, label.y, label.size, f'class="{label.css}"')
        for label in shown
    )
    rooms = [_room(label, label.size) for label in shown]
    covered = shapely.union_all([*hexagons, *rooms, scale_room])
    return Ground(
        size, below, [_path(shape) for shape in hexagons], above + scale, centres, covered
    )


def svg_text(words: str, x: float, y: float, size: int, attributes: str) -> str:
    """A text element; `attributes` is SVG."""
    text = escape(printable(words))
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" {attributes}>{text}</text>'


def _places(table: gpd.GeoDataFrame, centres: NDArray[np.float64]) -> list[Label]:
    """Names of the suburbs in the middle of their requests, the one with most requests first."""
    # pandas has NaN where a name is missing.
    names = [name if isinstance(name, str) else None for name in table[MOST_COMMON]]
    columns = {"suburb": names, "requests": table["requests"].tolist()}
    schema = {"suburb": pl.String, "requests": pl.Int64}
    rows = pl.DataFrame(columns, schema=schema, strict=False).with_columns(
        x=pl.Series(centres[:, 0]), y=pl.Series(centres[:, 1])
    )
    middle = [(pl.col(axis) * pl.col("requests")).sum() / pl.col("requests").sum() for axis in "xy"]
    ranked = (
        rows.filter(pl.col("suburb").is_not_null() & (pl.col("requests") > 0))
        .group_by("suburb")
        .agg(*middle, pl.col("requests").sum())
        .sort("requests", "suburb", descending=[True, False])
    )
    return [Label("place", as_name(name), x, y, SMALL) for name, x, y, _ in ranked.iter_rows()]


def _fitting(labels: Sequence[Label], frame: shapely.Geometry) -> list[Label]:
    """The labels that fit in a frame without overlap, best ones first; phones hide `minor` ones."""
    found: list[Label] = []
    for size, most, minor in ((ON_PHONE, MAJOR, ""), (SMALL, ALL, " minor")):
        for label in labels:
            room = _room(label, size)
            is_free = not any(room.intersects(_room(other, size)) for other in found)
            if is_free and len(found) < most and frame.contains(room):
                found.append(label._replace(css=label.css + minor))
    return found


def _room(label: Label, size: int) -> shapely.Polygon:
    """The area that a label takes in a font size."""
    half = len(label.words) * size * LETTER_WIDTH / 2 + GAP
    return shapely.box(
        label.x - half, label.y - size - GAP, label.x + half, label.y + 0.3 * size + GAP
    )


def _scale(size: tuple[int, int], unit: float) -> tuple[str, shapely.Polygon]:
    """A bar of a round number of kilometres, at most a fifth of the map, at the bottom right.

    Returns:
        SVG, and the area that it takes.
    """
    most = size[0] * unit / 1000 / 5
    steps = [step * 10**power for power in range(-2, 4) for step in (1, 2, 5)]
    kilometres = max((step for step in steps if step <= most), default=most)
    length = kilometres * 1000 / unit
    right, y = size[0] - 200, size[1] - 200
    label = Label("", f"{kilometres:g} km", right - length / 2, y - 90, SMALL)
    words = svg_text(label.words, label.x, label.y, label.size, "")
    bar = f'<path d="M{right - length:.0f},{y - 60}v60h{length:.0f}v-60"/>'
    room = shapely.union(_room(label, SMALL), shapely.box(right - length, y - 60, right, y))
    return f'<g class="scale">{bar}{words}</g>', room.envelope


def _path(shape: shapely.Geometry) -> str:
    """Outer rings, closed, in whole units; steps between corners take fewer digits than corners."""
    found = ""
    for part in shapely.get_parts(shape):
        corners = shapely.get_coordinates(part.exterior).round().astype(int)
        steps = " ".join(f"{x} {y}" for x, y in np.diff(corners[:-1], axis=0))
        found += f"M{corners[0][0]} {corners[0][1]}l{steps}z"
    return found
