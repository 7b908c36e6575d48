"""Experiments side by side on the same tiles, and whether their differences are more than noise.

Two models that judge the same tiles are compared tile by tile: every resample of groups of tiles
that are alike gives both their metrics, and the interval is that of the difference. It is far
narrower than the two models' own intervals would suggest, since a hard group is hard for both. The
verdict takes all differences together; see `significance`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from capetown.city import CLASSES
from capetown.errors import CapetownError
from capetown.pools.dataset.listing import Tile, sheet_of
from capetown.pools.dataset.split import group_of
from capetown.pools.evaluation.permutation_test import (
    ALPHA,
    N_PERMUTATIONS,
    has_power,
    holm,
    p_values,
)
from capetown.pools.metrics import (
    METRICS,
    MIN_GROUPS_FOR_CI,
    Floats,
    resampled_weights,
    weighted_scores,
)

# Another threshold gives more of the one for less of the other.
TRADED = ("precision", "recall")


@dataclass(frozen=True)
class Experiment:
    """An experiment's judgement of its test tiles.

    Attributes:
        name: its Git revision or its name among DVC's experiments.
        predictions: path, label and probability, a row a tile.
        threshold: the model's.
        params: what it was run with, by dotted keys.
    """

    name: str
    predictions: pd.DataFrame
    threshold: float
    params: Mapping[str, object]


@dataclass(frozen=True)
class Comparison:
    """Experiments on the tiles that all of them judged.

    Attributes:
        tiles: path, label, group, and a column ``probability: NAME`` and one ``right: NAME`` for
            each experiment.
        left_out: tiles that not all judged, or with different labels.
        metrics: a row an experiment, a column a metric, and ``threshold``.
        differences: of each experiment but the first from the first: experiment, metric,
            difference, low and high (its 95 % interval; none on fewer than `FEWEST_SHEETS`
            groups), and verdict.
        params: a row for each that is not the same in all, a column an experiment.
        by_sheet: True if the groups are whole map sheets, False if they are blocks of them.
        at_chance: experiments whose ROC AUC may be one half, by its 95 % interval.
    """

    tiles: pd.DataFrame
    left_out: int
    metrics: pd.DataFrame
    differences: pd.DataFrame
    params: pd.DataFrame
    by_sheet: bool
    at_chance: Sequence[str]

    @property
    def groups(self) -> int:
        """Groups of tiles that are alike."""
        return int(self.tiles["group"].nunique())


def compare(
    experiments: Sequence[Experiment], *, resamples: int, seed: int, exchanges: int = N_PERMUTATIONS
) -> Comparison:
    """Compare experiments with the first of them.

    A verdict is ``better`` or ``worse`` when Holm's correction over all differences leaves at most
    one in twenty comparisons of equal models with any such verdict; otherwise ``within noise``, or
    ``cannot tell`` where there are too few groups for any other. ``from the threshold`` is a
    difference in precision or recall that goes when both models call as many tiles.

    Args:
        experiments: two or more, with different names.
        resamples: of the groups, for the intervals.
        seed: another seed gives other resamples.
        exchanges: of answers, for the verdicts.

    Raises:
        CapetownError: if there are not two, two names are equal, or the tiles that all judged are
            none or of one class.
    """
    names = [experiment.name for experiment in experiments]
    if len(names) < 2:
        raise CapetownError(f"{', '.join(names)}: name two or more experiments to compare.")
    if len(set(names)) < len(names):
        raise CapetownError(f"{', '.join(names)}: name each experiment once.")
    by_sheet = any(e.params.get("split.strategy") == "sheet" for e in experiments)
    tiles = _common(experiments, by_sheet=by_sheet)
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
    groups = tiles["group"].to_numpy(np.str_)
    resampled = resampled_weights(groups, resamples=resamples, seed=seed)
    weights = np.vstack([np.ones((1, len(tiles))), resampled])
    said, called, scores = {}, {}, {}
    for experiment in experiments:
        name = experiment.name
        said[name] = tiles[f"probability: {name}"].to_numpy(np.float64)
        called[name] = said[name] >= experiment.threshold
        tiles[f"right: {name}"] = called[name] == (labels == 1)
        scores[name] = weighted_scores(labels, said[name], experiment.threshold, weights)
    enough = tiles["group"].nunique() >= MIN_GROUPS_FOR_CI
    base, *others = names
    rows = []
    for name in others:
        alike = _as_many(said[name], called[base].sum())

        def by_lot(calls: npt.NDArray[np.bool_], name: str = name) -> dict[str, float]:
            return p_values(
                labels, (said[base], said[name]), (called[base], calls), groups,
                exchanges=exchanges, seed=seed,
            )  # fmt: skip

        own, matched = by_lot(called[name]), by_lot(alike)
        for metric in METRICS:
            difference = scores[name][metric] - scores[base][metric]
            low, high = np.nanpercentile(difference[1:], [2.5, 97.5]) if enough else [np.nan] * 2
            traded = metric in TRADED and matched[metric] > ALPHA
            rows.append((name, metric, difference[0], low, high, own[metric], traded))
    table = pd.DataFrame(
        rows, columns=["experiment", "metric", "difference", "low", "high", "chance", "traded"]
    )
    return Comparison(
        tiles=tiles,
        left_out=every - len(tiles),
        metrics=pd.DataFrame(
            {metric: [scores[name][metric][0] for name in names] for metric in METRICS}
            | {"threshold": [experiment.threshold for experiment in experiments]},
            index=pd.Index(names, name="experiment"),
        ),
        differences=table.assign(verdict=_verdicts(table, tiles["group"].nunique())).drop(
            columns=["chance", "traded"]
        ),
        params=_different(experiments),
        by_sheet=by_sheet,
        at_chance=[
            name
            for name in names
            if enough and np.nanpercentile(scores[name]["roc_auc"][1:], 2.5) <= 0.5
        ],
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


def _as_many(probabilities: Floats, wanted: int) -> npt.NDArray[np.bool_]:
    """Calls by the threshold at which a model calls as many tiles as wanted, or ties allow."""
    if not wanted:
        return np.zeros(len(probabilities), bool)
    return np.asarray(probabilities >= np.sort(probabilities)[-wanted])


def _verdicts(table: pd.DataFrame, groups: int) -> list[str]:
    if not has_power(groups, len(table)):
        return ["cannot tell"] * len(table)
    real = holm(table["chance"].tolist()) <= ALPHA
    direction = np.where(table["difference"] > 0, "better", "worse")
    names = np.where(table["traded"], "from the threshold", direction)
    return list(np.where(real, names, "within noise"))


def _different(experiments: Sequence[Experiment]) -> pd.DataFrame:
    """The params that are not the same in all experiments."""
    table = pd.DataFrame({e.name: pd.Series(e.params, dtype=object) for e in experiments})
    told = table.map(repr).nunique(axis="columns") > 1
    return table[told].sort_index()


def _common(experiments: Sequence[Experiment], *, by_sheet: bool) -> pd.DataFrame:
    """The tiles that all experiments judged and that have one label in all, with their groups."""

    def group(path: str) -> str:
        return group_of(Tile(path, "", sheet_of(path)), "sheet" if by_sheet else "block")

    first, *others = (
        e.predictions.rename(columns={"probability": f"probability: {e.name}"}) for e in experiments
    )
    for other in others:
        first = first.merge(other, on=["path", "label"])
    table = first.sort_values("path", ignore_index=True)
    return table.assign(group=table["path"].map(group))
