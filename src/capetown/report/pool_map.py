"""The map of tiles with a pool by hexagon, where `capetown pools` made one: numbers and chart."""

from dataclasses import dataclass
from pathlib import Path

import altair as alt
import geopandas as gpd
import shapely

from capetown.errors import CapetownError, one_line
from capetown.report.charts import Chart
from capetown.report.hexagon_map import count_breaks

COLUMNS = (
    "index",
    "tiles",
    "unread",
    "tiles_with_pool_expected",
    "tiles_with_pool_low",
    "tiles_with_pool_high",
    "called",
)
# Degrees to five decimals: a metre, on hexagons of a kilometre.
PRECISION = 1e-5


@dataclass(frozen=True)
class Predicted:
    """Tiles with a pool by hexagon.

    Attributes:
        table: the hexagons of `maps/pools.parquet` in which a tile was judged.
        hexagons: how many there are in all.
    """

    table: gpd.GeoDataFrame
    hexagons: int

    @property
    def tiles(self) -> int:
        """Tiles that the model judged."""
        return int(self.table["tiles"].sum())

    @property
    def expected(self) -> int:
        """Tiles expected to have a pool, a whole number."""
        return round(float(self.table["tiles_with_pool_expected"].sum()))

    @property
    def called(self) -> int:
        """Tiles that the model calls."""
        return int(self.table["called"].sum())

    @property
    def most(self) -> gpd.GeoDataFrame:
        """The five hexagons where most tiles are expected to have a pool."""
        return self.table.sort_values(
            ["tiles_with_pool_expected", "index"], ascending=[False, True]
        ).head(5)


def read_predicted(path: Path) -> Predicted | None:
    """What `capetown pools` wrote; None if the file is not there, or no tile was judged.

    Raises:
        CapetownError: the file cannot be read, or is another.
    """
    if not path.exists():
        return None
    try:
        table = gpd.read_parquet(path)
        judged = table[table["tiles"] > 0][[*COLUMNS, "geometry"]]
    except Exception as error:  # what a reader raises on a damaged file is its own affair
        raise CapetownError(
            f"{path}: cannot be read ({one_line(error)}); `capetown pools` makes it anew, and "
            "without it the report has no map of pools."
        ) from error
    return Predicted(judged, len(table)) if len(judged) else None


def predicted_map(predicted: Predicted) -> Chart:
    """Tiles expected to have a pool, by hexagon; pointing at one tells its numbers."""
    table = predicted.table
    # Drawn on the sphere, a ring's inside is on its right.
    rings = shapely.orient_polygons(
        shapely.set_precision(table.geometry.to_numpy(), PRECISION, "pointwise"), exterior_cw=True
    )
    numbers = table[list(COLUMNS)].round({"tiles_with_pool_expected": 1}).to_dict("records")
    features = [
        {"type": "Feature", "geometry": shapely.geometry.mapping(ring), **row}
        for ring, row in zip(rings, numbers, strict=True)
    ]
    breaks = count_breaks(round(max(table["tiles_with_pool_expected"])))[1:]
    colours = [f"var(--q{number})" for number in range(len(breaks) + 1)]
    colour = alt.Color(
        "tiles_with_pool_expected:Q",
        title="Tiles expected to have a pool",
        scale=alt.Scale(type="threshold", domain=breaks, range=colours),
        legend=alt.Legend(orient="bottom"),
    )
    chart: alt.Chart = (
        alt.Chart(alt.InlineData(values=features))
        .mark_geoshape(strokeWidth=0.3, stroke="var(--line)")
        .encode(
            color=colour,
            tooltip=[
                alt.Tooltip("index:N", title="Hexagon"),
                alt.Tooltip("tiles:Q", title="Tiles"),
                alt.Tooltip("tiles_with_pool_expected:Q", title="expected to have a pool"),
                alt.Tooltip("tiles_with_pool_low:Q", title="at least (95 %)"),
                alt.Tooltip("tiles_with_pool_high:Q", title="at most (95 %)"),
                alt.Tooltip("called:Q", title="called by the model"),
            ],
        )
        .project("mercator")
        .properties(height=480)
    )
    return chart
