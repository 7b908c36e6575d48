"""Labelled tiles on the map, and beside the requests: a table, a map and one question.

The question is whether hexagons where more tiles have a pool report more water problems. Spearman's
rank correlation answers it. Its interval comes from a bootstrap of neighbourhoods, since hexagons
that touch are alike (Lahiri 2003, "Resampling Methods for Dependent Data").
"""

from typing import Any, NamedTuple

import altair as alt
import geopandas as gpd
import h3
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

from capetown.city import RESOLUTION, WATER_DIRECTORATE
from capetown.legend import ranges
from capetown.report.charts import HEIGHT, Chart
from capetown.report.facts import Facts
from capetown.report.formatting import as_name
from capetown.report.ground import draw_ground
from capetown.report.hexagon_map import HexagonMap, Layer, count_layer, layer
from capetown.requests.counts import COUNT_PREFIX, MOST_COMMON

FOLDS = {"train": "training", "valid": "validation", "test": "test"}
# Fewer tiles or requests of a hexagon say nothing about a share.
MIN_TILES, MIN_REQUESTS = 3, 5
SHARES = [0, 0.2, 0.4, 0.6, 0.8]
# Fewest hexagons and neighbourhoods for a correlation.
MIN_HEXAGONS, MIN_NEIGHBOURHOODS = 10, 8
# A neighbourhood is a cell two levels up: 49 hexagons.
LEVELS_UP = 2
RESAMPLES = 1000


class Correlation(NamedTuple):
    """Spearman's rank correlation with its 95 % interval.

    Attributes:
        hexagons: with enough tiles and requests.
        neighbourhoods: the cells that the bootstrap resamples.
    """

    value: float
    low: float
    high: float
    hexagons: int
    neighbourhoods: int


def tiles_by_hexagon(facts: Facts) -> pd.DataFrame:
    """Labelled tiles by hexagon: index, tiles, with_pool, train, valid, test, wrong."""
    tiles, predicted = facts.tiles, facts.predictions
    called = predicted["probability"] >= facts.evaluate["threshold"]
    wrong = predicted["path"][called != (predicted["label"] == "yes")]
    table = pd.DataFrame(
        {
            "index": tiles["hexagon"],
            "tiles": 1,
            "with_pool": tiles["label"] == "yes",
            **{fold: tiles["fold"] == fold for fold in FOLDS},
            "wrong": tiles["path"].isin(wrong),
        }
    )
    return table.groupby("index").sum().astype(int).reset_index()


def requests_and_tiles(facts: Facts) -> pd.DataFrame:
    """All hexagons in their order: the columns of `hexes/counts.parquet`, the requests a day, those
    of `tiles_by_hexagon`, and the expected tiles with a pool where `capetown pools` has been run.
    """
    assert facts.hexagons is not None
    table = pd.DataFrame(facts.hexagons.drop(columns="geometry"))
    table = table.assign(requests_a_day=table["requests"] / max(1, len(facts.tables["days"])))
    table = table.merge(tiles_by_hexagon(facts), on="index", how="left")
    if facts.pools_by_hexagon is not None:
        expected = facts.pools_by_hexagon[["index", "tiles_with_pool_expected"]]
        table = table.merge(pd.DataFrame(expected), on="index", how="left")
    return table


def tile_statistics(facts: Facts) -> dict[str, Any]:
    """Numbers for the text; empty without tiles in the hexagons."""
    if facts.tiles.empty or facts.hexagons is None or not facts.has_pools:
        return {}
    by_hexagon = tiles_by_hexagon(facts)
    here = by_hexagon[by_hexagon["index"].isin(facts.hexagons["index"])]
    if here.empty:
        return {}
    total = {str(name): int(here[name].sum()) for name in here.columns.drop("index")}
    rows = compared(requests_and_tiles(facts))
    return {
        **total,
        "hexagons": len(here),
        "elsewhere": len(facts.tiles) - total["tiles"],
        "unknown": facts.split["tiles"] - len(facts.tiles),
        "has_question": WATER_DIRECTORATE is not None,
        "correlation": correlate(rows, seed=facts.settings["model"]["seed"]),
        "least": (MIN_HEXAGONS, MIN_NEIGHBOURHOODS, MIN_TILES, MIN_REQUESTS),
    }


def outside(facts: Facts) -> str:
    """A line about located tiles outside all hexagons, such as in the sea; empty without any."""
    if facts.hexagons is None or facts.tiles.empty:
        return ""
    found = facts.tiles[~facts.tiles["hexagon"].isin(facts.hexagons["index"])]
    if found.empty:
        return ""
    first = found.iloc[0]
    return (
        f"{len(found)} of {len(facts.tiles)} located tiles lie outside all hexagons, such as "
        f"{first['path']} (by {first['location_source']})"
    )


def labelled_map(facts: Facts) -> HexagonMap:
    """The map of labelled tiles: how many, with a pool, in which fold, and called wrongly."""
    hexagons, table = facts.hexagons, requests_and_tiles(facts)
    assert isinstance(hexagons, gpd.GeoDataFrame)
    tiles = table["tiles"].to_numpy(float)
    rows = table[table["tiles"] > 0]
    share = np.where(tiles >= MIN_TILES, table["with_pool"] / tiles, np.nan)
    most = int(np.nanmax(tiles))
    names = [as_name(name) if isinstance(name, str) else "" for name in table[MOST_COMMON]]
    return HexagonMap(
        ground=draw_ground(hexagons), index=table["index"].tolist(), names=names,
        weights=np.nan_to_num(tiles), counted="labelled tiles",
        layers=[
            count_layer("labelled tiles", "Labelled tiles in a hexagon", tiles, most),
            layer("share with a pool", f"With a pool (of {MIN_TILES} tiles or more)", share,
                  SHARES, ranges([100 * bound for bound in SHARES[1:]], " %")),
            _fold_layer(table),
            count_layer("test tiles called wrongly", "Test tiles that the model calls wrongly",
                        table["wrong"].to_numpy(float), int(rows["wrong"].max())),
        ],
        details={
            "Labelled tiles": {n: f"{row.tiles:.0f}" for n, row in _numbered(rows)},
            "With a pool": {n: f"{row.with_pool:.0f}" for n, row in _numbered(rows)},
            "Fold": {n: _folds(row) for n, row in _numbered(rows)},
            "Called wrongly": {n: f"{row.wrong:.0f} of {row.test:.0f} test tiles"
                               for n, row in _numbered(rows) if row.test},
        },
    )  # fmt: skip


def _numbered(rows: pd.DataFrame) -> list[tuple[int, pd.Series]]:
    return [(int(str(n)), row) for n, row in rows.iterrows()]


def _folds(row: pd.Series) -> str:
    return ", ".join(f"{row[fold]:.0f} {words}" for fold, words in FOLDS.items() if row[fold])


def _fold_layer(table: pd.DataFrame) -> Layer:
    """The fold of a hexagon's tiles."""
    counts = table[list(FOLDS)].fillna(0).to_numpy()
    classes = np.where((counts > 0).sum(axis=1) > 1, len(FOLDS), counts.argmax(axis=1))
    values = np.where(counts.any(axis=1), classes, np.nan)
    words = [*FOLDS.values(), "several"]
    return layer("fold", "Fold of the tiles in a hexagon", values, range(len(words)), words)


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """The hexagons of `requests_and_tiles` that have enough tiles and requests for the question.

    Its columns are index, name, tiles, `pools` (share of labelled tiles with a pool) and `water`
    (share of the requests that go to `city.WATER_DIRECTORATE`).
    """
    column = f"{COUNT_PREFIX}{WATER_DIRECTORATE}"
    if column not in table:
        return pd.DataFrame(columns=["index", "name", "tiles", "pools", "water"])
    chosen = table[(table["tiles"] >= MIN_TILES) & (table["requests"] >= MIN_REQUESTS)]
    return pd.DataFrame(
        {
            "index": chosen["index"],
            "name": chosen[MOST_COMMON].map(as_name, na_action="ignore").fillna(""),
            "tiles": chosen["tiles"],
            "pools": chosen["with_pool"] / chosen["tiles"],
            "water": chosen[column] / chosen["requests"],
        }
    )


def correlate(rows: pd.DataFrame, *, seed: int) -> Correlation | None:
    """The correlation of pools and water in `compared`.

    None for too few hexagons, or if all have the same share.
    """
    parents = [h3.cell_to_parent(cell, RESOLUTION - LEVELS_UP) for cell in rows["index"]]
    _, neighbourhood = np.unique(parents, return_inverse=True)
    count = int(neighbourhood.max(initial=-1)) + 1
    varies = rows["pools"].nunique() > 1 and rows["water"].nunique() > 1
    if len(rows) < MIN_HEXAGONS or count < MIN_NEIGHBOURHOODS or not varies:
        return None
    members = [np.flatnonzero(neighbourhood == number) for number in range(count)]
    pools, water = rows["pools"].to_numpy(float), rows["water"].to_numpy(float)
    rng = np.random.default_rng(seed)
    resampled = []
    for _ in range(RESAMPLES):
        chosen = np.concatenate([members[n] for n in rng.integers(count, size=count)])
        resampled.append(_spearman(pools[chosen], water[chosen]))
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return Correlation(_spearman(pools, water), float(low), float(high), len(rows), count)


def _spearman(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Spearman's rank correlation; NaN if all values of one are equal."""
    ranks = np.stack([rankdata(one), rankdata(other)])
    if not ranks.std(axis=1).all():
        return float("nan")
    return float(np.corrcoef(ranks)[0, 1])


def pools_and_water(facts: Facts) -> Chart:
    """A point per hexagon: share of tiles with a pool, and of requests about water."""
    percent = alt.Axis(format="%", tickCount=5)
    chart: Chart = (
        alt.Chart(compared(requests_and_tiles(facts)))
        .mark_point(filled=True, opacity=0.7, color="var(--c0)")
        .encode(
            alt.X("pools:Q", title="Labelled tiles with a pool", axis=percent),
            alt.Y("water:Q", title=f"Requests to {as_name(str(WATER_DIRECTORATE))}", axis=percent),
            alt.Size("tiles:Q", legend=None),
            tooltip=[alt.Tooltip("name:N", title="Suburb"), alt.Tooltip("tiles:Q", title="Tiles"),
                     alt.Tooltip("pools:Q", title="With a pool", format=".0%"),
                     alt.Tooltip("water:Q", title="Water", format=".0%")],
        )
        .properties(height=HEIGHT)
    )  # fmt: skip
    return chart
