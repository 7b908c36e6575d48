"""Maps of the City's hexagons, as SVG and as JSON for the page's script.

A `Layer` colours the hexagons by class, and `STYLE` gives the classes their colours. The script
switches layers and shows the details of a hexagon.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise, product
from typing import Any

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

from capetown.legend import STEPS, count_breaks
from capetown.report.ground import LETTER_WIDTH, SMALL, Ground, svg_text
from capetown.report.theme import PICTURE_FONT, in_light_text

# Units between the classes of a legend.
ROW = 190
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


@dataclass(frozen=True)
class Layer:
    """One colouring of the hexagons, with its legend."""

    name: str  # its entry in the menu
    title: str  # heading of the legend
    words: Sequence[str]  # the classes, in words
    classes: Sequence[int]  # the class of each hexagon, -1 without a value
    palette: str = "q"  # `q` for quantities, `d` for changes that diverge from none
    group: str = ""  # the part of the menu that it belongs to
    detail: str = ""  # the hexagon detail that is shown only with this layer


@dataclass(frozen=True)
class HexagonMap:
    """A map with one or more layers."""

    ground: Ground
    index: Sequence[str]  # H3 cells
    names: Sequence[str]  # of the hexagons; empty if one has none
    weights: NDArray[np.float64]  # counts, for the close view and the keyboard's first hexagon
    counted: str  # their name, such as `requests`
    layers: Sequence[Layer]  # the one shown first at the front
    details: Mapping[str, Mapping[int, str]]  # texts by label and then by the hexagon's number

    @property
    def svg(self) -> str:
        """The content of an ``svg`` element that shows the first layer."""
        return _coloured(self.ground, self.layers[0])

    @property
    def menu(self) -> list[tuple[str, list[tuple[int, Layer]]]]:
        """The layers with their numbers, by group."""
        groups = groupby(enumerate(self.layers), key=lambda numbered: numbered[1].group)
        return [(group, list(layers)) for group, layers in groups]

    @property
    def json(self) -> str:
        """What the page's script needs."""
        layers = [
            asdict(layer) | {"classes": "".join("-" if c < 0 else str(c) for c in layer.classes)}
            for layer in self.layers
        ]
        data: dict[str, Any] = {
            "index": list(self.index), "names": list(self.names), "counted": self.counted,
            "start": int(self.weights.argmax()), "close": self._close_view(), "layers": layers,
            "details": self.details,
        }  # fmt: skip
        return json.dumps(data, separators=(",", ":"), allow_nan=False)

    def _close_view(self) -> str:
        """The viewBox of the middle 96 % of the counts in both directions, with a margin."""
        bounds = [
            np.quantile(axis, [0.02, 0.98], weights=self.weights, method="inverted_cdf")
            for axis in self.ground.centres.T
        ]
        return " ".join(
            f"{value:.0f}"
            for value in (*(low - 300 for low, _ in bounds), *(b - a + 600 for a, b in bounds))
        )


def layer(
    name: str, title: str, values: ArrayLike, breaks: Sequence[float], words: Sequence[str],
    **options: str,
) -> Layer:  # fmt: skip
    """A layer of values by the lower bounds of their classes; NaN and lower values have none."""
    numbers = np.asarray(values, float)
    classes = np.where(np.isnan(numbers), -1, np.searchsorted(breaks, numbers, side="right") - 1)
    return Layer(name, title, words, classes.tolist(), **options)


def count_layer(name: str, title: str, counts: ArrayLike, most: int, **options: str) -> Layer:
    """A layer of counts from 1 to `most`, in classes such as 1, 2 to 4, 5 to 9, 10 or more."""
    breaks = count_breaks(most)
    words = [
        f"{low:,}" if high - low == 1 else f"{low:,} to {high - 1:,}"
        for low, high in pairwise(breaks)
    ]
    return layer(name, title, counts, breaks, [*words, f"{breaks[-1]:,} or more"], **options)


def as_svg(ground: Ground, shown: Layer, width: int) -> str:
    """A map with its legend as an SVG of its own, in the light colours and `width` pixels wide."""
    legend, (wide, high) = _legend(shown, ground)
    return in_light_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{width}" '
        f'height="{width * high / wide:.0f}" font-family="{PICTURE_FONT}, sans-serif">'
        f'<style>{STYLE}</style><rect width="{wide}" height="{high}" fill="var(--ground)"/>'
        f"{_coloured(ground, shown)}{legend}</svg>"
    )


def ratio(ground: Ground, shown: Layer) -> float:
    """Width of `as_svg` as a share of its height."""
    _, (wide, high) = _legend(shown, ground)
    return wide / high


def _coloured(ground: Ground, shown: Layer) -> str:
    hexagons = "".join(
        f'<path class="hex {"none" if n < 0 else f"{shown.palette}{n}"}" d="{path}"/>'
        for n, path in zip(shown.classes, ground.outlines, strict=True)
    )
    return f'{ground.below}<g class="hexes">{hexagons}</g>{ground.above}'


def _legend(shown: Layer, ground: Ground) -> tuple[str, tuple[int, int]]:
    """The classes with their colours, and the size of the map with them.

    They lie where nothing else is drawn, best at the bottom, or below a map without room.
    """
    wide, high = ground.size
    letters = max(len(shown.title), *(len(words) + 4 for words in shown.words))
    across, rows = letters * (SMALL + 15) * LETTER_WIDTH, len(shown.words)
    lefts, tops = (wide * 0.43, 200, wide - across - 200), (high - 180 - ROW * rows, 420)
    room = shapely.box(0, 0, wide, high).difference(ground.covered)
    for top, left in product(tops, lefts):
        if room.contains(shapely.box(left, top - 250, left + across, top + ROW * rows)):
            break
    else:
        left, top = 200, high + 320
        rows = -(-rows // max(1, int((wide - left) // across)))
        high = top + ROW * rows + 100
    ink = 'fill="var(--ink)"'
    found = svg_text(shown.title, left, top - 90, SMALL + 15, f'{ink} font-weight="500"')
    for n, words in enumerate(shown.words):
        x, y = left + n // rows * across, top + n % rows * ROW
        found += (
            f'<rect class="{shown.palette}{n}" x="{x:.0f}" y="{y:.0f}" width="210" height="130" '
            f'rx="20"/>{svg_text(words, x + 290, y + 112, SMALL + 10, ink)}'
        )
    return found, (wide, high)
