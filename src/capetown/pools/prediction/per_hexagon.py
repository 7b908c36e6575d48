"""``capetown pools``: count the tiles with a pool in each hexagon, beside its requests.

The output has one row per hexagon, in the order of the City's file. A tile counts in the cell of
its centre.

- `index`: the H3 cell.
- `tiles`: the number of tiles with a prediction.
- `unread`: the number of unreadable tiles.
- `tiles_with_pool_expected`: the sum of the tiles' calibrated probabilities; null without tiles.
  Tiles are counted, not pools: a tile with two pools counts once, and a pool cut by the edge of two
  tiles counts in both.
- `tiles_with_pool_low`, `tiles_with_pool_high`: the 95 % interval of that number (`interval`).
- `called`: the number of tiles predicted ``yes`` at the model's threshold.
- `requests`, then the other columns of `hexes/counts.parquet` (`capetown.requests.counts`):
  requests by directorate, median days to completion, most common suburb; null if unknown.

The probabilities are right on average for tiles like those that the model was calibrated on. Where
pools are rarer, the sums are too high.
"""

import math
from pathlib import Path

import numpy as np
import polars as pl
import shapely
from scipy.signal import fftconvolve

from capetown.city import CLASSES
from capetown.errors import CapetownError, one_line
from capetown.geoparquet import GEOMETRY
from capetown.layers import Layer, check_suffix, write_layer
from capetown.legend import expected_classes
from capetown.pools.prediction.predictions import (
    CELL,
    DECISION,
    PATH,
    PROBABILITY,
    read_predictions,
    repeated_area,
)
from capetown.requests.hexagons import Hexagons, read_hexagons
from capetown.storage import unwritable

# The share of repeated area to report. Neighbours with rounded outlines touch.
MAX_OVERLAP = 0.01
QUANTILES = (0.025, 0.975)
# More than the rounding error of a cumulative probability: 1e-14 for 3,000 tiles.
ROUNDING = 1e-12
EXPECTED = ("tiles_with_pool_expected", "tiles_with_pool_low", "tiles_with_pool_high")


def write_pools(predictions: Path, hexagons: Path, requests: Path, out: Path) -> list[str]:
    """Write the table; returns lines to print. The requests' file may be missing.

    Raises:
        CapetownError: an input cannot be used, or the output cannot be written.
    """
    check_suffix(str(out))
    for given in (predictions, hexagons, requests):
        if out.exists() and given.exists() and out.samefile(given):
            raise CapetownError("is an input of this command", where=f"--out {out}")
    if not hexagons.exists():
        fix = "name another with --hexagons, or run `dvc repro`"
        raise CapetownError("no such file", where=hexagons, fix=fix)
    cells, tiles = read_hexagons(hexagons), read_predictions(predictions)
    known = pl.DataFrame(schema={"index": pl.String, "requests": pl.Int64})
    if requests.exists():
        known = read_requests(requests)
    table = count_pools(cells, tiles, known)
    try:
        _write(table, cells, out)
    except OSError as error:
        raise unwritable(str(out), error) from error
    lines = notes(tiles, table)
    if not requests.exists():
        lines.append(f"{requests} is missing, so the column `requests` is empty")
    return [
        *lines,
        f"{out}: {table['tiles'].sum():,} tiles in {(table['tiles'] > 0).sum():,} of "
        f"{len(table):,} hexagons, {table[EXPECTED[0]].sum():,.1f} of them expected to have a "
        f"pool, {table['called'].sum():,} called",
    ]


def count_pools(
    hexagons: Hexagons, predictions: pl.DataFrame, requests: pl.DataFrame
) -> pl.DataFrame:
    """The table, from the results of `read_hexagons`, `read_predictions` and `read_requests`."""
    by_cell = predictions.group_by(pl.col(CELL).alias("index")).agg(
        tiles=pl.col(PROBABILITY).count(),
        unread=pl.col(PROBABILITY).null_count(),
        called=(pl.col(DECISION) == CLASSES[1]).sum(),
        each=pl.col(PROBABILITY).drop_nulls(),
    )
    table = hexagons.index.to_frame().join(by_cell, "index", how="left", maintain_order="left")
    rows = [
        (math.fsum(each), *interval(each)) if each else (None, None, None)
        for each in table["each"].to_list()
    ]
    types = dict(zip(EXPECTED, (pl.Float64, pl.Int64, pl.Int64), strict=True))
    expected = pl.DataFrame(rows, orient="row", schema=types)
    counts = table.select(
        "index", pl.col("tiles", "unread", "called").fill_null(0).cast(pl.Int64)
    ).hstack(expected)
    tiles = counts.select("index", "tiles", "unread", *EXPECTED, "called")
    return tiles.join(requests, "index", how="left", maintain_order="left")


def _write(table: pl.DataFrame, cells: Hexagons, out: Path) -> None:
    outlines = [shapely.to_wkb(shapely.Polygon(ring)) for ring in cells.rings]
    rows = table.with_columns(pl.Series(GEOMETRY, outlines, pl.Binary)).to_arrow()
    most = max(table[EXPECTED[0]].drop_nulls().to_list(), default=0)
    layer = Layer(
        "hexagons", "Tiles expected to have a pool", EXPECTED[0], *expected_classes(most), most,
        edges=True,
    )  # fmt: skip
    write_layer([rows], rows.schema, out, layer)


def interval(probabilities: list[float]) -> tuple[int, int]:
    """The central 95 % interval of the number of tiles with a pool.

    Exact quantiles of the Poisson-binomial distribution: the sum of independent outcomes with a
    probability each, by convolving the distributions of halves (Biscarri, Zhao and Brunner 2018).
    It covers chance only: a model that errs alike on neighbouring tiles errs by more.
    """
    yes = np.array(probabilities)
    # Each row is the distribution of the number of pools in some of the tiles.
    rows = np.column_stack([1 - yes, yes])
    while len(rows) > 1:
        if len(rows) % 2:
            certainly_none = np.eye(1, rows.shape[1])
            rows = np.vstack([rows, certainly_none])
        rows = fftconvolve(rows[::2], rows[1::2], axes=1).clip(0)
    low, high = np.searchsorted(rows[0].cumsum(), np.array(QUANTILES) - ROUNDING)
    return int(low), int(high)


def read_requests(path: Path) -> pl.DataFrame:
    """The requests in each hexagon, from `hexes/counts.parquet`, without the outlines."""
    try:
        table = pl.scan_parquet(path, glob=False).drop(GEOMETRY, strict=False)
        return table.cast({"index": pl.String, "requests": pl.Int64}).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CapetownError(
            f"unreadable ({one_line(error)})", where=path, fix="run `dvc repro transform`"
        ) from error


def notes(predictions: pl.DataFrame, table: pl.DataFrame) -> list[str]:
    """Notes on tiles that are not counted or are counted twice, one line each."""
    cell = pl.col(CELL)
    found = []
    for what, which in {
        "have no location and are not counted": cell.is_null(),
        "lie outside the hexagons and are not counted": ~cell.is_in(table["index"].implode()),
        "are unreadable and count as `unread`": cell.is_not_null() & pl.col(PROBABILITY).is_null(),
    }.items():
        if len(tiles := predictions.filter(which)):
            found.append(f"{len(tiles):,} tiles {what}, such as {tiles[PATH][0]}")
    if (share := repeated_area(predictions)) > MAX_OVERLAP:
        found.append(
            f"{share:.0%} of the tiles' area is shown by other tiles, too: pools there count in "
            "each tile"
        )
    if table["requests"].null_count() not in (0, len(table)):
        found.append(f"{table['requests'].null_count():,} hexagons have no known requests")
    return found
