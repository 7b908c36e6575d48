"""Parts that several charts are made of."""

from typing import TypeVar

import altair as alt
import pandas as pd
import polars as pl

# Altair's limit of 5,000 rows is less than the days of seven years, or a large test fold.
alt.data_transformers.disable_max_rows()
Chart = alt.Chart | alt.LayerChart | alt.FacetChart
T = TypeVar("T", alt.X, alt.Y)

HEIGHT = 240
# Pixels for one row of `labelled_bars`: a line of text above a bar.
ROW = 38
BAR = 10


def share(channel: type[T], field: str, title: str) -> T:
    """An axis from 0 to 100 %."""
    axis = alt.Axis(format="%", tickCount=5)
    return channel(f"{field}:Q", title=title, scale=alt.Scale(domain=[0, 1]), axis=axis)


def dashes(points: list[list[float]], x: str, y: str) -> alt.Chart:
    """Dashed line of guessing, or of perfect calibration."""
    table = pd.DataFrame(points, columns=["x", "y"])
    chart: alt.Chart = alt.Chart(table).mark_line(
        strokeDash=[4, 4], color="var(--quiet)", strokeWidth=1.5
    )
    return chart.encode(share(alt.X, "x", x), share(alt.Y, "y", y))


def labelled_bars(
    table: pl.DataFrame, name: str, value: str, words: str, *, colour: str = "var(--c0)"
) -> Chart:
    """Bars from left to right, the first row on top; above each its name and what it says.

    Names above the bars leave a phone as much room for them as a large screen.

    Args:
        table: a row a bar.
        name: column of their names.
        value: column of their lengths, from 0.
        words: column of texts at the right of them.
        colour: of the bars.
    """
    rows = table.with_row_index("row").with_columns(
        label=pl.concat_str(pl.col(name), pl.lit(": "), pl.col(words))
    )
    base = rows_chart(rows.select("row", "label", name, words, value))
    bars = base.mark_bar(color=colour, height=BAR, yOffset=8, cornerRadiusEnd=2).encode(
        alt.X(f"{value}:Q", axis=None, scale=alt.Scale(nice=False)), alt.Tooltip("label:N")
    )
    return alt.layer(bars, *row_texts(base, name, words), height=ROW * len(rows))


def rows_chart(table: pl.DataFrame) -> alt.Chart:
    """A chart of a table with a `row`, one below the other, without an axis for them."""
    chart: alt.Chart = alt.Chart(table)
    return chart.encode(alt.Y("row:O", axis=None, scale=alt.Scale(paddingInner=0, paddingOuter=0)))


def row_texts(base: alt.Chart, name: str, words: str) -> list[alt.Chart]:
    """Above each row its name at the left and what it says at the right."""
    left = base.mark_text(align="left", baseline="middle", dy=-9, limit=alt.ExprRef("width - 110"))
    right = base.mark_text(align="right", baseline="middle", dy=-9, color="var(--quiet)")
    return [
        left.encode(x=alt.value(0), text=f"{name}:N"),
        right.encode(x=alt.value("width"), text=f"{words}:N"),
    ]
