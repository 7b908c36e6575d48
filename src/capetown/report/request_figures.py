"""Charts of the requests: when they come, of what kind, and how fast they are dealt with."""

import altair as alt
import polars as pl

from capetown.city import DIRECTORATE, REQUEST_TYPE
from capetown.report.charts import HEIGHT, ROW, Chart, labelled_bars, row_texts, rows_chart
from capetown.report.formatting import as_name, days, per_cent
from capetown.report.request_facts import Requests
from capetown.report.request_statistics import missing_by_directorate
from capetown.requests.reader import NONE

# Bars of a chart; colours that the eye still tells apart, others together.
BARS, COLOURS = 10, 5
OTHERS = "all others"
MONTH = "%b %y"


def by_month(requests: Requests) -> Chart:
    """Requests by month, stacked by directorate."""
    tables = requests.tables
    largest = [
        name for name in tables["directorates"][DIRECTORATE].to_list() if name != NONE
    ][:COLOURS]  # fmt: skip
    named = [*map(as_name, largest), OTHERS]
    rows = (
        tables["months"]
        .with_columns(
            directorate=pl.when(pl.col(DIRECTORATE).is_in(largest))
            .then(pl.col(DIRECTORATE).map_elements(as_name, pl.String))
            .otherwise(pl.lit(OTHERS))
        )
        .group_by("month", "directorate")
        .agg(pl.col("requests").sum())
        .with_columns(order=pl.col("directorate").replace_strict(named, range(len(named))))
        .sort("month", "order")
    )
    chart: Chart = (
        alt.Chart(rows)
        .mark_bar(stroke="var(--card)", strokeWidth=0.5)
        .encode(
            alt.X("yearmonth(month):O", title=None, axis=alt.Axis(format=MONTH, labelAngle=0,
                  labelOverlap=True, labelSeparation=6)),
            alt.Y("requests:Q", title="Requests", axis=alt.Axis(tickCount=5, format=",.0f")),
            alt.Color("directorate:N", sort=named, title=None,
                      scale=alt.Scale(domain=named),
                      legend=alt.Legend(columns=alt.ExprRef("width < 400 ? 1 : 3"), labelLimit=240,
                                        symbolType="square", symbolSize=60)),
            alt.Order("order:O"),
            tooltip=[alt.Tooltip("yearmonth(month):T", title="Month", format="%B %Y"),
                     alt.Tooltip("directorate:N", title="Directorate"),
                     alt.Tooltip("requests:Q", title="Requests", format=",.0f")],
        )
        .properties(height=HEIGHT)
    )  # fmt: skip
    return chart


def kinds(requests: Requests) -> Chart:
    """The commonest kinds of request."""
    total = requests.count
    rows = (
        requests.tables["kinds"]
        .head(BARS)
        .select(
            pl.col(REQUEST_TYPE).map_elements(as_name, pl.String),
            "requests",
            words=pl.col("requests").map_elements(
                lambda n: f"{n:,} ({per_cent(n / total)})", pl.String
            ),
        )
    )
    return labelled_bars(rows, REQUEST_TYPE, "requests", "words")


def directorates(requests: Requests) -> Chart:
    """Requests by directorate."""
    total = requests.count
    rows = (
        requests.tables["directorates"]
        .head(BARS)
        .select(
            pl.col(DIRECTORATE).map_elements(as_name, pl.String),
            "requests",
            words=pl.col("requests").map_elements(
                lambda n: f"{n:,} ({per_cent(n / total)})", pl.String
            ),
        )
    )
    return labelled_bars(rows, DIRECTORATE, "requests", "words", colour="var(--c1)")


def flow(requests: Requests) -> Chart:
    """Requests created and completed a day, as means of seven days."""
    names = {"created": "come in", "completed": "dealt with"}
    rows = (
        requests.tables["days"]
        .with_columns(pl.col(*names).rolling_mean(7, min_samples=1, center=True).round(1))
        .unpivot(list(names), index="day", variable_name="what", value_name="a_day")
        .with_columns(pl.col("what").replace(names))
    )
    chart: Chart = (
        alt.Chart(rows)
        .mark_line()
        .encode(
            alt.X("day:T", title=None, axis=alt.Axis(format=MONTH, tickCount=6)),
            alt.Y("a_day:Q", title="A day, mean of seven days",
                  axis=alt.Axis(tickCount=5, format=",.0f")),
            alt.Color("what:N", sort=list(names.values()), title=None,
                      scale=alt.Scale(domain=list(names.values()))),
            tooltip=[alt.Tooltip("day:T", title="Day", format="%-d %B %Y"), "what:N",
                     alt.Tooltip("a_day:Q", title="a day", format=",.0f")],
        )
        .properties(height=HEIGHT)
    )  # fmt: skip
    return chart


def backlog(requests: Requests) -> Chart:
    """Requests that came and are not yet dealt with, at the end of each day."""
    chart: Chart = (
        alt.Chart(requests.tables["days"].select("day", "open"))
        .mark_area(color="var(--c1)", opacity=0.35, line={"color": "var(--c1)"})
        .encode(
            alt.X("day:T", title=None, axis=alt.Axis(format=MONTH, tickCount=6)),
            alt.Y("open:Q", title="Open requests", axis=alt.Axis(tickCount=5, format=",.0f")),
            tooltip=[alt.Tooltip("day:T", title="Day", format="%-d %B %Y"),
                     alt.Tooltip("open:Q", title="Open", format=",.0f")],
        )
        .properties(height=HEIGHT)
    )  # fmt: skip
    return chart


def speed(requests: Requests) -> Chart:
    """Days within which half, and nine in ten, of a directorate's requests are dealt with."""
    table = requests.tables["directorates"].filter(pl.col("requests") >= 10).head(BARS)
    names = {"median_days": "half", "p90_days": "nine in ten"}
    rows = table.with_row_index("row").with_columns(
        pl.col(DIRECTORATE).map_elements(as_name, pl.String),
        words=pl.struct(*names).map_elements(
            lambda row: " / ".join(days(row[name]) for name in names), pl.String
        ),
    )
    base = rows_chart(rows.select("row", DIRECTORATE, "words", *names))
    x = alt.Scale(type="symlog", constant=1, nice=False)
    axis = alt.Axis(values=[0, 1, 3, 10, 30, 100, 300, 1000], grid=True, title="Days")
    lines = base.mark_rule(strokeWidth=4, color="var(--line)", yOffset=8).encode(
        alt.X("median_days:Q", scale=x, axis=axis), alt.X2("p90_days:Q")
    )
    points = (
        base.transform_fold(list(names), as_=["key", "days"])
        .transform_calculate(within=f"datum.key == 'median_days' ? '{names['median_days']}' : "
                                    f"'{names['p90_days']}'")
        .mark_point(size=90, opacity=1, yOffset=8)
        .encode(
            alt.X("days:Q", scale=x, axis=axis, title="Days"),
            alt.Color("within:N", sort=list(names.values()), title="Dealt with:",
                      scale=alt.Scale(domain=list(names.values()))),
            tooltip=[alt.Tooltip(f"{DIRECTORATE}:N", title="Directorate"), "within:N",
                     alt.Tooltip("days:Q", title="days", format=",.1f")],
        )
    )  # fmt: skip
    texts = row_texts(base, DIRECTORATE, "words")
    return alt.layer(lines, points, *texts, height=(ROW + 2) * len(rows))


def again(requests: Requests) -> Chart:
    """The share of a kind's requests that come again at the same place, largest first."""
    rows = requests.again_by_kind.head(BARS).select(
        pl.col(REQUEST_TYPE).map_elements(as_name, pl.String),
        "share",
        words=pl.struct("share", "again").map_elements(
            lambda row: f"{per_cent(row['share'])} ({row['again']:,})", pl.String
        ),
    )
    return labelled_bars(rows, REQUEST_TYPE, "share", "words", colour="var(--c2)")


def missing(requests: Requests) -> Chart:
    """The share of a directorate's requests that came without coordinates, largest first."""
    rows = missing_by_directorate(requests.tables["directorates"]).select(
        pl.col(DIRECTORATE).map_elements(as_name, pl.String),
        "share",
        words=pl.col("share").map_elements(per_cent, pl.String),
    )
    return labelled_bars(rows, DIRECTORATE, "share", "words", colour="var(--c4)")


REQUEST_FIGURES = {
    "directorates": directorates,
    "kinds": kinds,
    "by-month": by_month,
    "flow": flow,
    "backlog": backlog,
    "speed": speed,
    "again": again,
    "missing": missing,
}
