"""Permutation test of the difference between two models on the same tiles.

If two models are equally good, exchanging their predictions on any group of alike tiles changes
nothing. The test exchanges them on random sets of groups: a difference is significant if few
exchanges give one as large. This is the test of Venkatraman and Begg 1996, "A distribution-free
procedure for comparing receiver operating characteristic curves from a paired experiment", on whole
groups. It exchanges ranks, since one model may be more confident than the other without being
better.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from capetown.pools.metrics import METRICS, Floats, Labels, weighted_scores

# The accepted probability of finding a difference between equally good models.
ALPHA = 0.05
# The smallest p-value is 1 in as many, so Holm's correction leaves room for a hundred tests.
N_PERMUTATIONS = 2000
# Permutations at once, so that they fit into memory.
BATCH = 250


def permutation_p_values(
    labels: Labels,
    probabilities: tuple[Floats, Floats],
    called: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]],
    groups: npt.NDArray[np.str_],
    *,
    permutations: int,
    seed: int,
) -> dict[str, float]:
    """The two-sided p-value of each metric's difference between two models.

    Args:
        labels: shape (tiles,).
        probabilities: of each model, shape (tiles,).
        called: tiles that each model predicts as ``yes``, shape (tiles,).
        groups: the group of each tile, shape (tiles,).
        permutations: how many at most.
        seed: of the random permutations.
    """
    twice = np.tile(labels, 2)
    ranks = np.concatenate([rankdata(values) / len(values) for values in probabilities])
    calls = np.concatenate(called).astype(np.float64)
    names, group = np.unique(groups, return_inverse=True)
    drawn = _permutations(len(names), permutations, seed)
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
            # The order of a sum changes its last digits.
            least.setdefault(name, float(size[0]) - 1e-9)
            as_large[name] += int((size >= least[name]).sum())
    return {name: count / len(drawn) for name, count in as_large.items()}


def _permutations(groups: int, count: int, seed: int) -> npt.NDArray[np.bool_]:
    """The groups that each permutation exchanges, shape (permutations, groups).

    The first exchanges none. These are all possible ones, or `count` random ones if there are more.
    """
    if 2**groups <= count:
        return np.asarray((np.arange(2**groups)[:, None] >> np.arange(groups)) % 2 == 1)
    drawn = np.random.default_rng(seed).random((count, groups)) < 0.5
    return np.vstack([np.zeros((1, groups), bool), drawn])


def holm(p_values: Sequence[float]) -> Floats:
    """Corrected p-values: Holm 1979, "A simple sequentially rejective multiple test procedure"."""
    order = np.argsort(p_values)
    scaled = np.sort(p_values) * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return corrected


def has_power(groups: int, tests: int) -> bool:
    """True if the smallest attainable p-value, after Holm's correction, is at most `ALPHA`.

    Two of the 2 ** groups permutations give the largest difference: none and all exchanged.
    """
    return bool(2.0 ** (1 - groups) * tests <= ALPHA)
