"""The report in Markdown for Git hosts and as one HTML file: the same text, other pictures."""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import vl_convert
from font_roboto import Roboto
from markupsafe import Markup, escape
from PIL import Image

from capetown import city
from capetown.pools.metrics import METRICS
from capetown.report import blocks
from capetown.report.charts import Chart
from capetown.report.facts import Facts, join_statistics, pool_statistics, short_threshold
from capetown.report.formatting import backslashed, hexagon_area, in_html
from capetown.report.hexagon_map import HexagonMap, as_svg
from capetown.report.labelled_tiles import labelled_map, pools_and_water, tile_statistics
from capetown.report.pages import to_html, to_markdown
from capetown.report.pictures import inlined, jpeg, linked
from capetown.report.pool_charts import POOL_CHARTS
from capetown.report.pool_map import hexagons_with_tiles, pool_map
from capetown.report.request_charts import REQUEST_CHARTS
from capetown.report.request_map import picture, request_map
from capetown.report.request_summary import request_summary
from capetown.report.theme import themed
from capetown.report.training_charts import TRAINING_CHARTS
from capetown.requests.reader import STATUSES

Picture = Callable[[], bytes]

WIDTH = 640
TITLE = f"{city.NAME} from its data: what residents report, and pools seen from the air"
MODEL_CHARTS = POOL_CHARTS | TRAINING_CHARTS | {"pools-and-water": pools_and_water}
CHART_NAMES = (*REQUEST_CHARTS, *MODEL_CHARTS)
# Sections on methods, which are folded when the page opens.
FOLDED = (
    "How the requests were put on the map",
    "How the pool finder was trained",
    "How this report was made",
)


def markdown_and_images(facts: Facts) -> tuple[str, dict[str, Picture]]:
    """The report in Markdown, and functions that make its pictures, by their file names."""
    parts = _Markdown(facts, _maps(facts))
    return _text(facts, parts), parts.images


def page(facts: Facts) -> str:
    """The report as one HTML file."""
    parts = _Page(facts, _maps(facts))
    return to_html(
        _text(facts, parts), parts.specs, TITLE,
        data=parts.data, scripts=("threshold", "map"), folded=FOLDED,
    )  # fmt: skip


def draw_chart(name: str, facts: Facts) -> Chart:
    """One of `CHART_NAMES`."""
    if name in REQUEST_CHARTS:
        return REQUEST_CHARTS[name](facts.tables)
    return MODEL_CHARTS[name](facts)


def _maps(facts: Facts) -> dict[str, HexagonMap]:
    """The maps by the names that the templates use."""
    maps = {"map": request_map(facts)} if facts.has_requests else {}
    if facts.pools_by_hexagon is not None:
        maps["pools"] = pool_map(facts.pools_by_hexagon, facts.hexagons)
    if tile_statistics(facts):
        maps["labelled"] = labelled_map(facts)
    return maps


@dataclass
class _Markdown:
    """Charts, maps and tiles as files beside the text."""

    facts: Facts
    maps: Mapping[str, HexagonMap]
    images: dict[str, Picture] = field(default_factory=dict)
    is_page = False

    def chart(self, name: str, caption: str, alt: str) -> Markup:
        return self._linked(name, caption, alt, lambda: _chart_png(draw_chart(name, self.facts)))

    def map(self, name: str, caption: str, alt: str) -> Markup:
        return self._linked(name, caption, alt, lambda: _map_png(self.facts, name, self.maps[name]))

    def _linked(self, name: str, caption: str, alt: str, draw: Picture) -> Markup:
        self.images[f"{name}.png"] = draw
        return Markup(f"{linked(f'images/{name}.png', alt)}\n\n*{escape(backslashed(caption))}*")

    def tile(self, name: str, alt: str) -> Markup:
        file = f"{name.rsplit('.', 1)[0]}.jpg"
        self.images[file] = lambda: _tile_jpeg(self.facts, name)
        return linked(f"images/{file}", alt)


@dataclass
class _Page:
    """Charts and maps as data for the page's scripts, and tiles as part of the page."""

    facts: Facts
    maps: Mapping[str, HexagonMap]
    specs: dict[str, Any] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    is_page = True

    def __post_init__(self) -> None:
        if self.facts.has_pools:
            is_pool = self.facts.predictions["label"] == "yes"
            pairs = zip(self.facts.predictions["probability"], is_pool, strict=True)
            found = {
                "tiles": [[float(probability), int(yes)] for probability, yes in pairs],
                "threshold": short_threshold(self.facts),
            }
            self.data["tiles"] = json.dumps(found, separators=(",", ":"))

    def chart(self, name: str, caption: str, alt: str) -> Markup:
        chart = draw_chart(name, self.facts).properties(width="container", description=alt)
        self.specs[name] = themed(chart.to_dict(), is_picture=False)
        return Markup(
            f'<figure><div class="chart" id="{name}" role="img" aria-label="{in_html(alt)}"></div>'
            f"<figcaption>{in_html(caption)}</figcaption></figure>"
        )

    def map(self, name: str, caption: str, alt: str) -> Markup:
        self.data[f"{name}-data"] = self.maps[name].json
        return blocks.map_widget(name, self.maps[name], caption, alt)

    def tile(self, name: str, alt: str) -> Markup:
        return inlined(_tile_jpeg(self.facts, name), alt)


def _text(facts: Facts, parts: _Markdown | _Page) -> str:
    requests, pools = request_summary(facts.tables), pool_statistics(facts)
    values: dict[str, Any] = {
        **vars(facts),
        "facts": facts,
        "city": city,
        "title": TITLE,
        "hexagon_area": hexagon_area(),
        "requests": requests,
        "join": join_statistics(facts),
        "pools": pools,
        "tiles": tile_statistics(facts),
        "metrics": METRICS,
        "statuses": STATUSES,
        "rejects_file": Markup(
            "the sheet `rejects` of "
            + ("`requests.xlsx`" if facts.is_export else "`hexes/counts-and-rejects.xlsx`")
        ),
        "hexagons_with_tiles": hexagons_with_tiles,
        "chart": parts.chart,
        "map": parts.map,
        "is_page": parts.is_page,
        **blocks.parts(facts, requests, pools, parts.tile, is_page=parts.is_page),
    }
    return to_markdown("report.md.j2", **values)


def _tile_jpeg(facts: Facts, name: str) -> bytes:
    with Image.open(facts.evaluation / name) as image:
        return jpeg(image)


def _map_png(facts: Facts, name: str, drawn: HexagonMap) -> bytes:
    _register_font()
    svg = picture(facts, drawn) if name == "map" else as_svg(drawn.ground, drawn.layers[0], WIDTH)
    return _small(vl_convert.svg_to_png(svg))


def _chart_png(chart: Chart) -> bytes:
    _register_font()
    spec = themed(chart.properties(width=WIDTH).to_dict(), is_picture=True)
    spec["config"]["background"] = "white"
    return _small(vl_convert.vegalite_to_png(spec, scale=1.25))


def _register_font() -> None:
    vl_convert.register_font_directory(str(Path(Roboto).parent))


def _small(png: bytes) -> bytes:
    """A PNG with a palette: drawings have few colours, and Git keeps every version."""
    with Image.open(io.BytesIO(png)) as image:
        palette = image.convert("RGB").quantize(256)
    file = io.BytesIO()
    palette.save(file, format="PNG", optimize=True)
    return file.getvalue()
