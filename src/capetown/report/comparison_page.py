"""A comparison of experiments, as text for the terminal and as a page."""

from functools import partial
from pathlib import Path
from typing import Any

import altair as alt
from markupsafe import Markup

from capetown.params import BandRendering
from capetown.pools.evaluation.compare import Comparison, changed_sides
from capetown.pools.metrics import METRICS
from capetown.report.charts import Chart
from capetown.report.formatting import group_names
from capetown.report.pages import to_html, to_markdown, to_text
from capetown.report.pictures import tile_picture

# Tiles with a changed result that are shown, per experiment and direction.
SHOWN = 10


def as_text(comparison: Comparison, *, resamples: int, escape: bool = False) -> str:
    """The comparison for a terminal, or with escaped names for a pull request: Markdown."""
    fill = to_markdown if escape else to_text
    return fill("comparison.md.j2", figure="", picture=None, **_values(comparison, resamples))


def as_page(comparison: Comparison, *, resamples: int, tiles: Path, rule: BandRendering) -> str:
    """The comparison as one HTML file, with the pictures of tiles that exist in a folder."""
    figure = Markup('<figure><div class="chart" id="differences"></div></figure>')
    values = _values(comparison, resamples)
    text = to_markdown(
        "comparison.md.j2", figure=figure, picture=partial(tile_picture, tiles, rule), **values
    )
    title = f"{', '.join(map(str, comparison.metrics.index))} on the same tiles"
    return to_html(text, {"differences": _chart(comparison).to_dict()}, title)


def _values(comparison: Comparison, resamples: int) -> dict[str, Any]:
    names = [str(name) for name in comparison.metrics.index]
    return {
        "comparison": comparison,
        "names": names,
        "groups": group_names(comparison.groups_source, by_sheet=comparison.by_sheet)[1],
        "metrics": METRICS,
        "resamples": resamples,
        "changed": {other: changed_sides(comparison, names[0], other) for other in names[1:]},
        "shown": SHOWN,
        "verdicts": set(comparison.differences["verdict"]),
    }


def _chart(comparison: Comparison) -> Chart:
    """Differences with their intervals, and a line at 0."""
    table = comparison.differences.assign(
        metric=comparison.differences["metric"].map(lambda key: METRICS[key].name),
        **{name: comparison.differences[name] * 100 for name in ("difference", "low", "high")},
    )
    base = alt.Chart(table).encode(
        alt.Y("metric:N", title=None, sort=None),
        alt.YOffset("experiment:N", sort=None),
        alt.Color("experiment:N", title=None, sort=None, legend=alt.Legend(orient="bottom")),
        tooltip=["experiment", "metric", "difference", "low", "high", "verdict"],
    )
    intervals = base.mark_rule(strokeWidth=2).encode(
        alt.X("low:Q", title="Difference in points of a hundred, 95 % interval").axis(tickCount=6),
        alt.X2("high:Q"),
    )
    points = base.mark_point(filled=True, size=60, opacity=1).encode(alt.X("difference:Q"))
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(strokeDash=[4, 4])
    return alt.layer(zero.encode(alt.X("zero:Q")), intervals, points, width="container", height=240)
