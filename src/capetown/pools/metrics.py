"""Classification metrics, their confidence intervals, the threshold and calibration.

Labels are 0 for ``no`` and 1 for ``yes``. A tile is predicted ``yes`` if its probability is at
least the threshold.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit

# Fewest groups for a group bootstrap. A 2.5 % percentile needs at least 40 distinct resamples: 4
# groups give 35, 5 give 126.
MIN_GROUPS_FOR_CI = 5
# Of 80 subsets of real validation folds with four trainings, those of 30 and 68 tiles had
# temperatures that did great harm; those of 100 had none.
MIN_TILES_FOR_TEMPERATURE = 100
Aim = Literal["balanced_accuracy", "f1"]
Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


class Tally(NamedTuple):
    """Weighted counts under many weightings at once.

    Attributes:
        tp: true positives at the threshold, shape (weightings,).
        fp: false positives at the threshold, same shape.
        positives: tiles with a pool, same shape.
        negatives: tiles without a pool, same shape.
        tp_curve: true positives down to each distinct probability, from the highest, shape
            (weightings, distinct).
        fp_curve: false positives, same shape.
    """

    tp: Floats
    fp: Floats
    positives: Floats
    negatives: Floats
    tp_curve: Floats
    fp_curve: Floats


def _balanced_accuracy(tally: Tally) -> Floats:
    specificity = 1 - tally.fp / tally.negatives
    return (tally.tp / tally.positives + specificity) / 2


def _average_precision(tally: Tally) -> Floats:
    precision = np.nan_to_num(tally.tp_curve / (tally.tp_curve + tally.fp_curve))
    steps = tally.tp_curve - _before(tally.tp_curve)
    return np.asarray((steps * precision).sum(axis=1) / tally.positives)


def _precision(tally: Tally) -> Floats:
    called = tally.tp + tally.fp
    return np.where(called > 0, tally.tp / called, 0.0)


def _recall(tally: Tally) -> Floats:
    return tally.tp / tally.positives


def _roc_auc(tally: Tally) -> Floats:
    steps = tally.fp_curve - _before(tally.fp_curve)
    twice = (steps * (tally.tp_curve + _before(tally.tp_curve))).sum(axis=1)
    return np.asarray(twice / (2 * tally.positives * tally.negatives))


def _before(curve: Floats) -> Floats:
    return np.pad(curve[:, :-1], ((0, 0), (1, 0)))


class Metric(NamedTuple):
    """A metric and how to present it.

    Attributes:
        name: for people.
        meaning: an explanation for laypeople, with the value of guessing.
        at_threshold: False if it covers all thresholds.
        value: computes it as scikit-learn does, shape (weightings,).
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
    """All `METRICS`: NaN if a class is missing. Precision is 0 without a tile predicted ``yes``."""
    weights = np.ones((1, len(labels)))
    scores = weighted_scores(labels, probabilities, threshold, weights)
    return {name: float(values[0]) for name, values in scores.items()}


def weighted_scores(
    labels: Labels, probabilities: Floats, threshold: float, weights: Floats
) -> dict[str, Floats]:
    """All `METRICS` under many weightings of the tiles at once.

    Weights are at least 0 and have shape (weightings, tiles). Each metric has shape (weightings,)
    and is NaN if a weighting leaves out a class.
    """
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order]
    # Thresholds lie only between tiles of different probability.
    ends = np.append(ranked[1:] != ranked[:-1], True)
    tp_curve = np.cumsum(weights[:, order] * labels[order], axis=1)[:, ends]
    fp_curve = np.cumsum(weights[:, order] * (1 - labels[order]), axis=1)[:, ends]
    called = probabilities >= threshold
    tally = Tally(
        tp=weights @ (called & (labels == 1)),
        fp=weights @ (called & (labels == 0)),
        positives=tp_curve[:, -1],
        negatives=fp_curve[:, -1],
        tp_curve=tp_curve,
        fp_curve=fp_curve,
    )
    both = (tally.positives > 0) & (tally.negatives > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {key: np.where(both, metric.value(tally), np.nan) for key, metric in METRICS.items()}


def bootstrap_intervals(
    labels: Labels, probabilities: Floats, threshold: float, groups: npt.NDArray[np.str_], *,
    resamples: int, seed: int,
) -> dict[str, list[float]]:  # fmt: skip
    """The 2.5th and 97.5th percentile of each metric, by a bootstrap of whole groups.

    Tiles of a group are alike, so resampling tiles would give too narrow intervals. Resamples
    without one of the classes are left out.
    """
    weights = resampled_weights(groups, resamples=resamples, seed=seed)
    scores = weighted_scores(labels, probabilities, threshold, weights)
    return {k: np.nanpercentile(values, [2.5, 97.5]).tolist() for k, values in scores.items()}


def resampled_weights(groups: npt.NDArray[np.str_], *, resamples: int, seed: int) -> Floats:
    """How often each resample of whole groups has each tile, shape (resamples, tiles)."""
    names, group = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return np.asarray(times[:, group], dtype=np.float64)


def choose_threshold(
    labels: Labels, probabilities: Floats, aim: Aim, *, errors: float = 0.0
) -> float:
    """The threshold that maximises balanced accuracy or F1.

    Candidates lie halfway between neighbouring probabilities; the one nearest to 0.5 breaks ties.
    Thresholds within some standard errors of the best count as equally good, since the maximum on
    few tiles is partly luck. One error is the rule of Breiman et al. 1984, "Classification and
    Regression Trees".

    Args:
        labels: shape (tiles,).
        probabilities: shape (tiles,).
        aim: what to maximise.
        errors: standard errors of the best balanced accuracy; unused for F1.
    """
    distinct = np.unique(probabilities)
    halfway = (distinct[:-1] + distinct[1:]) / 2
    # Halfway between adjacent floats is the lower one.
    halfway = np.where(halfway > distinct[:-1], halfway, distinct[1:])
    candidates = np.concatenate([distinct[:1], halfway])
    called = probabilities >= candidates[:, None]
    tp = (called & (labels == 1)).sum(axis=1)
    fp = (called & (labels == 0)).sum(axis=1)
    positives, negatives = (labels == 1).sum(), (labels == 0).sum()
    error = 0.0
    if aim == "f1":
        values = 2 * tp / (positives + tp + fp)
    else:
        tpr, fpr = tp / positives, fp / negatives
        values = tpr - fpr
        variances = tpr * (1 - tpr) / positives + fpr * (1 - fpr) / negatives
        error = float(np.sqrt(variances[np.argmax(values)]))
    best = candidates[values >= values.max() - errors * error - 1e-12]
    return float(best[np.argmin(np.abs(best - 0.5))])


def fit_temperature(
    labels: Labels, logits: Floats, groups: npt.NDArray[np.str_], *, seed: int
) -> float:
    """The temperature T that minimises the log loss of expit(logit / T), if it surely helps.

    Guo et al. 2017, "On Calibration of Modern Neural Networks". T is bounded by 1/20 and 20, since
    separable logits have no minimum. On few tiles a temperature makes other tiles worse more often
    than better. So T is 1 for fewer than `MIN_TILES_FOR_TEMPERATURE` tiles, and unless 97.5 % of
    the bootstrap's resamples of whole groups have a lower log loss with it.
    """
    if len(labels) < MIN_TILES_FOR_TEMPERATURE:
        return 1.0
    bound = np.log(20)
    found = minimize_scalar(
        lambda log_temperature: log_loss(labels, logits / np.exp(log_temperature)),
        bounds=(-bound, bound), method="bounded",
    )  # fmt: skip
    temperature = float(np.exp(found.x))
    gain = log_losses(labels, logits) - log_losses(labels, logits / temperature)
    gains = resampled_weights(groups, resamples=1000, seed=seed) @ gain
    return temperature if np.quantile(gains, 0.025) > 0 else 1.0


def log_losses(labels: Labels, logits: Floats) -> Floats:
    """The negative log likelihood of each label."""
    return np.asarray(np.logaddexp(0, logits) - labels * logits)


def log_loss(labels: Labels, logits: Floats) -> float:
    """The mean negative log likelihood of the labels."""
    return float(np.mean(log_losses(labels, logits)))


def calibrated(logits: Floats, temperature: float) -> Floats:
    """The calibrated probabilities of ``yes``."""
    return np.asarray(expit(logits / temperature))


def brier(labels: Labels, probabilities: Floats) -> float:
    """The mean squared difference between probability and label (Brier 1950)."""
    return float(np.mean((probabilities - labels) ** 2))


def calibration_curve(
    labels: Labels, probabilities: Floats, bins: int = 10
) -> list[Mapping[str, float]]:
    """Mean probability and share of ``yes`` in non-empty bins of equal width."""
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
    """Expected calibration error: the curve's distance to the diagonal, averaged over tiles."""
    curve = calibration_curve(labels, probabilities, bins)
    gaps = [abs(row["mean_probability"] - row["share_of_yes"]) * row["tiles"] for row in curve]
    return sum(gaps) / len(labels)
