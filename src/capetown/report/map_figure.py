"""The map of requests: for the page, and as a picture beside the key numbers."""

import json
from dataclasses import dataclass
from html import escape
from typing import Any

import geopandas as gpd
import polars as pl

from capetown.city import INDEX, REQUEST_TYPE
from capetown.report.facts import DIRECTORATE, Facts
from capetown.report.formatting import as_name, day, days, per_cent
from capetown.report.hexagon_map import SMALL, STYLE, Map, classes, count_breaks, draw_map, spans
from capetown.report.theme import PICTURE_FONT, in_light_text

# Requests of a hexagon below which a share, a median or a change says nothing.
FEWEST = 5
SHARES = [0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75]
SHARE_WORDS = ["under 5 %", "5 to 10 %", "10 to 20 %", "20 to 30 %", "30 to 50 %", "50 to 75 %",
               "75 % or more"]  # fmt: skip
DAYS = [0, 1, 2, 5, 10, 20, 50]
DAY_WORDS = ["under 1 day", "1 to 2", "2 to 5", "5 to 10", "10 to 20", "20 to 50", "50 or more"]
# Ratios to the twelve months before.
CHANGES = [0, 0.5, 0.75, 0.9, 1.1, 1.33, 2]
CHANGE_WORDS = ["less than half", "down 25 to 50 %", "down 10 to 25 %", "within 10 %",
                "up 10 to 33 %", "up 33 to 100 %", "double or more"]  # fmt: skip
PICTURE = (1400, 1000)


@dataclass(frozen=True)
class RequestMap:
    """The map with the numbers of its hexagons.

    Attributes:
        map: as drawn.
        data: what the page asks it, ready for JSON.
    """

    map: Map
    data: dict[str, Any]

    @property
    def svg(self) -> str:
        """All requests by hexagon."""
        return self.map.svg(classes(self.data["all"], self.data["measures"]["count"]["breaks"]))


def request_map(facts: Facts) -> RequestMap:
    """The map of the City's hexagons with their requests."""
    table = facts.hexagons
    assert table is not None
    drawn = draw_map(table)
    columns = [name for name in table.columns if name.startswith(DIRECTORATE)]
    used = [name for name in columns if table[name].sum() > 0]
    used.sort(key=lambda name: -int(table[name].sum()))
    counts = {name: [int(n) for n in table[name]] for name in used}
    suburbs = sorted({name for name in table["suburb"] if isinstance(name, str)})
    at = {name: number for number, name in enumerate(suburbs)}
    every = [int(n) for n in table["requests"]]
    breaks = count_breaks(max(every, default=1))
    measures: dict[str, Any] = {
        "count": {"title": "Requests in a hexagon", "breaks": breaks, "words": spans(breaks)},
        "share": {"title": "Share of a hexagon's requests", "breaks": SHARES,
                  "words": SHARE_WORDS},
        "days": {"title": "Days until half are completed", "breaks": DAYS, "words": DAY_WORDS},
    }  # fmt: skip
    before = _before(facts, table)
    if before:
        measures["change"] = {"title": "Against the twelve months before", "breaks": CHANGES,
                              "words": CHANGE_WORDS}  # fmt: skip
    return RequestMap(
        drawn,
        {
            "index": table["index"].tolist(),
            "suburbs": [as_name(name) for name in suburbs],
            "suburb": [at.get(name, -1) for name in table["suburb"]],
            "x": [round(x) for x in drawn.centres[:, 0]],
            "y": [round(y) for y in drawn.centres[:, 1]],
            "near": drawn.near,
            "all": every,
            "days": [None if n != n else round(n, 1) for n in table["median_days_to_completion"]],
            "directorates": [_directorate(name) for name in used],
            # Most hexagons have none of most directorates: pairs of hexagon and number.
            "by": [
                [value for pair in enumerate(counts[name]) if pair[1] for value in pair]
                for name in used
            ],
            "change": before,
            "fewest": FEWEST,
            "measures": measures,
        },
    )


def picture(facts: Facts, drawn: RequestMap) -> str:
    """The map beside the key numbers, as SVG of its own in the light colours."""
    width, height = PICTURE
    view = drawn.map.view
    wide = height * view[2] / view[3]
    measure = drawn.data["measures"]["count"]
    panel = _panel(facts, wide + 56, width - wide - 110)
    legend = _legend(measure["words"], measure["title"], view)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="{PICTURE_FONT}"><style>{STYLE}</style>'
        f'<rect width="{width}" height="{height}" fill="var(--ground)"/>'
        f'<svg width="{wide:.0f}" height="{height}" viewBox="0 0 {view[2]} {view[3]}">'
        f"{drawn.svg}{legend}</svg>{panel}</svg>"
    )
    return in_light_text(svg)


def for_script(drawn: RequestMap) -> str:
    """What the page's script asks the map, as JSON."""
    return json.dumps(drawn.data, separators=(",", ":"), allow_nan=False)


def _directorate(column: str) -> str:
    name = column.removeprefix(DIRECTORATE)
    return "All others" if name == "(other)" else as_name(name)


def _before(facts: Facts, table: gpd.GeoDataFrame) -> list[float | None] | None:
    """Requests of the last twelve months to those of the twelve before; None with one year."""
    if facts.requests is None or not facts.requests.has_two_years:
        return None
    years = facts.requests.tables["hexagons"].with_columns(
        ratio=pl.when(pl.col("requests_before") >= FEWEST).then(
            (pl.col("requests") / pl.col("requests_before")).round(3)
        )
    )
    found = dict(years.select(INDEX, "ratio").iter_rows())
    return [found.get(index) for index in table["index"]]


def _legend(words: list[str], title: str, view: tuple[int, int, int, int]) -> str:
    """The classes with their colours, at the bottom in the middle, where the bay is."""
    left, top = view[2] * 0.43, view[3] - 180 - 190 * len(words)
    rows = "".join(
        f'<rect class="q{n}" x="{left:.0f}" y="{top + 190 * n:.0f}" width="210" height="130" '
        f'rx="20"/><text x="{left + 290:.0f}" y="{top + 190 * n + 112:.0f}" '
        f'font-size="{SMALL + 10}" fill="var(--ink)">{escape(said)}</text>'
        for n, said in enumerate(words)
    )
    return (
        f'<text x="{left:.0f}" y="{top - 90:.0f}" font-size="{SMALL + 15}" font-weight="500" '
        f'fill="var(--ink)">{escape(title)}</text>{rows}'
    )


def _panel(facts: Facts, left: float, width: float) -> str:
    """The key numbers below each other."""
    found = facts.requests
    assert found is not None
    lines = [
        _line(left, 96, 40, "Cape Town’s service requests", weight=700),
    ]
    if found.first and found.last:
        lines.append(_line(left, 138, 23, f"{day(found.first)} to {day(found.last)}", quiet=True))
    numbers = found.numbers
    half, most = numbers["median_days_to_completion"], numbers["p90_days_to_completion"]
    entries = [
        (f"{found.count:,}", f"requests, {numbers['requests_a_day'] or 0:,.0f} a day"),
        (
            days(half),
            f"until half are dealt with; {days(most)} for nine in ten"
            if most
            else "until half are dealt with; more than one in ten are not",
        ),
        (f"{numbers['open_at_the_end']:,}", "open at the end of the period"),
        (per_cent(facts.transform["missing_rate"]), "without coordinates: not on the map"),
    ]
    y = 232.0
    if facts.is_sample:
        lines.append(_line(left, 174, 20, "Made-up requests: the miniature in the repository",
                           quiet=True))  # fmt: skip
        y = 262.0
    for value, words in entries:
        lines += [_line(left, y, 46, value, weight=700, accent=True),
                  _line(left, y + 33, 21, words, quiet=True)]  # fmt: skip
        y += 104
    lines.append(_line(left, y + 10, 25, "What residents ask for most", weight=700))
    y += 62
    tops = found.tables["kinds"].head(5).to_dicts()
    for row in tops:
        share = row["requests"] / found.count
        long = width * row["requests"] / tops[0]["requests"]
        lines += [
            _line(left, y, 20, as_name(row[REQUEST_TYPE])),
            _line(left + width, y, 20, per_cent(share), quiet=True, end=True),
            f'<rect x="{left:.0f}" y="{y + 9:.0f}" width="{long:.0f}" height="9" rx="2" '
            'fill="var(--c0)"/>',
        ]
        y += 48
    return "".join(lines)


def _line(
    x: float, y: float, size: int, words: str, *, weight: int = 400, quiet: bool = False,
    accent: bool = False, end: bool = False,
) -> str:  # fmt: skip
    colour = "quiet" if quiet else "accent" if accent else "ink"
    anchor = ' text-anchor="end"' if end else ""
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" font-weight="{weight}" '
        f'fill="var(--{colour})"{anchor}>{escape(words)}</text>'
    )
