"""Charts of the requests: how many, of which types, and how fast they are closed."""

import altair as alt
import polars as pl

from capetown.city import DIRECTORATE, DIRECTORATE_WORDS, REQUEST_TYPE
from capetown.report.charts import HEIGHT, ROW, Chart, labelled_bars, row_texts, rows_chart
from capetown.report.formatting import as_name, capital, days, per_cent
from capetown.report.request_statistics import missing_by_directorate
from capetown.report.request_summary import Tables, repeats_by_type, request_count
from capetown.requests.reader import NONE

# Bars per chart, and directorates with a colour of their own.
BARS, COLOURS = 10, 5
OTHERS = "all others"
TITLE = capital(DIRECTORATE_WORDS[0])
MONTH = "%b %y"
DAYS_AXIS = alt.X("day:T", title=None, axis=alt.Axis(format=MONTH, tickCount=6))
DAY = alt.Tooltip("day:T", title="Day", format="%-d %B %Y")


def by_month(tables: Tables) -> Chart:
    """Requests by month, stacked by directorate."""
    largest = [
        name for name in tables["directorates"][DIRECTORATE].to_list() if name != NONE
    ][:COLOURS]  # fmt: skip
    named = [*map(as_name, largest), OTHERS]
    rows = (
        tables["months"]
        .with_columns(
            name=pl.when(pl.col(DIRECTORATE).is_in(largest))
            .then(pl.col(DIRECTORATE).map_elements(as_name, pl.String))
            .otherwise(pl.lit(OTHERS))
        )
        .group_by("month", "name")
        .agg(pl.col("requests").sum())
        .with_columns(order=pl.col("name").replace_strict(named, range(len(named))))
        .sort("month", "order")
    )
    chart: Chart = (
        alt.Chart(rows)
        .mark_bar(stroke="var(--card)", strokeWidth=0.5)
        .encode(
            alt.X("yearmonth(month):O", title=None, axis=alt.Axis(format=MONTH, labelAngle=0,
                  labelOverlap=True, labelSeparation=6)),
            _count("requests", "Requests"),
            alt.Color("name:N", sort=named, title=None,
                      scale=alt.Scale(domain=named),
                      legend=alt.Legend(columns=alt.ExprRef("width < 400 ? 1 : 3"), labelLimit=240,
                                        symbolType="square", symbolSize=60)),
            alt.Order("order:O"),
            tooltip=[alt.Tooltip("yearmonth(month):T", title="Month", format="%B %Y"),
                     alt.Tooltip("name:N", title=TITLE),
                     alt.Tooltip("requests:Q", title="Requests", format=",.0f")],
        )
        .properties(height=HEIGHT)
    )  # fmt: skip
    return chart


def types(tables: Tables) -> Chart:
    """The most frequent types of request."""
    return _bars(_counted(tables, "kinds"), REQUEST_TYPE, "requests", colour="var(--c0)")


def directorates(tables: Tables) -> Chart:
    """Requests by directorate."""
    return _bars(_counted(tables, "directorates"), DIRECTORATE, "requests", colour="var(--c1)")


def flow(tables: Tables) -> Chart:
    """Requests created and completed per day, as means over seven days."""
    names = {"created": "come in", "completed": "dealt with"}
    rows = (
        tables["days"]
        .with_columns(pl.col(*names).rolling_mean(7, min_samples=1, center=True).round(1))
        .unpivot(list(names), index="day", variable_name="what", value_name="a_day")
        .with_columns(pl.col("what").replace(names))
    )
    chart: Chart = (
        alt.Chart(rows)
        .mark_line()
        .encode(
            DAYS_AXIS,
            _count("a_day", "A day, mean of seven days"),
            alt.Color("what:N", sort=list(names.values()), title=None,
                      scale=alt.Scale(domain=list(names.values()))),
            tooltip=[DAY, "what:N", alt.Tooltip("a_day:Q", title="a day", format=",.0f")],
        )
        .properties(height=HEIGHT)
    )  # fmt: skip
    return chart


def backlog(tables: Tables) -> Chart:
    """Open requests at the end of each day."""
    chart: Chart = (
        alt.Chart(tables["days"].select("day", "open"))
        .mark_area(color="var(--c1)", opacity=0.35, line={"color": "var(--c1)"})
        .encode(
            DAYS_AXIS,
            _count("open", "Open requests"),
            tooltip=[DAY, alt.Tooltip("open:Q", title="Open", format=",.0f")],
        )
        .properties(height=HEIGHT)
    )
    return chart


def speed(tables: Tables) -> Chart:
    """Days within which half and nine in ten of a directorate's requests are completed."""
    table = tables["directorates"].filter(pl.col("requests") >= 10).head(BARS)
    names = {"median_days": "half", "p90_days": "nine in ten"}
    rows = table.with_row_index("row").with_columns(
        name=pl.col(DIRECTORATE).map_elements(as_name, pl.String),
        words=pl.struct(*names).map_elements(
            lambda row: " / ".join(days(row[name]) for name in names), pl.String
        ),
    )
    base = rows_chart(rows.select("row", "name", "words", *names))
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
            tooltip=[alt.Tooltip("name:N", title=TITLE), "within:N",
                     alt.Tooltip("days:Q", title="days", format=",.1f")],
        )
    )  # fmt: skip
    texts = row_texts(base, "name")
    return alt.layer(lines, points, *texts, height=(ROW + 2) * len(rows))


def repeats(tables: Tables) -> Chart:
    """The share of a type's requests that repeat another at the same location."""
    rows = (
        repeats_by_type(tables)
        .head(BARS)
        .with_columns(
            words=pl.struct("share", "again").map_elements(
                lambda row: f"{per_cent(row['share'])} ({row['again']:,})", pl.String
            )
        )
    )
    return _bars(rows, REQUEST_TYPE, "share", colour="var(--c2)")


def missing(tables: Tables) -> Chart:
    """The share of a directorate's requests without coordinates."""
    rows = missing_by_directorate(tables["directorates"]).with_columns(
        words=pl.col("share").map_elements(per_cent, pl.String)
    )
    return _bars(rows, DIRECTORATE, "share", colour="var(--c4)")


def _counted(tables: Tables, table: str) -> pl.DataFrame:
    """The largest rows, with each count and its share of all requests in words."""
    total = request_count(tables)
    return (
        tables[table]
        .head(BARS)
        .with_columns(
            words=pl.col("requests").map_elements(
                lambda n: f"{n:,} ({per_cent(n / total)})", pl.String
            )
        )
    )


def _bars(rows: pl.DataFrame, key: str, value: str, *, colour: str) -> Chart:
    # A column's own name may have dots or brackets, which mean something to Vega-Lite.
    named = rows.with_columns(name=pl.col(key).map_elements(as_name, pl.String))
    return labelled_bars(named, "name", value, colour=colour)


def _count(field: str, title: str) -> alt.Y:
    return alt.Y(f"{field}:Q", title=title, axis=alt.Axis(tickCount=5, format=",.0f"))


REQUEST_CHARTS = {
    "directorates": directorates,
    "kinds": types,
    "by-month": by_month,
    "flow": flow,
    "backlog": backlog,
    "speed": speed,
    "again": repeats,
    "missing": missing,
}
