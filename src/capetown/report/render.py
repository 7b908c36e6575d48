"""The report, as Markdown for Git hosts and as one HTML file: the same text, other figures."""

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

from capetown.pools.metrics import METRICS
from capetown.report import blocks
from capetown.report.charts import Chart
from capetown.report.facts import STATUSES, Facts
from capetown.report.figures import FIGURES
from capetown.report.hexagon_map import HexagonMap, as_svg
from capetown.report.pages import to_html, to_markdown
from capetown.report.pictures import inlined, jpeg, linked
from capetown.report.pool_figures import short_threshold
from capetown.report.pool_map import pool_map
from capetown.report.request_map import picture, request_map
from capetown.report.theme import themed

Picture = Callable[[], bytes]

WIDTH = 640
TITLE = "Cape Town from its data: what residents report, and pools seen from the air"
# Sections that are folded when the page opens: how it was done, after what was found.
FOLDED = (
    "How the requests were put on the map",
    "How the pool finder was trained",
    "How this report was made",
)


def markdown_and_images(facts: Facts) -> tuple[str, dict[str, Picture]]:
    """The report for Git hosts, and what makes its pictures, by their names in ``images/``."""
    text = _Markdown(facts, _maps(facts))
    return _text(facts, text), text.images


def page(facts: Facts) -> str:
    """The report as one HTML file."""
    text = _Page(facts, _maps(facts))
    body = _text(facts, text)
    return to_html(
        body, text.specs, TITLE, data=text.data, scripts=("threshold", "map"), folded=FOLDED
    )


def _maps(facts: Facts) -> dict[str, HexagonMap]:
    """The maps by the names that the templates use."""
    maps = {"map": request_map(facts)} if facts.has_requests else {}
    if facts.predicted is not None:
        maps["pools"] = pool_map(facts.predicted, facts.hexagons)
    return maps


@dataclass
class _Markdown:
    """Parts of the text that are drawn: as pictures beside it."""

    facts: Facts
    maps: Mapping[str, HexagonMap]
    images: dict[str, Picture] = field(default_factory=dict)
    is_page = False

    def figure(self, name: str, caption: str, alt: str) -> Markup:
        self.images[f"{name}.png"] = lambda: _png(FIGURES[name](self.facts))
        return Markup(f"![{escape(alt)}](images/{name}.png)\n\n*{escape(caption)}*")

    def map(self, name: str, caption: str, alt: str) -> Markup:
        self.images[f"{name}.png"] = lambda: _map_png(self.facts, name, self.maps[name])
        return Markup(f"![{escape(alt)}](images/{name}.png)\n\n*{escape(caption)}*")

    def tile(self, name: str, alt: str) -> Markup:
        file = f"{name.rsplit('.', 1)[0]}.jpg"
        self.images[file] = lambda: _tile(self.facts, name)
        return linked(f"images/{file}", alt)


@dataclass
class _Page:
    """Parts of the text that are drawn: by the page itself."""

    facts: Facts
    maps: Mapping[str, HexagonMap]
    specs: dict[str, Any] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    is_page = True

    def __post_init__(self) -> None:
        if self.facts.has_pools:
            labels = self.facts.predictions["label"] == "yes"
            pairs = zip(self.facts.predictions["probability"], labels, strict=True)
            found = {
                "tiles": [[float(probability), int(yes)] for probability, yes in pairs],
                "threshold": short_threshold(self.facts),
            }
            self.data["tiles"] = json.dumps(found, separators=(",", ":"))

    def figure(self, name: str, caption: str, alt: str) -> Markup:
        self.specs[name] = themed(
            FIGURES[name](self.facts).properties(width="container", description=alt).to_dict(),
            is_picture=False,
        )
        return Markup(
            f'<figure><div class="chart" id="{name}" role="img" aria-label="{escape(alt)}"></div>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )

    def map(self, name: str, caption: str, alt: str) -> Markup:
        self.data[f"{name}-data"] = self.maps[name].json
        return blocks.map_widget(name, self.maps[name], caption, alt)

    def tile(self, name: str, alt: str) -> Markup:
        return inlined(_tile(self.facts, name), alt)


def _text(facts: Facts, parts: _Markdown | _Page) -> str:
    values: dict[str, Any] = {
        "facts": facts,
        "transform": facts.transform,
        "split": facts.split,
        "evaluate": facts.evaluate,
        "card": facts.card,
        "numbers": facts.requests.numbers if facts.requests else {},
        "metrics": METRICS,
        "statuses": STATUSES,
        "figure": parts.figure,
        "map": parts.map,
        "is_page": parts.is_page,
        **blocks.parts(facts, parts.tile, is_page=parts.is_page),
    }
    return to_markdown("report.md.j2", **values)


def _tile(facts: Facts, name: str) -> bytes:
    with Image.open(facts.evaluation / name) as image:
        return jpeg(image)


def _map_png(facts: Facts, name: str, drawn: HexagonMap) -> bytes:
    _register_font()
    svg = picture(facts, drawn) if name == "map" else as_svg(drawn.ground, drawn.layers[0], WIDTH)
    return _small(vl_convert.svg_to_png(svg))


def _png(chart: Chart) -> bytes:
    _register_font()
    spec = themed(chart.properties(width=WIDTH).to_dict(), is_picture=True)
    spec["config"]["background"] = "white"
    return _small(vl_convert.vegalite_to_png(spec, scale=1.25))


def _register_font() -> None:
    vl_convert.register_font_directory(str(Path(Roboto).parent))


def _small(png: bytes) -> bytes:
    """A drawing has few colours: a palette halves what Git keeps of every run."""
    with Image.open(io.BytesIO(png)) as image:
        palette = image.convert("RGB").quantize(256)
    file = io.BytesIO()
    palette.save(file, format="PNG", optimize=True)
    return file.getvalue()
