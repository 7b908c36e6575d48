"""Comparison of experiments on the same tiles, and the significance of their differences.

Models are compared tile by tile. Every resample of groups of alike tiles gives both models'
metrics, and the interval is that of their difference. It is far narrower than the models' own
intervals suggest, since a hard group is hard for both. The verdict covers all differences together:
see `permutation_test`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
import pandas as pd

from capetown.city import CLASSES
from capetown.errors import CapetownError
from capetown.params import GroupsSource
from capetown.pools.dataset.groups import name_group
from capetown.pools.dataset.split import merged
from capetown.pools.evaluation.permutation_test import (
    ALPHA,
    N_PERMUTATIONS,
    has_power,
    holm,
    permutation_p_values,
)
from capetown.pools.metrics import (
    METRICS,
    MIN_GROUPS_FOR_CI,
    Floats,
    resampled_weights,
    weighted_scores,
)

# Metrics that trade off against each other when the threshold moves.
TRADED = ("precision", "recall")


@dataclass(frozen=True)
class Experiment:
    """An experiment's predictions for its test tiles."""

    name: str  # its Git revision or its name among DVC's experiments
    predictions: pd.DataFrame  # path, label, probability; group unless names tell; a row per tile
    threshold: float  # the model's
    params: Mapping[str, object]  # by dotted keys
    groups_source: GroupsSource = "names"


@dataclass(frozen=True)
class Comparison:
    """Experiments on their common tiles.

    The columns of `differences` from the baseline are experiment, metric, difference, low and high
    (the 95 % interval, NaN with fewer than `MIN_GROUPS_FOR_CI` groups), and verdict.
    """

    tiles: pd.DataFrame  # path, label, group, and per experiment `probability: NAME`, `right: NAME`
    left_out: int  # tiles that some experiment lacks or labels differently
    metrics: pd.DataFrame  # one row per experiment, one column per metric, and `threshold`
    differences: pd.DataFrame
    params: pd.DataFrame  # those that differ, one row per param, one column per experiment
    groups_source: GroupsSource  # of all experiments; ``table`` if they differ
    by_sheet: bool  # True if groups from names are whole map sheets, False if they are blocks
    at_chance: Sequence[str]  # experiments whose 95 % interval of the ROC AUC includes 0.5

    @property
    def groups(self) -> int:
        """The number of groups."""
        return int(self.tiles["group"].nunique())


def compare(
    experiments: Sequence[Experiment],
    *,
    resamples: int,
    seed: int,
    permutations: int = N_PERMUTATIONS,
) -> Comparison:
    """Compare experiments with the first, the baseline.

    A verdict is ``better`` or ``worse`` if Holm's correction over all differences keeps it: equally
    good models get any such verdict in at most 5 % of comparisons. Others are ``within noise``, or
    ``cannot tell`` with too few groups. ``from the threshold`` is a difference in precision or
    recall that disappears if both models predict equally many pools.

    Raises:
        CapetownError: fewer than two experiments, a repeated name, or no common tiles of both
            classes.
    """
    names = [experiment.name for experiment in experiments]
    where = ", ".join(names)
    if len(names) < 2:
        raise CapetownError("one experiment", where=where, fix="name two or more to compare")
    if len(set(names)) < len(names):
        raise CapetownError("repeated experiment", where=where, fix="name each once")
    by_sheet = any(e.params.get("split.strategy") == "sheet" for e in experiments)
    sources = {experiment.groups_source for experiment in experiments}
    tiles = _common(experiments, by_sheet=by_sheet)
    every = pd.concat([e.predictions["path"] for e in experiments]).nunique()
    if tiles["label"].nunique() < len(CLASSES):
        found = " and ".join(tiles["label"].unique()) or "none"
        raise CapetownError(
            f"the common test tiles lack a class (found: {found})", where=where,
            fix="compare experiments with the same data, `split` and `seed`",
        )  # fmt: skip
    labels = tiles["label"].map(CLASSES.index).to_numpy(np.int64)
    groups = tiles["group"].to_numpy(np.str_)
    resampled = resampled_weights(groups, resamples=resamples, seed=seed)
    weights = np.vstack([np.ones((1, len(tiles))), resampled])
    probabilities, called, scores = {}, {}, {}
    for experiment in experiments:
        name = experiment.name
        probabilities[name] = tiles[f"probability: {name}"].to_numpy(np.float64)
        called[name] = probabilities[name] >= experiment.threshold
        tiles[f"right: {name}"] = called[name] == (labels == 1)
        scores[name] = weighted_scores(labels, probabilities[name], experiment.threshold, weights)
    group_count = tiles["group"].nunique()
    enough = group_count >= MIN_GROUPS_FOR_CI
    base, *others = names
    rows = []
    for name in others:
        same_count = _called_like(probabilities[name], called[base].sum())
        own, matched = (
            permutation_p_values(
                labels, (probabilities[base], probabilities[name]), (called[base], calls), groups,
                permutations=permutations, seed=seed,
            )
            for calls in (called[name], same_count)
        )  # fmt: skip
        for metric in METRICS:
            difference = scores[name][metric] - scores[base][metric]
            low, high = np.nanpercentile(difference[1:], [2.5, 97.5]) if enough else [np.nan] * 2
            traded = metric in TRADED and matched[metric] > ALPHA
            rows.append((name, metric, difference[0], low, high, own[metric], traded))
    table = pd.DataFrame(
        rows, columns=["experiment", "metric", "difference", "low", "high", "p_value", "traded"]
    )
    return Comparison(
        tiles=tiles,
        left_out=every - len(tiles),
        metrics=pd.DataFrame(
            {metric: [scores[name][metric][0] for name in names] for metric in METRICS}
            | {"threshold": [experiment.threshold for experiment in experiments]},
            index=pd.Index(names, name="experiment"),
        ),
        differences=table.assign(verdict=_verdicts(table, group_count)).drop(
            columns=["p_value", "traded"]
        ),
        params=_different(experiments),
        groups_source=sources.pop() if len(sources) == 1 else "table",
        by_sheet=by_sheet,
        at_chance=[
            name
            for name in names
            if enough and np.nanpercentile(scores[name]["roc_auc"][1:], 2.5) <= 0.5
        ],
    )


def changed_sides(comparison: Comparison, base: str, other: str) -> pd.DataFrame:
    """The tiles that one experiment gets right and another wrong, the largest change first.

    Columns: path, label, the probabilities ``before`` and ``after``, ``now`` (right or wrong).
    """
    tiles = comparison.tiles
    table = tiles[["path", "label"]].assign(
        before=tiles[f"probability: {base}"],
        after=tiles[f"probability: {other}"],
        now=np.where(tiles[f"right: {other}"], "right", "wrong"),
    )
    changed = table[tiles[f"right: {base}"] != tiles[f"right: {other}"]]
    by_change = (changed["after"] - changed["before"]).abs().sort_values(ascending=False).index
    return changed.loc[by_change].sort_values("now", kind="stable")


def _called_like(probabilities: Floats, count: int) -> npt.NDArray[np.bool_]:
    """The `count` tiles of highest probability, and those tied with the last."""
    if not count:
        return np.zeros(len(probabilities), bool)
    return np.asarray(probabilities >= np.sort(probabilities)[-count])


def _verdicts(table: pd.DataFrame, groups: int) -> list[str]:
    if not has_power(groups, len(table)):
        return ["cannot tell"] * len(table)
    significant = holm(table["p_value"].tolist()) <= ALPHA
    direction = np.where(table["difference"] > 0, "better", "worse")
    names = np.where(table["traded"], "from the threshold", direction)
    return list(np.where(significant, names, "within noise"))


def _different(experiments: Sequence[Experiment]) -> pd.DataFrame:
    """The params that differ between experiments."""
    table = pd.DataFrame({e.name: pd.Series(e.params, dtype=object) for e in experiments})
    return table[table.map(repr).nunique(axis="columns") > 1].sort_index()


def _common(experiments: Sequence[Experiment], *, by_sheet: bool) -> pd.DataFrame:
    """The tiles that all experiments predicted and label alike, with their groups.

    Groups of different experiments that share a tile are merged.
    """
    first, *others = (
        e.predictions.rename(
            columns={"probability": f"probability: {e.name}", "group": f"group: {e.name}"}
        )
        for e in experiments
    )
    for other in others:
        first = first.merge(other, on=["path", "label"])
    table = first.sort_values("path", ignore_index=True)
    by_name = [name_group(path, by_sheet=by_sheet) or path for path in table["path"]]
    groups = (list(table.get(f"group: {e.name}", default=by_name)) for e in experiments)
    return table.assign(group=reduce(merged, groups))
