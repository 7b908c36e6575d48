"""Numbers and names for people."""

import math
import re
from collections.abc import Sequence
from datetime import date
from typing import Any

from markupsafe import Markup, escape

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
    """A name in capitals in title case; other names unchanged."""
    if name == NONE:
        return "Not given"
    if name != name.upper() or not any(letter.isalpha() for letter in name):
        return name
    words = name.lower().split(" ")
    return " ".join(
        word if at and word in SMALL_WORDS else _capital(word) for at, word in enumerate(words)
    )


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


def _capital(word: str) -> str:
    for at, letter in enumerate(word):
        if letter.isalpha():
            return word[:at] + letter.upper() + word[at + 1 :]
    return word


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
