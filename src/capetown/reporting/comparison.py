"""A comparison of experiments, as text for the terminal and as a page."""

import base64
import html
from pathlib import Path

import altair as alt
from markupsafe import Markup

from capetown.comparing import Comparison, changed_sides
from capetown.reporting.figures import Chart
from capetown.reporting.pages import to_html, to_markdown
from capetown.reporting.pictures import jpeg
from capetown.scoring import METRICS

# Tiles that changed sides, of each experiment and each direction, that are shown.
SHOWN = 10


def as_markdown(comparison: Comparison, *, resamples: int) -> str:
    """The comparison as Markdown, which can be read in a terminal as it is."""
    return _text(comparison, resamples, Markup(""), tiles=None)


def as_page(comparison: Comparison, *, resamples: int, tiles: Path) -> str:
    """The comparison as one HTML file.

    Args:
        comparison: of two or more experiments.
        resamples: those behind its intervals.
        tiles: the folder that the tiles' paths are relative to; those that are there are shown.
    """
    figure = Markup('<figure><div class="chart" id="differences"></div></figure>')
    text = _text(comparison, resamples, figure, tiles)
    title = f"{', '.join(map(str, comparison.metrics.index))} on the same tiles"
    return to_html(text, {"differences": _chart(comparison).to_dict()}, title)


def _text(comparison: Comparison, resamples: int, figure: Markup, tiles: Path | None) -> str:
    names = [str(name) for name in comparison.metrics.index]

    def picture(path: str) -> Markup:
        if tiles is None or not (tiles / path).is_file():
            return Markup("")
        data = base64.b64encode(jpeg(tiles / path)).decode()
        return Markup(f"![{html.escape(path)}](data:image/jpeg;base64,{data})")

    return to_markdown(
        "comparison.md.j2",
        comparison=comparison,
        names=names,
        metrics=METRICS,
        resamples=resamples,
        changed={other: changed_sides(comparison, names[0], other) for other in names[1:]},
        shown=SHOWN,
        figure=figure,
        picture=picture,
        with_pictures=tiles is not None,
    )


def _chart(comparison: Comparison) -> Chart:
    """Each difference with its interval; a line at 0."""
    table = comparison.differences.assign(
        metric=comparison.differences["metric"].str.replace("_", " "),
        **{name: comparison.differences[name] * 100 for name in ("difference", "low", "high")},
    )
    base = alt.Chart(table).encode(
        alt.Y("metric:N", title=None, sort=None),
        alt.YOffset("experiment:N", sort=None),
        alt.Color("experiment:N", title=None, sort=None, legend=alt.Legend(orient="bottom")),
        tooltip=["experiment", "metric", "difference", "low", "high", "verdict"],
    )
    intervals = base.mark_rule(strokeWidth=2).encode(
        alt.X("low:Q", title="Difference in points of a hundred, 95 % interval"), alt.X2("high:Q")
    )
    points = base.mark_point(filled=True, size=60, opacity=1).encode(alt.X("difference:Q"))
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(strokeDash=[4, 4])
    return alt.layer(zero.encode(alt.X("zero:Q")), intervals, points, width="container", height=240)
