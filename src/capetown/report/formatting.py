"""Numbers and names for people."""

import math
import re
from collections.abc import Sequence
from datetime import date
from typing import Any

import h3
from markupsafe import Markup, escape

from capetown.city import ACRONYMS, RESOLUTION

NONE = "(none)"
# Markup in Markdown; full stops, hyphens and brackets alone are harmless.
SPECIAL = re.compile(r"([\\`*_\[\]|~$#!])")
SMALL_WORDS = {"and", "of", "the", "or", "in", "for", "to"}


def printable(value: Any) -> str:
    """A value as one line. Control characters, which can move a cursor, become question marks."""
    line = " ".join(str(value).split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def backslashed(value: Any) -> str:
    """A value as one line without Markdown's markup. HTML stays."""
    return SPECIAL.sub(r"\\\1", printable(value))


def in_html(value: Any) -> Markup:
    """A value for HTML within Markdown, where a blank line would end the HTML."""
    return escape(printable(value))


def as_name(name: str) -> str:
    """A name in capitals in title case, except for `ACRONYMS`; other names unchanged."""
    if name == NONE:
        return "Not given"
    if name != name.upper() or not any(letter.isalpha() for letter in name):
        return name
    words = [word if word in ACRONYMS else word.lower() for word in name.split(" ")]
    return " ".join(
        word if at and word in SMALL_WORDS else capital(word) for at, word in enumerate(words)
    )


def capital(words: str) -> str:
    """Words with a capital as their first letter."""
    for at, letter in enumerate(words):
        if letter.isalpha():
            return words[:at] + letter.upper() + words[at + 1 :]
    return words


def hexagon_area() -> str:
    """The mean area of the hexagons, rounded."""
    area = h3.average_hexagon_area(RESOLUTION, unit="km^2")
    if area < 0.1:
        return f"{float(f'{1e6 * area:.2g}'):,.0f} m²"
    return f"{float(f'{area:.1g}'):,g} km²"


def days(value: float | None) -> str:
    """A duration in days with few digits, or in hours if it is below one day."""
    if value is None or math.isnan(value):
        return "not yet"
    if value < 1:
        hours = max(1, round(value * 24))
        return f"{hours} hour{'s' if hours > 1 else ''}"
    shown = f"{value:.1f}".removesuffix(".0") if value < 10 else f"{value:,.0f}"
    return f"{shown} day{'s' if shown != '1' else ''}"


def pace(half: float | None, nine_in_ten: float | None) -> str:
    """How fast requests are completed, as part of a sentence."""
    if half is None:
        return "more than half have no completion"
    if nine_in_ten is None:
        return f"half are dealt with within {days(half)}; more than one in ten have no completion"
    return f"half are dealt with within {days(half)}, nine in ten within {days(nine_in_ten)}"


def day(value: date) -> str:
    """A date such as 7 October 2020."""
    return f"{value.day} {value:%B %Y}"


def per_cent(value: float) -> str:
    """A share in per cent: whole from ten on, and never 0 unless it is 0."""
    per = 100 * value
    if 0 < per < 0.1:
        return "under 0.1 %"
    return f"{per:.0f} %" if per >= 9.95 or per == 0 else f"{per:.1f} %"


def listed(words: Sequence[str]) -> str:
    """Words as a list: a, b and c."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def group_names(source: str, *, by_sheet: bool) -> tuple[str, str]:
    """What one group of tiles, and several, are called. `source` is a `params.GroupsSource`."""
    if source == "names" and by_sheet:
        return "map sheet", "map sheets"
    return {
        "table": ("group of tiles", "groups of tiles"),
        "georeference": ("square block", "square blocks"),
        "names": ("block of a map sheet", "blocks of map sheets"),
        "folders": ("folder", "folders"),
        "none": ("tile", "tiles"),
    }[source]
