"""Significance of a difference between two models on the same tiles.

If two models are equally good, nothing changes when they exchange their answers on any group of
tiles that are alike. So the answers are exchanged on groups drawn by lot, many times: a difference
counts as real when hardly any of the exchanges gives as large a one. Of few groups there are few
exchanges, and nothing can be told. The test is that of Venkatraman and Begg 1996, "A distribution-
free procedure for comparing receiver operating characteristic curves from a paired experiment", on
whole groups: models are exchanged by their ranks, since one may be surer than the other and no
better.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from capetown.pools.metrics import METRICS, Floats, Labels, weighted_scores

# Of a difference that is called real, when there is none.
ALPHA = 0.05
# The least p-value is one in as many: after Holm's correction there is room for a hundred tests.
N_PERMUTATIONS = 2000
# Of exchanges at once, so that those of many tiles fit into memory.
BATCH = 250


def p_values(
    labels: Labels,
    probabilities: tuple[Floats, Floats],
    called: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]],
    groups: npt.NDArray[np.str_],
    *,
    exchanges: int,
    seed: int,
) -> dict[str, float]:
    """The p-value of each metric's difference between two equally good models, two-sided.

    Args:
        labels: shape (tiles,).
        probabilities: of each model, shape (tiles,).
        called: its calls of ``yes``, likewise.
        groups: the group of each tile.
        exchanges: how many at most.
        seed: another seed draws others.
    """
    twice = np.tile(labels, 2)
    ranks = np.concatenate([rankdata(values) / len(values) for values in probabilities])
    calls = np.concatenate(called).astype(np.float64)
    names, group = np.unique(groups, return_inverse=True)
    drawn = _exchanges(len(names), exchanges, seed)
    as_large = dict.fromkeys(METRICS, 0)
    least: dict[str, float] = {}
    for start in range(0, len(drawn), BATCH):
        moved = drawn[start : start + BATCH][:, group].astype(np.float64)
        one, other = np.hstack([1 - moved, moved]), np.hstack([moved, 1 - moved])
        both = np.vstack([one, other])
        by_rank = weighted_scores(twice, ranks, 0.5, both)
        by_call = weighted_scores(twice, calls, 0.5, both)
        for name, metric in METRICS.items():
            values = (by_call if metric.at_threshold else by_rank)[name]
            size = np.abs(np.subtract(*np.split(values, 2)))
            # Sums in another order differ in the last digits.
            least.setdefault(name, float(size[0]) - 1e-9)
            as_large[name] += int((size >= least[name]).sum())
    return {name: count / len(drawn) for name, count in as_large.items()}


def _exchanges(groups: int, count: int, seed: int) -> npt.NDArray[np.bool_]:
    """Groups on which answers are exchanged, none of them first, shape (exchanges, groups).

    All that there are, or where they are more than `count` as many drawn by lot.
    """
    if 2**groups <= count:
        return np.asarray((np.arange(2**groups)[:, None] >> np.arange(groups)) % 2 == 1)
    drawn = np.random.default_rng(seed).random((count, groups)) < 0.5
    return np.vstack([np.zeros((1, groups), bool), drawn])


def holm(p_values: Sequence[float]) -> Floats:
    """p-values that hold for all tests together: Holm 1979, "A simple sequentially rejective …"."""
    order = np.argsort(p_values)
    scaled = np.sort(p_values) * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return corrected


def has_power(groups: int, tests: int) -> bool:
    """True if the largest difference there can be would be called real.

    Of 2 ** groups exchanges two show it: the answers as they are, and all of them exchanged.
    """
    return bool(2.0 ** (1 - groups) * tests <= ALPHA)
