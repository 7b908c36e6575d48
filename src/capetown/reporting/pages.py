"""Templates of Markdown as text for a terminal, for Git hosts, and as one HTML file.

Every value that a template prints is escaped, so that a suburb named ``<script>`` appears as text.
The HTML page is that Markdown, rendered, with the charts drawn by Vega, which is inlined: the page
asks no network for anything.
"""

import html
import json
import math
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import jinja2
import vl_convert
from markdown_it import MarkdownIt
from markupsafe import Markup

# What Markdown would take for markup; full stops, hyphens and brackets alone are harmless.
SPECIAL = re.compile(r"([\\`*_\[\]|~$#!])")
TEMPLATES = jinja2.PackageLoader("capetown.reporting")
TEMPLATES_OF_PAGES = jinja2.Environment(loader=TEMPLATES, autoescape=True, trim_blocks=True)


def to_html(text: str, specs: Mapping[str, Any], title: str) -> str:
    """Markdown as a page of its own.

    Args:
        text: Markdown with an element of class ``chart`` for each chart.
        specs: charts of Vega-Lite by their elements' ids.
        title: of the page, as text.
    """
    reader = MarkdownIt("commonmark", {"html": True}).enable("table")
    tokens = reader.parse(text)
    contents = []
    for heading, words in pairwise(tokens):
        if heading.type == "heading_open" and heading.tag == "h2":
            anchor = re.sub(r"\W+", "-", words.content.lower()).strip("-")
            heading.attrSet("id", anchor)
            contents.append((anchor, words.content))
    body = reader.renderer.render(tokens, reader.options, {})
    return TEMPLATES_OF_PAGES.get_template("page.html.j2").render(
        title=title,
        contents=contents,
        body=Markup(body),
        specs=Markup(_for_script(specs)),
        vega=_vega(),
    )


def plots_template() -> str:
    """DVC's page of plots with Vega in it, which its own asks a network for."""
    return TEMPLATES_OF_PAGES.get_template("plots.html.j2").render(vega=_vega())


def _vega() -> Markup:
    vega: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    return Markup(vega)


def to_markdown(template: str, **values: Any) -> str:
    """A template of Markdown with its values escaped."""
    return _filled(template, _escape, values)


def to_text(template: str, **values: Any) -> str:
    """A template of Markdown with its values as they are, to read and copy in a terminal."""
    return _filled(template, _plain, values)


def _filled(template: str, finalize: Callable[[Any], Any], values: Mapping[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=TEMPLATES,
        autoescape=False,
        finalize=finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "code": _code,
        "count": _count,
        "exact": _exact,
        "file": lambda path: path.rsplit("/", 1)[-1],
        "interval": _interval,
        "metres": _metres,
        "percent": _percent,
        "points": _points,
    }
    text = environment.get_template(template).render(**values)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _escape(value: Any) -> Any:
    """A value as text that neither Markdown nor HTML takes for markup."""
    if isinstance(value, Markup):
        return value
    line = " ".join(_shown(value).split())
    return SPECIAL.sub(r"\\\1", html.escape(line, quote=False))


def _plain(value: Any) -> str:
    """A value as text that does not steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in _shown(value))


def _shown(value: Any) -> str:
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "–" if missing else str(value)


def _code(value: str) -> Markup:
    """A value within backquotes, where Markdown has no escapes: it loses what could end them."""
    kept = "".join(letter for letter in str(value) if letter.isprintable() and letter not in "`|")
    return Markup(kept)


def _metres(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,.1f}"


def _count(value: int) -> str:
    return f"{value:,}"


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None or math.isnan(value) else f"{100 * value:.{digits}f} %"


def _exact(value: float) -> str:
    """A share that someone chose, with the digits that they gave it."""
    return f"{100 * value:.6g} %"


def _points(value: float) -> str:
    """A difference of shares in points of a hundred, with its sign."""
    return "–" if math.isnan(value) else f"{100 * value:+.1f}"


def _interval(bounds: list[float] | None) -> str:
    """A 95 % interval in per cent, where the resamples allow one."""
    if not bounds or any(bound is None for bound in bounds):
        return "–"
    low, high = (100 * bound for bound in bounds)
    return f"{low:.1f} to {high:.1f} %"


def _for_script(value: Mapping[str, Any]) -> str:
    """JSON that may stand within a script element, whatever is in it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
