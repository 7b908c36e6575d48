"""How good probabilities are: metrics, intervals, threshold and calibration.

Labels are 0 for ``no`` and 1 for ``yes``; a tile is called ``yes`` when its probability is at least
the threshold.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit

# Sheets that a bootstrap by sheet needs. The percentile that bounds a 95 % interval takes forty
# resamples to be one of them; four sheets have 35 different ones, five have 126.
FEWEST_SHEETS = 5
METRICS = ("balanced_accuracy", "average_precision", "precision", "recall", "roc_auc")
Aim = Literal["balanced_accuracy", "f1"]
Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def score(labels: Labels, probabilities: Floats, threshold: float) -> dict[str, float]:
    """The five metrics; NaN for one that needs both classes where only one is there.

    As scikit-learn defines them; precision is 0 where nothing is called ``yes``.
    """
    weights = np.ones((1, len(labels)))
    scores = weighted_scores(labels, probabilities, threshold, weights)
    return {name: float(values[0]) for name, values in scores.items()}


def weighted_scores(
    labels: Labels, probabilities: Floats, threshold: float, weights: Floats
) -> dict[str, Floats]:
    """The five metrics under many weightings of the tiles at once.

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
    true = np.cumsum(weights[:, order] * labels[order], axis=1)[:, ends]
    false = np.cumsum(weights[:, order] * (1 - labels[order]), axis=1)[:, ends]
    positives, negatives = true[:, -1], false[:, -1]
    true_before = np.pad(true[:, :-1], ((0, 0), (1, 0)))
    false_before = np.pad(false[:, :-1], ((0, 0), (1, 0)))

    called = probabilities >= threshold
    hits = weights @ (called & (labels == 1))
    alarms = weights @ (called & (labels == 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hits / positives
        specificity = 1 - alarms / negatives
        precision_at = np.nan_to_num(true / (true + false))
        values = {
            "balanced_accuracy": (recall + specificity) / 2,
            "average_precision": ((true - true_before) * precision_at).sum(axis=1) / positives,
            "precision": np.where(hits + alarms > 0, hits / (hits + alarms), 0.0),
            "recall": recall,
            "roc_auc": ((false - false_before) * (true + true_before)).sum(axis=1)
            / (2 * positives * negatives),
        }
    both = (positives > 0) & (negatives > 0)
    return {name: np.where(both, values[name], np.nan) for name in METRICS}


def bootstrap_intervals(
    labels: Labels,
    probabilities: Floats,
    threshold: float,
    groups: npt.NDArray[np.str_],
    *,
    resamples: int,
    seed: int,
) -> dict[str, list[float]]:
    """95 % percentile intervals of the five metrics, resampling whole groups.

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
    """How often each tile is in each resample of whole groups, shape (resamples, tiles)."""
    names, group = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return np.asarray(times[:, group], dtype=np.float64)


def choose_threshold(labels: Labels, probabilities: Floats, aim: Aim) -> float:
    """The threshold that maximises balanced accuracy or F1.

    Candidates lie halfway between neighbouring probabilities; of equally good ones the nearest to
    one half is taken.
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
    if aim == "f1":
        values = 2 * hits / (positives + hits + alarms)
    else:
        values = hits / positives - alarms / negatives
    best = candidates[np.isclose(values, values.max(), rtol=0, atol=1e-12)]
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
