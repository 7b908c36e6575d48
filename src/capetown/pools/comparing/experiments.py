"""Experiments side by side on the same tiles, and whether their differences are more than noise.

Two models that judge the same tiles are compared tile by tile: every resample of the map sheets
gives both their metrics, and the interval is that of the difference. It is far narrower than the
two models' own intervals would suggest, since a hard sheet is hard for both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from capetown.city import CLASSES
from capetown.errors import CapetownError
from capetown.pools.scoring import (
    FEWEST_SHEETS,
    METRICS,
    Floats,
    resampled_weights,
    weighted_scores,
)
from capetown.pools.tiles.reading import sheet_of


@dataclass(frozen=True)
class Experiment:
    """What an experiment said of its test tiles.

    Attributes:
        name: its Git revision or its name among DVC's experiments.
        predictions: path, label and probability, a row a tile.
        threshold: the model's.
    """

    name: str
    predictions: pd.DataFrame
    threshold: float


@dataclass(frozen=True)
class Comparison:
    """Experiments on the tiles that all of them judged.

    Attributes:
        tiles: path, label, sheet, and a column ``probability: NAME`` and one ``right: NAME`` for
            each experiment.
        left_out: tiles that not all judged, or with different labels.
        metrics: a row an experiment, a column a metric.
        differences: of each experiment but the first from the first: experiment, metric,
            difference, low and high (95 % interval), and verdict; on fewer than `FEWEST_SHEETS`
            sheets no interval, and the verdict says so.
    """

    tiles: pd.DataFrame
    left_out: int
    metrics: pd.DataFrame
    differences: pd.DataFrame

    @property
    def sheets(self) -> int:
        """Map sheets that the tiles lie on."""
        return int(self.tiles["sheet"].nunique())


def compare(experiments: Sequence[Experiment], *, resamples: int, seed: int) -> Comparison:
    """Compare experiments with the first of them.

    Args:
        experiments: two or more, with different names.
        resamples: of the map sheets.
        seed: another seed gives other resamples.

    Raises:
        CapetownError: if there are not two, two names are equal, or the tiles that all judged are
            none or of one class.
    """
    names = [experiment.name for experiment in experiments]
    if len(names) < 2:
        raise CapetownError(f"{', '.join(names)}: name two or more experiments to compare.")
    if len(set(names)) < len(names):
        raise CapetownError(f"{', '.join(names)}: name each experiment once.")
    tiles = _common(experiments)
    every = pd.concat([e.predictions["path"] for e in experiments]).nunique()
    if tiles.empty:
        raise CapetownError(
            f"{', '.join(names)}: no test tile that all of them judged with one label; compare "
            "experiments with the same data, `split` and `seed`."
        )
    if tiles["label"].nunique() == 1:
        raise CapetownError(
            f"{', '.join(names)}: all test tiles that they share are `{tiles['label'][0]}`, and "
            "the metrics need both classes; compare experiments with the same data, `split` and "
            "`seed`."
        )
    labels = tiles["label"].map(CLASSES.index).to_numpy(np.int64)
    resampled = resampled_weights(tiles["sheet"].to_numpy(np.str_), resamples=resamples, seed=seed)
    sheets = tiles["sheet"].nunique()
    weights = np.vstack([np.ones((1, len(tiles))), resampled])
    scores = {}
    for experiment in experiments:
        probabilities = tiles[f"probability: {experiment.name}"].to_numpy(np.float64)
        called = probabilities >= experiment.threshold
        tiles[f"right: {experiment.name}"] = called == (labels == 1)
        scores[experiment.name] = weighted_scores(
            labels, probabilities, experiment.threshold, weights
        )
    base = scores[names[0]]
    rows = []
    for name in names[1:]:
        for metric in METRICS:
            difference = scores[name][metric] - base[metric]
            rows.append((name, metric, difference[0], *_judged(difference[1:], sheets)))
    return Comparison(
        tiles=tiles,
        left_out=every - len(tiles),
        metrics=pd.DataFrame(
            {metric: [scores[name][metric][0] for name in names] for metric in METRICS},
            index=pd.Index(names, name="experiment"),
        ),
        differences=pd.DataFrame(
            rows, columns=["experiment", "metric", "difference", "low", "high", "verdict"]
        ),
    )


def changed_sides(comparison: Comparison, base: str, other: str) -> pd.DataFrame:
    """The tiles that one experiment got right and another wrong.

    Returns:
        path, label, both probabilities as ``before`` and ``after``, and ``now``: right or wrong;
        the largest change first.
    """
    tiles = comparison.tiles
    table = pd.DataFrame(
        {
            "path": tiles["path"],
            "label": tiles["label"],
            "before": tiles[f"probability: {base}"],
            "after": tiles[f"probability: {other}"],
            "now": np.where(tiles[f"right: {other}"], "right", "wrong"),
        }
    )
    changed = table[tiles[f"right: {base}"] != tiles[f"right: {other}"]]
    by_change = (changed["after"] - changed["before"]).abs().sort_values(ascending=False).index
    return changed.loc[by_change].sort_values("now", kind="stable")


def _judged(differences: Floats, sheets: int) -> tuple[float, float, str]:
    """The 95 % interval of resampled differences, and what it says."""
    if sheets < FEWEST_SHEETS:
        return np.nan, np.nan, "too few sheets to tell"
    low, high = np.nanpercentile(differences, [2.5, 97.5])
    return low, high, "better" if low > 0 else "worse" if high < 0 else "within noise"


def _common(experiments: Sequence[Experiment]) -> pd.DataFrame:
    """The tiles that all experiments judged and that have one label in all."""
    first, *others = (
        e.predictions.rename(columns={"probability": f"probability: {e.name}"}) for e in experiments
    )
    for other in others:
        first = first.merge(other, on=["path", "label"])
    table = first.sort_values("path", ignore_index=True)
    return table.assign(sheet=table["path"].map(sheet_of))
