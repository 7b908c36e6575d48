"""Markdown templates as text for a terminal, for Git hosts, and as one HTML file.

Every value that a template prints is escaped: a suburb named ``<script>`` appears as text. The page
is the rendered Markdown. Vega is part of it and draws the charts, so it needs no network.
"""

import html
import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.resources import files
from typing import Any

import jinja2
import vl_convert
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from capetown.report.formatting import as_name, backslashed, capital, day, days, per_cent, printable
from capetown.report.theme import css

ASSETS = files("capetown.report") / "assets"
# Tables with this many columns are too wide for a phone.
WIDE = 5
TEMPLATES = jinja2.PackageLoader("capetown.report")
TEMPLATES_OF_PAGES = jinja2.Environment(loader=TEMPLATES, autoescape=True, trim_blocks=True)


def to_html(
    text: str,
    specs: Mapping[str, Any],
    title: str,
    *,
    data: Mapping[str, str] | None = None,
    scripts: Sequence[str] = (),
    folded: Collection[str] = (),
) -> str:
    """Markdown as a page; each section, under a heading of the second level, can be folded.

    `specs` are charts of Vega-Lite by the ids of their elements, of class ``chart``, and `data` is
    JSON for the `scripts` of `assets`. Sections with a heading in `folded` start folded.
    """
    reader = MarkdownIt("commonmark", {"html": True}).enable("table")
    tokens = reader.parse(text)
    contents: list[tuple[str, str]] = []
    body = reader.renderer.render(_in_sections(tokens, contents, folded), reader.options, {})
    return TEMPLATES_OF_PAGES.get_template("page.html.j2").render(
        title=title,
        contents=contents,
        body=Markup(body),
        colours=Markup(css()),
        css=Markup(_asset("page.css")),
        data={
            "specs": Markup(_for_script(json.dumps(specs, separators=(",", ":"), allow_nan=False))),
            **{name: Markup(_for_script(value)) for name, value in (data or {}).items()},
        },
        scripts=[Markup(_asset(f"{name}.js")) for name in ("page", *scripts)],
        vega=_vega(),
    )


def html_block(template: str, **values: Any) -> Markup:
    """An HTML template as one block of Markdown, so without blank lines."""
    text = TEMPLATES_OF_PAGES.get_template(template).render(**values)
    return Markup(re.sub(r"[\r\n]\s*[\r\n]", "\n", text))


def for_markdown(value: Any) -> str:
    """A value as text without markup in Markdown and HTML."""
    return str(_escape(value))


def _in_sections(
    tokens: Sequence[Token], contents: list[tuple[str, str]], folded: Collection[str]
) -> list[Token]:
    """Tokens with each section in a ``details`` element; fills the table of contents."""
    found, is_open = [], False
    for at, token in enumerate(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            words = tokens[at + 1].content
            anchor = re.sub(r"\W+", "-", words.lower()).strip("-")
            contents.append((anchor, words))
            end = "</details></section>" if is_open else ""
            state = "" if words in folded else " open"
            found.append(_html(f'{end}<section id="{anchor}"><details{state}><summary>'))
            is_open = True
        found.append(token)
        if token.type == "heading_close" and token.tag == "h2":
            found.append(_html("</summary>"))
        if token.type == "table_open":
            _label_cells(tokens[at:])
            found.insert(-1, _html('<div class="scroll" tabindex="0" role="group" '
                                   'aria-label="Table">'))  # fmt: skip
        if token.type == "table_close":
            found.append(_html("</div>"))
    if is_open:
        found.append(_html("</details></section>"))
    return found


def _label_cells(tokens: Sequence[Token]) -> None:
    """Name the column in each cell of the first table, if it is wide: phones show lists."""
    names: list[str] = []
    column = 0
    for at, token in enumerate(tokens):
        if token.type == "th_open":
            names.append(tokens[at + 1].content)
        elif token.type == "tr_open":
            column = 0
        elif token.type == "td_open":
            if column < len(names):
                token.attrSet("data-label", names[column])
            column += 1
        elif token.type == "tbody_open" and len(names) < WIDE:
            return
        elif token.type == "table_close":
            break
    tokens[0].attrSet("class", "stack")


def _html(text: str) -> Token:
    return Token("html_block", "", 0, content=text)


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def plots_template() -> str:
    """DVC's page of plots with Vega as part of it, so that it works offline."""
    return TEMPLATES_OF_PAGES.get_template("plots.html.j2").render(vega=_vega())


def _vega() -> Markup:
    vega: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    return Markup(vega)


def to_markdown(template: str, **values: Any) -> str:
    """A template of Markdown with its values escaped."""
    return _filled(template, _escape, values)


def to_text(template: str, **values: Any) -> str:
    """A template of Markdown with unescaped values, for a terminal."""
    return _filled(template, _plain, values)


def _filled(template: str, finalize: Callable[[Any], Any], values: Mapping[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=TEMPLATES, autoescape=False, finalize=finalize, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "about": per_cent,
        "capital": capital,
        "as_name": lambda name: as_name(name) if isinstance(name, str) else name,
        "code": _code,
        "count": "{:,}".format,
        "day": day,
        "days": days,
        # A share that a person set, with all its digits.
        "exact": lambda value: f"{100 * value:.6g} %",
        "file": lambda path: path.rsplit("/", 1)[-1],
        "hundred": _hundred,
        "interval": _interval,
        "metres": lambda value: "–" if math.isnan(value) else f"{value:,.1f}",
        "percent": _percent,
        "points": _points,
        "signed": lambda value: f"{value:+.2f}".replace("-", "−"),
    }
    text = environment.get_template(template).render(**values)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _escape(value: Any) -> Any:
    """A value as text without markup in Markdown and HTML."""
    if isinstance(value, Markup):
        return value
    return html.escape(backslashed(_shown(value)), quote=False)


def _plain(value: Any) -> str:
    """A value as text without control characters."""
    return printable(_shown(value))


def _shown(value: Any) -> str:
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "–" if missing else str(value)


def _code(value: str) -> Markup:
    """A value for a code span, without the characters that could end it."""
    return Markup("".join(sign for sign in str(value) if sign.isprintable() and sign not in "`|"))


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None or math.isnan(value) else f"{100 * value:.{digits}f} %"


def _hundred(share: float) -> int:
    """A share as a number out of 100, rounded like JavaScript's `Math.round`."""
    return math.floor(100 * share + 0.5)


def _points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return "–" if math.isnan(value) else f"{100 * value:+.1f}"


def _interval(bounds: list[float] | None) -> str:
    """A 95 % interval in per cent, or a dash without one."""
    if not bounds or any(bound is None for bound in bounds):
        return "–"
    low, high = (100 * bound for bound in bounds)
    return f"{low:.1f} to {high:.1f} %"


def _for_script(text: str) -> str:
    """JSON that is safe within a script element."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
