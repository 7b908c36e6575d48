"""Parts that several charts share."""

from typing import TypeVar

import altair as alt
import pandas as pd
import polars as pl

# The days of seven years, or a large test fold, exceed Altair's limit of 5,000 rows.
alt.data_transformers.disable_max_rows()
Chart = alt.Chart | alt.LayerChart | alt.FacetChart
T = TypeVar("T", alt.X, alt.Y)

HEIGHT = 240
# Pixels per row of `labelled_bars`, a line of text above a bar.
ROW = 38
BAR = 10


def share(channel: type[T], field: str, title: str) -> T:
    """An axis from 0 to 100 %."""
    axis = alt.Axis(format="%", tickCount=5)
    return channel(f"{field}:Q", title=title, scale=alt.Scale(domain=[0, 1]), axis=axis)


def dashes(points: list[list[float]], x: str, y: str) -> alt.Chart:
    """A dashed reference line, such as guessing or perfect calibration."""
    table = pd.DataFrame(points, columns=["x", "y"])
    chart: alt.Chart = alt.Chart(table).mark_line(
        strokeDash=[4, 4], color="var(--quiet)", strokeWidth=1.5
    )
    return chart.encode(share(alt.X, "x", x), share(alt.Y, "y", y))


def labelled_bars(table: pl.DataFrame, name: str, value: str, *, colour: str) -> Chart:
    """Horizontal bars, the first row on top, with texts above them, where phones have room too.

    The column `name` holds the texts on the left, `words` those on the right.
    """
    rows = table.with_row_index("row").with_columns(
        label=pl.concat_str(pl.col(name), pl.lit(": "), pl.col("words"))
    )
    base = rows_chart(rows.select("row", "label", name, "words", value))
    bars = base.mark_bar(color=colour, height=BAR, yOffset=8, cornerRadiusEnd=2).encode(
        alt.X(f"{value}:Q", axis=None, scale=alt.Scale(nice=False)), alt.Tooltip("label:N")
    )
    return alt.layer(bars, *row_texts(base, name), height=ROW * len(rows))


def rows_chart(table: pl.DataFrame) -> alt.Chart:
    """A chart with one line per `row` of the table, without an axis."""
    chart: alt.Chart = alt.Chart(table)
    return chart.encode(alt.Y("row:O", axis=None, scale=alt.Scale(paddingInner=0, paddingOuter=0)))


def row_texts(base: alt.Chart, name: str) -> list[alt.Chart]:
    """Texts above each row: `name` on the left, `words` on the right."""
    left = base.mark_text(align="left", baseline="middle", dy=-9, limit=alt.ExprRef("width - 110"))
    right = base.mark_text(align="right", baseline="middle", dy=-9, color="var(--quiet)")
    return [
        left.encode(x=alt.value(0), text=f"{name}:N"),
        right.encode(x=alt.value("width"), text="words:N"),
    ]
