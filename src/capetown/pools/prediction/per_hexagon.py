"""Tiles with a pool counted by hexagon, beside the requests of the same hexagon.

`count_pools` gives one row a hexagon, in the order of the City's file:

- `index`: the H3 cell. A tile counts in the cell of its centre.
- `tiles`: how many the model judged.
- `unread`: how many could not be read.
- `pools_expected`: how many of `tiles` are expected to have a pool: the sum of their calibrated
  probabilities. What is counted is tiles: one with two pools counts once, and a pool that the edge
  of two tiles cuts counts in both. Null where the model judged no tile.
- `pools_low`, `pools_high`: the 95 % interval of that number, as `interval` gives it.
- `called`: how many the model calls ``yes`` at its threshold.
- `requests`: how many service requests lie in the hexagon; null where that is not known.

Probabilities are right on average for tiles like those that the model was calibrated on. Where
pools are rarer than among those, the sums are too high.
"""

import math
from pathlib import Path

import numpy as np
import polars as pl
from scipy.stats import poisson_binom

from capetown.city import CLASSES
from capetown.errors import CapetownError, one_line
from capetown.pools.prediction.predictions import CELL, DECISION, PATH, PROBABILITY, shared_area
from capetown.requests.hexagons import Hexagons

# Share of the tiles' area that others may show, too, before it deserves a word: neighbours whose
# outlines are rounded touch.
OVERLAP = 0.01
QUANTILES = (0.025, 0.975)


def count_pools(
    hexagons: Hexagons, predictions: pl.DataFrame, requests: pl.DataFrame | None
) -> pl.DataFrame:
    """Tiles with a pool by hexagon, as the module's description says.

    Args:
        hexagons: the City's.
        predictions: as `predictions.read_predictions` gives them.
        requests: as `read_requests` gives them; none if they are not at hand.
    """
    by_cell = predictions.group_by(pl.col(CELL).alias("index")).agg(
        tiles=pl.col(PROBABILITY).count(),
        unread=pl.col(PROBABILITY).null_count(),
        called=(pl.col(DECISION) == CLASSES[1]).sum(),
        each=pl.col(PROBABILITY).drop_nulls(),
    )
    table = hexagons.index.to_frame().join(by_cell, "index", how="left", maintain_order="left")
    rows: list[tuple[float | None, int | None, int | None]] = [
        (math.fsum(each), *interval(each)) if each else (None, None, None)
        for each in table["each"].fill_null([]).to_list()
    ]
    expected = pl.DataFrame(
        rows,
        orient="row",
        schema={"pools_expected": pl.Float64, "pools_low": pl.Int64, "pools_high": pl.Int64},
    )
    counts = table.select("index", *(pl.col(n).fill_null(0).cast(pl.Int64) for n in
                                     ("tiles", "unread", "called")))  # fmt: skip
    nothing = pl.DataFrame(schema={"index": pl.String, "requests": pl.Int64})
    return (
        counts.hstack(expected)
        .join(nothing if requests is None else requests, "index", how="left", maintain_order="left")
        .select(
            "index", "tiles", "unread", "pools_expected", "pools_low", "pools_high", "called",
            "requests",
        )
    )  # fmt: skip


def interval(probabilities: list[float]) -> tuple[int, int]:
    """The central 95 % interval of how many of some tiles have a pool.

    Exact quantiles of the Poisson-binomial distribution, which a sum of independent outcomes has,
    each with a probability of its own (Biscarri, Zhao and Brunner 2018, as scipy computes it). It
    holds what chance alone does to calibrated probabilities; a model that is wrong in the same way
    about neighbouring tiles errs by more.

    Args:
        probabilities: at least one.
    """
    counts = np.arange(len(probabilities) + 1)
    low, high = np.searchsorted(poisson_binom.cdf(counts, probabilities), QUANTILES)
    return int(low), int(high)


def read_requests(path: Path) -> pl.DataFrame | None:
    """The requests of each hexagon; none if the file is not there.

    Args:
        path: `hexes/counts.parquet`.

    Raises:
        CapetownError: the file cannot be read, or is another.
    """
    if not path.exists():
        return None
    try:
        columns = pl.scan_parquet(path).select(pl.col("index").cast(pl.String), "requests")
        return columns.cast({"requests": pl.Int64}).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CapetownError(
            f"{path}: cannot be read ({one_line(error)}); `dvc repro transform` makes it anew"
        ) from error


def notes(predictions: pl.DataFrame, table: pl.DataFrame) -> list[str]:
    """What a reader of the counts should know: tiles that are not in them, or twice; a line each.

    Args:
        predictions: as `count_pools` takes them.
        table: as it gives it.
    """
    cell = pl.col(CELL)
    found = []
    for what, which in {
        "have no place on Earth and count nowhere": cell.is_null(),
        "lie outside the hexagons and count nowhere": ~cell.is_in(table["index"].implode()),
        "could not be read and count as unread": cell.is_not_null() & pl.col(PROBABILITY).is_null(),
    }.items():
        if len(tiles := predictions.filter(which)):
            found.append(f"{len(tiles):,} tiles {what}, such as {tiles[PATH][0]}")
    if (share := shared_area(predictions)) > OVERLAP:
        found.append(
            f"{share:.0%} of the tiles' area repeats what others show: what lies there counts in "
            "each of them"
        )
    if table["requests"].null_count() not in (0, len(table)):
        found.append(
            f"{table['requests'].null_count():,} hexagons are not among those whose requests are "
            "known"
        )
    return found
