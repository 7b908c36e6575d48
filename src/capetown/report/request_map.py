"""The map of requests: its layers for the page, and a picture beside the key numbers."""

from typing import Any

import numpy as np
import polars as pl
from font_roboto import Roboto, RobotoBold
from numpy.typing import NDArray
from PIL import ImageFont

from capetown import city
from capetown.city import INDEX, REQUEST_TYPE
from capetown.legend import ranges
from capetown.report.facts import Facts
from capetown.report.formatting import as_name, day, days, per_cent, printable
from capetown.report.ground import draw_ground, svg_text
from capetown.report.hexagon_map import HexagonMap, Layer, as_svg, count_layer, layer, ratio
from capetown.report.request_summary import has_two_years, request_count, request_summary
from capetown.report.theme import PICTURE_FONT, in_light_text
from capetown.requests.counts import COUNT_PREFIX, MOST_COMMON

# Fewer requests of a hexagon say nothing about a share, a median or a change.
MIN_REQUESTS_FOR_RATE = 5
ENOUGH = f" (hexagons of {MIN_REQUESTS_FOR_RATE} requests or more)"
SHARES = [0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75]
DAYS = [0, 1, 2, 5, 10, 20, 50]
# Ratios to the twelve months before.
CHANGES = [0, 0.5, 0.75, 0.9, 1.1, 1.33, 2]
CHANGE_WORDS = ["less than half", "down 25 to 50 %", "down 10 to 25 %", "within 10 %",
                "up 10 to 33 %", "up 33 to 100 %", "double or more"]  # fmt: skip
# Pixels of the picture, of the panel beside a map, of its margins, and of a share in it.
PICTURE, PANEL, MARGINS, SHARE = (1400, 1000), 580, 110, 80
# Width of a map, as a share of its height, up to which the panel is beside it.
WIDEST_BESIDE = 1.25


def request_map(facts: Facts) -> HexagonMap:
    """The map of the City's hexagons with their requests."""
    table = facts.hexagons
    assert table is not None
    counts = table["requests"].to_numpy(float)
    most = int(counts.max(initial=1))
    half = table["median_days_to_completion"].to_numpy(float)

    def rates(name: str, title: str, values: Any, breaks: Any, words: Any, **more: str) -> Layer:
        shown = np.where(counts >= MIN_REQUESTS_FOR_RATE, values, np.nan)
        return layer(name, title + ENOUGH, shown, breaks, words, **more)

    layers = [
        count_layer("number of requests", "Requests in a hexagon", counts, most),
        rates("days until half are completed", "Days until half are completed",
              half, DAYS, ranges(DAYS[1:])),
    ]  # fmt: skip
    details = {
        "Requests": {n: f"{count:,.0f}" for n, count in enumerate(counts) if count},
        "Half completed in": {n: f"{value:.1f} days" for n, value in enumerate(half) if value >= 0},
    }
    change = _change(facts, table["index"])
    if change is not None:
        title = "Against the twelve months before"
        layers.append(
            rates("change from the year before", title, change, CHANGES, CHANGE_WORDS, palette="d")
        )
        details["Year before"] = {
            n: "too few" if np.isnan(ratio) else f"{100 * (ratio - 1):+.0f} %".replace("-", "−")
            for n, ratio in enumerate(change)
            if counts[n]
        }
    used = [name for name in table.columns if name.startswith(COUNT_PREFIX) and table[name].any()]
    shares = []
    for column in sorted(used, key=lambda name: -int(table[name].sum())):
        name = column.removeprefix(COUNT_PREFIX)
        name = "All others" if name == "(other)" else as_name(name)
        part = table[column].to_numpy(float)
        share = np.divide(part, counts, where=part > 0, out=np.full(len(part), np.nan))
        details[name] = {
            n: f"{part[n]:,.0f} ({100 * share[n]:.0f} %)" for n in np.flatnonzero(part).tolist()
        }
        title, group = f"Requests in a hexagon, {name}", "Number of requests"
        layers.append(count_layer(name, title, part, most, group=group, detail=name))
        title, group = f"Share of a hexagon's requests, {name}", "Share of the hexagon’s requests"
        words = ranges([100 * bound for bound in SHARES[1:]], " %")
        shares.append(rates(name, title, share, SHARES, words, group=group, detail=name))
    return HexagonMap(
        ground=draw_ground(table), index=table["index"].tolist(),
        names=[as_name(name) if isinstance(name, str) else "" for name in table[MOST_COMMON]],
        weights=counts, counted="requests", layers=[*layers, *shares], details=details,
    )  # fmt: skip


def picture(facts: Facts, drawn: HexagonMap) -> str:
    """The map and the key numbers, as an SVG of its own in the light colours.

    They are beside each other, but below each other if the map is wide.
    """
    width, height = PICTURE
    shape = ratio(drawn.ground, drawn.layers[0])
    if shape <= WIDEST_BESIDE:
        wide = height * shape
        width = max(width, round(wide + MARGINS + PANEL))
        panel = _numbers(facts, wide + 56, 0, width - wide - MARGINS)
        panel += _types(facts, wide + 56, 688, width - wide - MARGINS)
    else:
        wide, top = width, width / shape
        column = (width - 3 * 56) / 2
        panel = _numbers(facts, 56, top, column) + _types(facts, 2 * 56 + column, top + 96, column)
        height = round(top) + 670
    return in_light_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="{PICTURE_FONT}">'
        f'<rect width="{width}" height="{height}" fill="var(--ground)"/>'
        f"{as_svg(drawn.ground, drawn.layers[0], round(wide))}{panel}</svg>"
    )


def _change(facts: Facts, index: Any) -> NDArray[np.float64] | None:
    """Ratio of the last twelve months' requests to those of the twelve before, by hexagon.

    NaN if too few were made before; None if the table covers less than two years.
    """
    if not has_two_years(facts.tables):
        return None
    before = pl.col("requests_before")
    ratio = pl.when(before >= MIN_REQUESTS_FOR_RATE).then(pl.col("requests") / before)
    found = dict(facts.tables["hexagons"].select(INDEX, ratio).iter_rows())
    return np.array([found.get(cell) for cell in index], float)


def _numbers(facts: Facts, left: float, top: float, width: float) -> str:
    """The heading and the key numbers, one below the other."""
    requests = request_summary(facts.tables)
    ink, quiet, accent = (f'fill="var(--{name})"' for name in ("ink", "quiet", "accent"))
    found = [_line(f"{city.NAME}’s service requests", left, top + 96, 40, width, ink, is_bold=True)]
    if requests["first"]:
        period = f"{day(requests['first'])} to {day(requests['last'])}"
        found.append(_line(period, left, top + 138, 23, width, quiet))
    if facts.is_sample:
        words = "Made-up requests: the miniature in the repository"
        found.append(_line(words, left, top + 174, 20, width, quiet))
    metrics, count = requests["metrics"], requests["count"]
    half, most = metrics["median_days_to_completion"], metrics["p90_days_to_completion"]
    rest = f"{days(most)} for nine in ten" if most else "more than one in ten are not"
    entries = [
        (f"{count:,}", f"requests, {metrics['requests_a_day'] or 0:,.0f} a day"),
        (days(half), f"until half are dealt with; {rest}"),
        (f"{metrics['open_at_the_end']:,}", "open at the end of the period"),
        (per_cent(facts.transform["missing_rate"]), "without coordinates: not on the map"),
    ]
    for n, (value, words) in enumerate(entries):
        y = top + 262 + 104 * n
        found.append(_line(value, left, y, 46, width, accent, is_bold=True))
        found.append(_line(words, left, y + 33, 21, width, quiet))
    return "".join(found)


def _types(facts: Facts, left: float, top: float, width: float) -> str:
    """The most frequent types of request as bars."""
    ink, quiet = (f'fill="var(--{name})"' for name in ("ink", "quiet"))
    found = [_line("What residents ask for most", left, top, 25, width, ink, is_bold=True)]
    count, tops = request_count(facts.tables), facts.tables["kinds"].head(5).to_dicts()
    for n, row in enumerate(tops):
        y = top + 52 + 48 * n
        found.append(_line(as_name(row[REQUEST_TYPE]), left, y, 20, width - SHARE, ink))
        share = per_cent(row["requests"] / count)
        found.append(svg_text(share, left + width, y, 20, f'{quiet} text-anchor="end"'))
        long = width * row["requests"] / tops[0]["requests"]
        bar = f'x="{left:.0f}" y="{y + 9:.0f}" width="{long:.0f}" height="9" rx="2"'
        found.append(f'<rect {bar} fill="var(--c0)"/>')
    return "".join(found)


def _line(
    words: str,
    x: float,
    y: float,
    size: int,
    room: float,
    attributes: str,
    *,
    is_bold: bool = False,
) -> str:
    """A text in a smaller size, and cut off in the end, if its room is too narrow."""
    font = RobotoBold if is_bold else Roboto
    shown = printable(words)
    size = next(
        (n for n in range(size, 2 * size // 3, -1) if text_width(shown, font, n) <= room),
        2 * size // 3,
    )
    if text_width(shown, font, size) > room:
        while text_width(f"{shown}…", font, size) > room:
            shown = shown[:-1].rstrip()
        shown += "…"
    weight = ' font-weight="700"' if is_bold else ""
    return svg_text(shown, x, y, size, attributes + weight)


def text_width(words: str, font: str, size: int) -> float:
    """Pixels that a line of text takes."""
    return ImageFont.truetype(font, size).getlength(words)
