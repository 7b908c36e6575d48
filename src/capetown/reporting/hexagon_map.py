"""The report's map of requests, an Altair chart that needs nothing but its own data."""

import altair as alt
import pandas as pd
import shapely

from capetown.reporting.facts import DIRECTORATE, Facts

ALL = "all directorates"
# Degrees to five decimals: a metre, on hexagons of a kilometre.
DECIMALS = 5


def hexagon_map(facts: Facts) -> alt.Chart:
    """Requests by hexagon; a menu chooses a directorate, and hovering tells what a hexagon is."""
    table = facts.hexagons
    assert table is not None
    columns = [name for name in table.columns if name.startswith(DIRECTORATE)]
    used = [name for name in columns if table[name].sum() > 0]
    # Drawn on the sphere, a ring's inside is on its right.
    clockwise = shapely.orient_polygons(table.geometry.to_numpy(), exterior_cw=True)
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [
                    [[round(x, DECIMALS), round(y, DECIMALS)] for x, y in polygon.exterior.coords]
                ],
            },
            "index": row["index"],
            "suburb": row["suburb"] if isinstance(row["suburb"], str) else "",
            "days": None
            if pd.isna(row["median_days_to_completion"])
            else round(row["median_days_to_completion"], 1),
            "all": row["requests"],
            "by": {name.removeprefix(DIRECTORATE): row[name] for name in used if row[name]},
        }
        for polygon, row in zip(clockwise, table.to_dict("records"), strict=True)
    ]
    menu = alt.binding_select(
        options=[ALL, *(name.removeprefix(DIRECTORATE) for name in used)], name="Directorate: "
    )
    choice = alt.param("directorate", value=ALL, bind=menu)
    chosen = f"{choice.name} === '{ALL}' ? datum.all : (datum.by[{choice.name}] || 0)"
    chart: alt.Chart = (
        alt.Chart(alt.InlineData(values=features))
        .mark_geoshape(strokeWidth=0.2, stroke="#8888")
        .transform_calculate(shown=chosen)
        .encode(
            color=alt.condition(
                "datum.shown > 0",
                alt.Color(
                    "shown:Q",
                    title="Requests",
                    scale=alt.Scale(type="log", scheme="yelloworangered", domainMin=1),
                    legend=alt.Legend(orient="bottom", gradientLength=220, tickCount=4),
                ),
                alt.value("#8881"),
            ),
            tooltip=[
                alt.Tooltip("index:N", title="Hexagon"),
                alt.Tooltip("suburb:N", title="Commonest suburb"),
                alt.Tooltip("all:Q", title="Requests", format=","),
                alt.Tooltip("shown:Q", title="of the chosen directorate", format=","),
                alt.Tooltip("days:Q", title="Median days to completion"),
            ],
        )
        .add_params(choice)
        .project("mercator")
        .properties(height=600)
    )
    return chart
