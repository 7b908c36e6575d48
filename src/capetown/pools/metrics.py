"""Metrics of probabilities, their intervals, the threshold and calibration.

Labels are 0 for ``no`` and 1 for ``yes``; a tile is called ``yes`` when its probability is at least
the threshold.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit

# Sheets that a bootstrap by sheet needs. The percentile that bounds a 95 % interval takes forty
# resamples to be one of them; four sheets have 35 different ones, five have 126.
MIN_GROUPS_FOR_CI = 5
Aim = Literal["balanced_accuracy", "f1"]
Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


class Tally(NamedTuple):
    """Weights of tiles that the metrics are made of, under many weightings at once.

    Attributes:
        hits: tiles with a pool that are called ``yes``, shape (weightings,).
        alarms: tiles without one that are called ``yes``.
        positives: tiles with a pool.
        negatives: tiles without one.
        found: tiles with a pool down to each distinct probability, from the highest, shape
            (weightings, distinct).
        false: tiles without one, likewise.
    """

    hits: Floats
    alarms: Floats
    positives: Floats
    negatives: Floats
    found: Floats
    false: Floats


def _balanced_accuracy(tally: Tally) -> Floats:
    specificity = 1 - tally.alarms / tally.negatives
    return (tally.hits / tally.positives + specificity) / 2


def _average_precision(tally: Tally) -> Floats:
    precision = np.nan_to_num(tally.found / (tally.found + tally.false))
    steps = tally.found - _before(tally.found)
    return np.asarray((steps * precision).sum(axis=1) / tally.positives)


def _precision(tally: Tally) -> Floats:
    called = tally.hits + tally.alarms
    return np.where(called > 0, tally.hits / called, 0.0)


def _recall(tally: Tally) -> Floats:
    return tally.hits / tally.positives


def _roc_auc(tally: Tally) -> Floats:
    steps = tally.false - _before(tally.false)
    twice = (steps * (tally.found + _before(tally.found))).sum(axis=1)
    return np.asarray(twice / (2 * tally.positives * tally.negatives))


def _before(cumulated: Floats) -> Floats:
    return np.pad(cumulated[:, :-1], ((0, 0), (1, 0)))


class Metric(NamedTuple):
    """A metric of a classifier: all that text, tables and figures need to know of it.

    Attributes:
        name: as people write it.
        meaning: for a reader who has not met it, with what guessing gives.
        at_threshold: False if it is taken over all thresholds.
        value: computes it, as scikit-learn defines it; shape (weightings,).
    """

    name: str
    meaning: str
    at_threshold: bool
    value: Callable[[Tally], Floats]


METRICS = {
    "balanced_accuracy": Metric(
        "balanced accuracy",
        "The share of tiles with a pool that are found and the share of tiles without one that are "
        "left alone, averaged. Guessing gives 50 %.",
        True,
        _balanced_accuracy,
    ),
    "average_precision": Metric(
        "average precision",
        "How well the tiles with a pool come first when all are sorted by the model's probability. "
        "Guessing gives the share of tiles with a pool.",
        False,
        _average_precision,
    ),
    "precision": Metric(
        "precision",
        "Of the tiles that the model says have a pool, the share that do.",
        True,
        _precision,
    ),
    "recall": Metric(
        "recall", "Of the tiles with a pool, the share that the model finds.", True, _recall
    ),
    "roc_auc": Metric(
        "ROC AUC",
        "Show the model a tile with a pool and one without: how often it gives the first the "
        "higher probability. Guessing gives 50 %.",
        False,
        _roc_auc,
    ),
}


def score(labels: Labels, probabilities: Floats, threshold: float) -> dict[str, float]:
    """The metrics of `METRICS`; NaN for one that needs both classes where only one is there.

    Precision is 0 where nothing is called ``yes``.
    """
    weights = np.ones((1, len(labels)))
    scores = weighted_scores(labels, probabilities, threshold, weights)
    return {name: float(values[0]) for name, values in scores.items()}


def weighted_scores(
    labels: Labels, probabilities: Floats, threshold: float, weights: Floats
) -> dict[str, Floats]:
    """The metrics under many weightings of the tiles at once.

    Args:
        labels: shape (tiles,).
        probabilities: shape (tiles,).
        threshold: of the probability.
        weights: at least 0, shape (weightings, tiles).

    Returns:
        Each metric's value, shape (weightings,); NaN where a weighting leaves out a class.
    """
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order]
    # Weight of true and of false positives if all down to some tile are called `yes`; thresholds
    # lie only between tiles of different probability.
    ends = np.append(ranked[1:] != ranked[:-1], True)
    found = np.cumsum(weights[:, order] * labels[order], axis=1)[:, ends]
    false = np.cumsum(weights[:, order] * (1 - labels[order]), axis=1)[:, ends]
    called = probabilities >= threshold
    tally = Tally(
        hits=weights @ (called & (labels == 1)),
        alarms=weights @ (called & (labels == 0)),
        positives=found[:, -1],
        negatives=false[:, -1],
        found=found,
        false=false,
    )
    both = (tally.positives > 0) & (tally.negatives > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {key: np.where(both, metric.value(tally), np.nan) for key, metric in METRICS.items()}


def bootstrap_intervals(
    labels: Labels,
    probabilities: Floats,
    threshold: float,
    groups: npt.NDArray[np.str_],
    *,
    resamples: int,
    seed: int,
) -> dict[str, list[float]]:
    """95 % percentile intervals of the metrics, resampling whole groups.

    Tiles of one sheet are alike, so single tiles would make the intervals too narrow. Resamples
    that miss a class are left out.

    Returns:
        The 2.5th and 97.5th percentile of each metric.
    """
    weights = resampled_weights(groups, resamples=resamples, seed=seed)
    scores = weighted_scores(labels, probabilities, threshold, weights)
    return {
        name: [float(bound) for bound in np.nanpercentile(values, [2.5, 97.5])]
        for name, values in scores.items()
    }


def resampled_weights(groups: npt.NDArray[np.str_], *, resamples: int, seed: int) -> Floats:
    """The times that each tile is in each resample of whole groups, shape (resamples, tiles)."""
    names, group = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return np.asarray(times[:, group], dtype=np.float64)


def choose_threshold(
    labels: Labels, probabilities: Floats, aim: Aim, *, errors: float = 0.0
) -> float:
    """The threshold that maximises balanced accuracy or F1.

    Candidates lie halfway between neighbouring probabilities; of equally good ones the nearest to
    one half is taken. The highest of many values on a few hundred tiles is partly luck, so that as
    good counts what is within some standard errors of the best: with one, this is the rule of
    Breiman et al. 1984, "Classification and Regression Trees".

    Args:
        labels: shape (tiles,).
        probabilities: likewise.
        aim: what to maximise.
        errors: standard errors of the best balanced accuracy; F1 has no simple one.
    """
    distinct = np.unique(probabilities)
    halfway = (distinct[:-1] + distinct[1:]) / 2
    # Halfway between numbers that are next to each other is the lower one.
    halfway = np.where(halfway > distinct[:-1], halfway, distinct[1:])
    candidates = np.concatenate([distinct[:1], halfway])
    called = probabilities >= candidates[:, None]
    hits = (called & (labels == 1)).sum(axis=1)
    alarms = (called & (labels == 0)).sum(axis=1)
    positives, negatives = (labels == 1).sum(), (labels == 0).sum()
    error = 0.0
    if aim == "f1":
        values = 2 * hits / (positives + hits + alarms)
    else:
        found, false = hits / positives, alarms / negatives
        values = found - false
        variances = found * (1 - found) / positives + false * (1 - false) / negatives
        error = float(np.sqrt(variances[np.argmax(values)]))
    best = candidates[values >= values.max() - errors * error - 1e-12]
    return float(best[np.argmin(np.abs(best - 0.5))])


def fit_temperature(labels: Labels, logits: Floats) -> float:
    """The temperature T whose probabilities, expit(logit / T), have the least log loss.

    Guo et al. 2017, "On Calibration of Modern Neural Networks". Between 1/20 and 20, since
    separable logits have no least loss.
    """

    bound = np.log(20)
    found = minimize_scalar(
        lambda log_temperature: log_loss(labels, logits / np.exp(log_temperature)),
        bounds=(-bound, bound),
        method="bounded",
    )
    return float(np.exp(found.x))


def log_loss(labels: Labels, logits: Floats) -> float:
    """The mean negative log likelihood of the labels."""
    return float(np.mean(np.logaddexp(0, logits) - labels * logits))


def calibrated(logits: Floats, temperature: float) -> Floats:
    """Probabilities of ``yes``."""
    return np.asarray(expit(logits / temperature))


def brier(labels: Labels, probabilities: Floats) -> float:
    """The mean squared difference of probability and label (Brier 1950)."""
    return float(np.mean((probabilities - labels) ** 2))


def calibration_curve(
    labels: Labels, probabilities: Floats, bins: int = 10
) -> list[Mapping[str, float]]:
    """Mean probability and share of ``yes`` in bins of equal width; empty bins are left out."""
    number = np.minimum((probabilities * bins).astype(int), bins - 1)
    return [
        {
            "mean_probability": float(probabilities[number == n].mean()),
            "share_of_yes": float(labels[number == n].mean()),
            "tiles": int((number == n).sum()),
        }
        for n in np.unique(number)
    ]


def calibration_error(labels: Labels, probabilities: Floats, bins: int = 10) -> float:
    """The expected calibration error: the curve's mean distance to the diagonal, by tiles."""
    curve = calibration_curve(labels, probabilities, bins)
    gaps = [abs(row["mean_probability"] - row["share_of_yes"]) * row["tiles"] for row in curve]
    return sum(gaps) / len(labels)
