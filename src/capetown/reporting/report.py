"""The report, as Markdown for Git hosts and as one HTML file: the same text, other figures."""

import html
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert
from font_roboto import Roboto
from markupsafe import Markup
from PIL import Image

from capetown.pools.scoring import METRICS
from capetown.reporting.facts import STATUSES, Facts
from capetown.reporting.figures import FIGURES, Chart
from capetown.reporting.pages import to_html, to_markdown
from capetown.reporting.pictures import inlined, jpeg, linked

Figure = Callable[[str, str], Markup]
Picture = Callable[[str], Markup]

WIDTH = 640
# Comes with a package, so that the pictures that Git keeps are the same whatever is installed.
FONT = "Roboto"
TITLE = "Cape Town: requests on hexagons, pools from the air"


def markdown_and_images(facts: Facts) -> tuple[str, dict[str, bytes]]:
    """The report for Git hosts, and its pictures by their names in ``images/``."""
    images: dict[str, bytes] = {}

    def figure(name: str, caption: str) -> Markup:
        images[f"{name}.png"] = _png(FIGURES[name](facts))
        return Markup(f"![{caption}](images/{name}.png)\n\n*{caption}*")

    def picture(name: str) -> Markup:
        file = f"{name.rsplit('.', 1)[0]}.jpg"
        images[file] = _tile(facts, name)
        return linked(f"images/{file}")

    return _text(facts, figure, picture, is_page=False), images


def page(facts: Facts) -> str:
    """The report as one HTML file."""
    specs: dict[str, Any] = {}

    def figure(name: str, caption: str) -> Markup:
        specs[name] = _spec(FIGURES[name](facts))
        return Markup(
            f'<figure><div class="chart" id="{name}"></div>'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )

    def picture(name: str) -> Markup:
        return inlined(_tile(facts, name))

    return to_html(_text(facts, figure, picture, is_page=True), specs, TITLE)


def _text(facts: Facts, figure: Figure, picture: Picture, *, is_page: bool) -> str:
    return to_markdown(
        "report.md.j2",
        facts=facts,
        transform=facts.transform,
        split=facts.split,
        evaluate=facts.evaluate,
        card=facts.card,
        metrics=METRICS,
        statuses=STATUSES,
        figure=figure,
        picture=picture,
        is_page=is_page,
    )


def _tile(facts: Facts, name: str) -> bytes:
    with Image.open(facts.evaluation / name) as image:
        return jpeg(image)


def _spec(chart: Chart) -> dict[str, Any]:
    """A chart as wide as the page, unless it says itself how wide it is."""
    sized = chart if isinstance(chart, alt.VConcatChart) else chart.properties(width="container")
    spec: dict[str, Any] = sized.to_dict()
    return spec


def _png(chart: Chart) -> bytes:
    sized = chart if isinstance(chart, alt.VConcatChart) else chart.properties(width=WIDTH)
    file = io.BytesIO()
    vl_convert.register_font_directory(str(Path(Roboto).parent))
    sized.configure(font=FONT).save(file, format="png", scale_factor=1.25)
    # A chart has few colours: a palette halves what Git keeps of every run.
    with Image.open(file) as image:
        palette = image.convert("RGB").quantize(128)
    file = io.BytesIO()
    palette.save(file, format="PNG", optimize=True)
    return file.getvalue()
