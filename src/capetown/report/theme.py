"""Colours for light and dark screens, and Vega's settings, for all charts and pages.

Charts name a colour as CSS does, ``var(--good)``. The page defines the names for light and dark
screens and for paper; pictures get the light colours.
"""

import json
import re
from typing import Any

LIGHT = {
    "ground": "#faf8f4",
    "card": "#ffffff",
    "ink": "#1b2733",
    "quiet": "#55646f",
    "line": "#dfe3e4",
    "accent": "#0b6a7d",
    "good": "#1f7a6c",
    "bad": "#c2452d",
    "sea": "#dcebf1",
    "land": "#efece4",
    "city": "#fbfaf7",
    "c0": "#0b6a7d", "c1": "#e07b39", "c2": "#6a5d9b", "c3": "#5f9e6e", "c4": "#c65a7c",
    "c5": "#a9b4ba",
    "q0": "#fdeccb", "q1": "#fbd391", "q2": "#f7b05b", "q3": "#ee8433", "q4": "#d95b2b",
    "q5": "#b0372a", "q6": "#7a1c2b",
    "d0": "#1d5c8c", "d1": "#5b93bd", "d2": "#abcbe0", "d3": "#eeebe4", "d4": "#f3bd92",
    "d5": "#dd7b43", "d6": "#a63c1c",
}  # fmt: skip
DARK = {
    "ground": "#10171c",
    "card": "#182229",
    "ink": "#e6edf0",
    "quiet": "#a3b3bc",
    "line": "#2d3b44",
    "accent": "#62c6d8",
    "good": "#4fb8a5",
    "bad": "#f0866a",
    "sea": "#0c222e",
    "land": "#182127",
    "city": "#1f2a31",
    "c0": "#4fb3c8", "c1": "#f0975a", "c2": "#a99be0", "c3": "#84c794", "c4": "#e589a8",
    "c5": "#6d7c85",
    "q0": "#4b2a2e", "q1": "#6f3030", "q2": "#983c30", "q3": "#c25532", "q4": "#e37d3c",
    "q5": "#f6ad5c", "q6": "#fde3a4",
    "d0": "#7cc0ee", "d1": "#4b8cb8", "d2": "#2f566f", "d3": "#39434a", "d4": "#75502f",
    "d5": "#bd6f37", "d6": "#f5a05a",
}  # fmt: skip
CATEGORIES = [f"var(--c{n})" for n in range(6)]
# Classes of a map: q from few to many, d from much less to much more.
STEPS = 7
# From a package, so that pictures do not depend on the installed fonts.
PICTURE_FONT = "Roboto"


def css() -> str:
    """The colours as CSS variables, for light and dark screens."""
    light, dark = (
        "".join(f"--{name}:{value};" for name, value in colours.items())
        for colours in (LIGHT, DARK)
    )
    return (
        f":root{{{light}}}\n"
        f"@media screen and (prefers-color-scheme: dark){{:root{{color-scheme:dark;{dark}}}}}"
    )


def themed(spec: dict[str, Any], *, is_picture: bool) -> dict[str, Any]:
    """A Vega-Lite chart with the colours and settings of this module."""
    font = PICTURE_FONT if is_picture else "system-ui, sans-serif"
    whole = {**spec, "config": _config(font)}
    if not is_picture:
        whole["autosize"] = {"type": "fit-x", "contains": "padding"}
    return in_light(whole) if is_picture else whole


def in_light(spec: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with light colours instead of their names."""
    found: dict[str, Any] = json.loads(in_light_text(json.dumps(spec)))
    return found


def in_light_text(text: str) -> str:
    """A text with light colours instead of their names."""
    return re.sub(r"var\(--(\w+)\)", lambda name: LIGHT[name[1]], text)


def _config(font: str) -> dict[str, Any]:
    words = {"labelColor": "var(--quiet)", "titleColor": "var(--quiet)"}
    return {
        "font": font,
        "background": "transparent",
        "padding": 2,
        "view": {"stroke": None},
        "range": {"category": CATEGORIES},
        "axis": {
            **words,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
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
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "orient": "top",
            "symbolStrokeWidth": 3,
        },
        "bar": {"color": "var(--c0)"},
        "line": {"color": "var(--c0)", "strokeWidth": 2.5},
        "point": {"color": "var(--c0)", "filled": True},
        "text": {"color": "var(--ink)", "fontSize": 12},
        "rule": {"color": "var(--ink)"},
    }
