"""The map of the City's hexagons, as SVG: sea, land, hexagons, names of places and a scale.

Drawn in UTM, so that a length on it is one on the ground; the longer side has `SIDE`
units. The coast is where the City's hexagons end and no neighbour's land begins; names are those of
the suburbs that most requests name, each in the middle of its hexagons. Colours are classes, which
`STYLE` fills in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import geopandas as gpd
import numpy as np
import polars as pl
import shapely
from numpy.typing import NDArray

from capetown.city import NEIGHBOURS, WATERS
from capetown.report.formatting import as_name
from capetown.report.theme import PICTURE_FONT, STEPS, in_light_text

SIDE = 11_000
# Sizes in units: of letters, of what is kept free around the City, and between two names.
LETTERS, SMALL, MARGIN, APART = 165, 130, 0.05, 650
# Names on a map, and those of them that a phone has room for.
PLACES, MAJOR = 18, 9
# An average letter is about so wide, as a share of its height.
WIDE = 0.56
# How far the outline of the hexagons is smoothed, in their widths.
SMOOTH = 0.45
STYLE = """
.sea { fill: var(--sea); } .land { fill: var(--land); }
.city { fill: var(--city); stroke: var(--quiet); stroke-width: 9; stroke-opacity: .55; }
.hex { stroke: var(--city); stroke-width: 7; } .none { fill: none; stroke: none; }
.place, .scale text { fill: var(--ink); stroke: var(--city); stroke-width: 42; paint-order: stroke;
  stroke-linejoin: round; text-anchor: middle; font-weight: 500; }
.water { fill: var(--c0); font-style: italic; text-anchor: middle; opacity: .8; }
.scale path { fill: none; stroke: var(--ink); stroke-width: 18; }
""" + "".join(
    f".q{n} {{ fill: var(--q{n}); }} .d{n} {{ fill: var(--d{n}); }}\n" for n in range(STEPS)
)

Box = tuple[float, float, float, float]
View = tuple[int, int, int, int]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Map:
    """A map without the colours of its hexagons.

    Attributes:
        view: left, top, width and height, in units.
        ground: SVG of what lies under the hexagons.
        paths: outlines of the hexagons, in the order of their table.
        centres: their middles in units, shape (hexagons, 2).
        near: units from a middle within which a point belongs to the hexagon.
        names: SVG of what lies over them.
    """

    view: View
    ground: str
    paths: list[str]
    centres: Floats
    near: int
    names: str

    def svg(self, classes: Sequence[str | None]) -> str:
        """The inside of an ``svg`` element.

        Args:
            classes: of the hexagons; None for one without a value.
        """
        hexagons = "".join(
            f'<path class="hex {name or "none"}" d="{path}"/>'
            for name, path in zip(classes, self.paths, strict=True)
        )
        return f'{self.ground}<g class="hexes">{hexagons}</g>{self.names}'


@dataclass(frozen=True)
class _Frame:
    """What is drawn: bounds in metres, and how many metres a unit has."""

    left: float
    top: float
    right: float
    bottom: float
    unit: float

    def units(self, metres: Floats) -> NDArray[np.int64]:
        """Points, shape (n, 2), in units to the right and downwards."""
        moved = (metres - [self.left, self.top]) / self.unit * [1, -1]
        return np.asarray(moved.round(), np.int64)


def _frame(city: shapely.Geometry) -> _Frame:
    left, bottom, right, top = city.bounds
    margin = MARGIN * max(right - left, top - bottom)
    longer = max(right - left, top - bottom) + 2 * margin
    return _Frame(left - margin, top + margin, right + margin, bottom - margin, longer / SIDE)


def draw_map(table: gpd.GeoDataFrame) -> Map:
    """The map of a table of hexagons: `geometry`, `suburb` and `requests`."""
    metres = table.geometry.to_crs(table.estimate_utm_crs())
    city = shapely.union_all(metres.to_numpy())
    frame = _frame(city)
    view = (0, 0, *frame.units(np.array([[frame.right, frame.bottom]]))[0].tolist())
    width = float(np.sqrt(metres.area.median()))
    smooth = SMOOTH * width
    outline = city.buffer(2 * smooth).buffer(-3 * smooth).buffer(smooth).simplify(frame.unit)
    centres = frame.units(shapely.get_coordinates(metres.centroid.to_numpy())).astype(float)
    land = shapely.box(frame.left, frame.bottom, frame.right, frame.top)
    if NEIGHBOURS:
        [around] = gpd.GeoSeries([shapely.Polygon(NEIGHBOURS)], crs="OGC:CRS84").to_crs(metres.crs)
        land = shapely.intersection(shapely.union(around, outline), land)
    ground = [
        f'<rect class="sea" width="{view[2]}" height="{view[3]}"/>',
        f'<path class="land" d="{_outline(land, frame)}"/>',
        f'<path class="city" d="{_outline(outline, frame)}"/>',
    ]
    taken: list[Box] = []
    names = [
        *_waters(land, metres.crs, frame, view, taken),
        *_places(table, centres, view, taken),
        _scale(view, frame.unit),
    ]
    paths = [_ring(frame.units(shapely.get_coordinates(shape.exterior))) for shape in metres]
    near = round(0.67 * width / frame.unit)
    return Map(view, "".join(ground), paths, centres, near, "".join(names))


def as_svg(drawn: Map, hexagons: Sequence[str | None], width: int) -> str:
    """A map as SVG of its own in the light colours.

    Args:
        drawn: the map.
        hexagons: classes of its hexagons.
        width: in pixels.
    """
    _, _, wide, high = drawn.view
    return in_light_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{width}" '
        f'height="{width * high / wide:.0f}" font-family="{PICTURE_FONT}, sans-serif">'
        f"<style>{STYLE}</style>{drawn.svg(hexagons)}</svg>"
    )


def classes(
    values: Sequence[float | None], breaks: Sequence[float], prefix: str = "q"
) -> list[str | None]:
    """The class of each value: that of the last break that it reaches, None where there is none."""
    numbers = np.searchsorted(breaks, [np.nan if v is None else v for v in values], side="right")
    return [
        None if value is None or np.isnan(value) or number == 0 else f"{prefix}{number - 1}"
        for value, number in zip(values, numbers, strict=True)
    ]


def count_breaks(most: int) -> list[int]:
    """Lower bounds of up to `STEPS` classes of counts from 1 to the largest, as 1, 2, 5, 10."""
    steps = [step * 10**power for power in range(12) for step in (1, 2, 5)]
    reached = [step for step in steps if step <= max(1, most)]
    chosen = np.linspace(0, len(reached) - 1, min(STEPS, len(reached))).round()
    return [reached[int(at)] for at in chosen]


def spans(breaks: Sequence[float]) -> list[str]:
    """Whole numbers between lower bounds, as words: 1, 2 to 4, 5 to 9, 10 and more."""
    said = [
        f"{low:,}" if high - low == 1 else f"{low:,} to {high - 1:,}"
        for low, high in pairwise(int(b) for b in breaks)
    ]
    return [*said, f"{int(breaks[-1]):,} or more"]


def _waters(
    land: shapely.Geometry, crs: object, frame: _Frame, view: View, taken: list[Box]
) -> list[str]:
    """Names on the water, where it is in view."""
    points = gpd.GeoSeries([shapely.Point(*place) for _, *place in WATERS], crs="OGC:CRS84")
    middles = shapely.get_coordinates(points.to_crs(crs).to_numpy())
    found = []
    for (name, *_), metres, (x, y) in zip(WATERS, middles, frame.units(middles), strict=True):
        box = _box(name, x, y)
        if _inside(box, view) and not shapely.contains_xy(land, *metres):
            taken.append(box)
            found.append(_text("water", name, x, y, LETTERS))
    return found


def _places(table: gpd.GeoDataFrame, centres: Floats, view: View, taken: list[Box]) -> list[str]:
    """Names of the suburbs with most requests, as far as they find room; the largest first."""
    rows = pl.DataFrame(
        {
            "suburb": table["suburb"].tolist(), "requests": table["requests"].tolist(),
            "x": centres[:, 0], "y": centres[:, 1],
        },
        schema={"suburb": pl.String, "requests": pl.Int64, "x": pl.Float64, "y": pl.Float64},
        strict=False,
    )  # fmt: skip
    middle = [(pl.col(axis) * pl.col("requests")).sum() / pl.col("requests").sum() for axis in "xy"]
    ranked = (
        rows.filter(pl.col("suburb").is_not_null() & (pl.col("requests") > 0))
        .group_by("suburb")
        .agg(*middle, pl.col("requests").sum())
        .sort("requests", "suburb", descending=[True, False])
    )
    placed: list[tuple[float, float]] = []
    found: list[str] = []
    for suburb, x, y, _ in ranked.iter_rows():
        name = as_name(suburb)
        box = _box(name, x, y, SMALL)
        near = any(abs(x - a) < APART and abs(y - b) < APART for a, b in placed)
        if near or not _inside(box, view) or any(_overlap(box, other) for other in taken):
            continue
        taken.append(box)
        placed.append((x, y))
        found.append(_text("place" if len(found) < MAJOR else "place minor", name, x, y, SMALL))
        if len(found) == PLACES:
            break
    return found


def _scale(view: View, unit: float) -> str:
    """A bar of a round number of kilometres, at most a fifth of the map, at the bottom right."""
    most = view[2] * unit / 1000 / 5
    kilometres = max((s * 10**p for p in range(-2, 4) for s in (1, 2, 5) if s * 10**p <= most),
                     default=most)  # fmt: skip
    length = kilometres * 1000 / unit
    right, y = view[2] - 200, view[3] - 200
    left = right - length
    return (
        f'<g class="scale"><path d="M{left:.0f},{y - 60}v60h{length:.0f}v-60"/>'
        f"{_text('', f'{kilometres:g} km', (left + right) / 2, y - 90, SMALL)}</g>"
    )


def _outline(shape: shapely.Geometry, frame: _Frame) -> str:
    rings = (part.exterior for part in shapely.get_parts(shape))
    return "".join(_ring(frame.units(shapely.get_coordinates(ring))) for ring in rings)


def _ring(points: NDArray[np.int64]) -> str:
    """A closed ring; steps from corner to corner take fewer digits than corners."""
    steps = "".join(f"{x} {y} " for x, y in np.diff(points[:-1], axis=0))
    return f"M{points[0][0]} {points[0][1]}l{steps.strip()}z"


def _text(name: str, words: str, x: float, y: float, size: int) -> str:
    kind = f' class="{name}"' if name else ""
    return f'<text{kind} x="{x:.0f}" y="{y:.0f}" font-size="{size}">{escape(words)}</text>'


def _box(words: str, x: float, y: float, size: int = LETTERS) -> Box:
    half = len(words) * size * WIDE / 2
    return (x - half, y - size, x + half, y + size * 0.3)


def _inside(box: Box, view: View) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= view[2] and box[3] <= view[3]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
