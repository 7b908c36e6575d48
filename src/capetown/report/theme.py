"""Colours for light and dark screens, and Vega's settings, for all charts and pages.

Charts name a colour as CSS does, ``var(--good)``. The page defines the names for light and dark
screens and for paper; pictures get the light colours.
"""

import json
import re
from typing import Any

from capetown.legend import EDGE, QUANTITIES

# On light and on dark screens. Classes of a map: q from few to many, d from much less to much more.
COLOURS = {
    "ground": ("#faf8f4", "#10171c"), "card": ("#ffffff", "#182229"),
    "ink": ("#1b2733", "#e6edf0"), "quiet": ("#55646f", "#a3b3bc"),
    "line": ("#dfe3e4", "#2d3b44"), "accent": ("#0b6a7d", "#62c6d8"),
    "good": ("#1f7a6c", "#4fb8a5"), "bad": ("#c2452d", "#f0866a"),
    "sea": ("#dcebf1", "#0c222e"), "land": ("#efece4", "#182127"),
    "city": EDGE,
    "c0": ("#0b6a7d", "#4fb3c8"), "c1": ("#e07b39", "#f0975a"),
    "c2": ("#6a5d9b", "#a99be0"), "c3": ("#5f9e6e", "#84c794"),
    "c4": ("#c65a7c", "#e589a8"), "c5": ("#a9b4ba", "#6d7c85"),
    **{f"q{n}": pair for n, pair in enumerate(QUANTITIES)},
    "d0": ("#1d5c8c", "#7cc0ee"), "d1": ("#5b93bd", "#4b8cb8"),
    "d2": ("#abcbe0", "#2f566f"), "d3": ("#eeebe4", "#39434a"),
    "d4": ("#f3bd92", "#75502f"), "d5": ("#dd7b43", "#bd6f37"),
    "d6": ("#a63c1c", "#f5a05a"),
}  # fmt: skip
CATEGORIES = [f"var(--c{n})" for n in range(6)]
# From a package, so that pictures do not depend on the installed fonts.
PICTURE_FONT = "Roboto"


def css() -> str:
    """The colours as CSS variables, for light and dark screens."""
    light, dark = (
        "".join(f"--{name}:{pair[n]};" for name, pair in COLOURS.items()) for n in range(2)
    )
    return (
        f":root{{{light}}}\n"
        f"@media screen and (prefers-color-scheme: dark){{:root{{color-scheme:dark;{dark}}}}}"
    )


def themed(spec: dict[str, Any], *, is_picture: bool) -> dict[str, Any]:
    """A Vega-Lite chart with the colours and settings of this module."""
    if not is_picture:
        autosize = {"type": "fit-x", "contains": "padding"}
        return {**spec, "config": _config("system-ui, sans-serif"), "autosize": autosize}
    text = json.dumps({**spec, "config": _config(PICTURE_FONT)})
    found: dict[str, Any] = json.loads(in_light_text(text))
    return found


def in_light_text(text: str) -> str:
    """A text with light colours instead of their names."""
    return re.sub(r"var\(--(\w+)\)", lambda name: COLOURS[name[1]][0], text)


def _config(font: str) -> dict[str, Any]:
    words = {
        "labelColor": "var(--quiet)", "titleColor": "var(--quiet)", "labelFontSize": 12,
        "titleFontSize": 12, "titleFontWeight": "normal",
    }  # fmt: skip
    return {
        "font": font,
        "background": "transparent",
        "padding": 2,
        "view": {"stroke": None},
        "range": {"category": CATEGORIES},
        "axis": {
            **words,
            "titlePadding": 8,
            "labelPadding": 6,
            "domain": False,
            "ticks": False,
            "gridColor": "var(--line)",
        },
        "axisX": {"grid": False, "domain": True, "domainColor": "var(--line)"},
        "legend": {
            **words,
            "labelColor": "var(--ink)",
            "orient": "top",
            "symbolStrokeWidth": 3,
        },
        "bar": {"color": "var(--c0)"},
        "line": {"color": "var(--c0)", "strokeWidth": 2.5},
        "point": {"color": "var(--c0)", "filled": True},
        "text": {"color": "var(--ink)", "fontSize": 12},
        "rule": {"color": "var(--ink)"},
    }
