"""Backbones to choose from, as a page: accuracy against parameters and against speed."""

import altair as alt
import polars as pl

from capetown.report.charts import Chart
from capetown.report.pages import to_html, to_markdown


def as_page(rows: pl.DataFrame, speed: str) -> str:
    """A page with two charts and the table.

    Args:
        rows: as `tools.timm_catalogue.catalogue.choose` gives them.
        speed: name of the table that the speeds are from: timm's names say on what device.
    """
    charts = {"parameters": _chart(rows, "parameters", "small", "Parameters, millions")}
    if rows["images_per_second"].count():
        charts["speed"] = _chart(rows, "images_per_second", "fast", "Images a second")
    text = to_markdown("backbones.md.j2", rows=rows.to_dicts(), speed=speed, charts=charts)
    return to_html(text, {name: chart.to_dict() for name, chart in charts.items()}, "Backbones")


def _chart(rows: pl.DataFrame, x: str, front: str, title: str) -> Chart:
    """Every backbone, and a line through those that none is better than."""
    shown = rows.drop_nulls(x).to_pandas()
    axes = (
        alt.X(f"{x}:Q", title=title, scale=alt.Scale(type="log", nice=False, padding=15)),
        alt.Y("top1:Q", title="ImageNet top-1, %", scale=alt.Scale(zero=False)),
    )
    columns = ["model", "image_size", "top1", "parameters", "images_per_second"]
    points = alt.Chart(shown).encode(*axes, tooltip=columns)
    every = points.mark_point(size=25, opacity=0.5).interactive()
    best = points.transform_filter(f"datum.{front}")
    return alt.layer(
        every,
        best.mark_line(color="#e76f51", strokeDash=[4, 3]),
        best.mark_point(filled=True, size=70, opacity=1, color="#e76f51"),
        width="container",
        height=320,
    )
