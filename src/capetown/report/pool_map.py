"""The map of tiles with a pool by hexagon, as `capetown pools` writes it."""

from pathlib import Path

import geopandas as gpd
import numpy as np

from capetown.errors import CapetownError, one_line
from capetown.legend import expected_classes
from capetown.report.formatting import as_name
from capetown.report.ground import draw_ground
from capetown.report.hexagon_map import HexagonMap, layer
from capetown.requests.counts import MOST_COMMON

COLUMNS = [
    "index", "tiles", "unread", "tiles_with_pool_expected", "tiles_with_pool_low",
    "tiles_with_pool_high", "called", "geometry",
]  # fmt: skip


def read_pools(path: Path) -> gpd.GeoDataFrame | None:
    """Read the map; None if the file does not exist or has no tile.

    Raises:
        CapetownError: the file is damaged, or lacks a column.
    """
    if not path.exists():
        return None
    try:
        table = gpd.read_parquet(path)[COLUMNS]
    except Exception as error:  # readers raise many types on a damaged file
        raise CapetownError(
            f"cannot be read ({one_line(error)})", where=path,
            fix="write it again with `capetown pools`, or delete it to get a report without it",
        ) from error  # fmt: skip
    return table if table["tiles"].any() else None


def hexagons_with_tiles(pools: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The hexagons with a tile, those with most expected pools first."""
    table = pools[pools["tiles"] > 0]
    return table.sort_values(["tiles_with_pool_expected", "index"], ascending=[False, True])


def pool_map(table: gpd.GeoDataFrame, requests: gpd.GeoDataFrame | None) -> HexagonMap:
    """Tiles expected to have a pool, by hexagon; `hexes/counts.parquet` names the suburbs."""
    if requests is not None:
        table = table.merge(requests[["index", MOST_COMMON, "requests"]], on="index", how="left")
    is_seen = table["tiles"].to_numpy() > 0
    expected = np.where(is_seen, table["tiles_with_pool_expected"], np.nan)
    bounds, words = expected_classes(np.nanmax(expected))
    title = "Tiles expected to have a pool"
    rows = [(n, row) for n, row in enumerate(table.itertuples()) if row.tiles]
    details = {
        "Tiles": {n: f"{row.tiles:,}" for n, row in rows},
        "Expected to have a pool": {n: f"{row.tiles_with_pool_expected:.1f}" for n, row in rows},
        "95 % interval": {
            n: f"{row.tiles_with_pool_low:.0f} to {row.tiles_with_pool_high:.0f}" for n, row in rows
        },
        "Called by the model": {n: f"{row.called:,}" for n, row in rows},
    }
    suburbs = table[MOST_COMMON] if MOST_COMMON in table else [""] * len(table)
    return HexagonMap(
        ground=draw_ground(table), index=table["index"].tolist(),
        names=[as_name(name) if isinstance(name, str) else "" for name in suburbs],
        weights=table["tiles"].to_numpy(float), counted="tiles",
        layers=[layer(title, title, expected, bounds, words)], details=details,
    )  # fmt: skip
