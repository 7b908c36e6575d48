"""A model's results on the test fold: metrics, curves, sheets and mistakes."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import precision_recall_curve, roc_curve

from capetown.city import CLASSES
from capetown.pools.dataset.dataset import LabelledTiles
from capetown.pools.metrics import (
    METRICS,
    MIN_GROUPS_FOR_CI,
    Floats,
    bootstrap_intervals,
    brier,
    calibrated,
    calibration_curve,
    calibration_error,
    score,
)
from capetown.pools.model.manifest import ModelManifest


def evaluate(
    fold: LabelledTiles, logits: Floats, card: ModelManifest, *, resamples: int, seed: int
) -> dict[str, Any]:
    """All metrics of a model on a fold, rounded to six digits.

    These are `METRICS` at the model's threshold with 95 % intervals, at 0.5, and for the baseline
    that always predicts ``yes``; Brier score and calibration error before and after calibration.
    """
    labels = fold.labels
    raw, probabilities = calibrated(logits, 1.0), calibrated(logits, card.temperature)
    metrics = {
        **score(labels, probabilities, card.threshold),
        "threshold": card.threshold,
        "n": len(labels),
        "positives": int(labels.sum()),
        "sheets": len(np.unique(fold.sheets)),
        "groups": len(np.unique(fold.groups)),
        "groups_source": fold.groups_source,
        "intervals": bootstrap_intervals(
            labels, probabilities, card.threshold, fold.groups, resamples=resamples, seed=seed
        ),
        "at_half": score(labels, probabilities, 0.5),
        "baseline": score(labels, np.ones(len(labels)), 0.5),
        "calibration": {
            "temperature": card.temperature,
            "brier_before": brier(labels, raw),
            "brier_after": brier(labels, probabilities),
            "ece_before": calibration_error(labels, raw),
            "ece_after": calibration_error(labels, probabilities),
        },
    }
    return {**_rounded(metrics), "threshold": card.threshold}


def summary_metrics(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics to review, each with its interval as text: DVC does not compare lists."""
    enough = metrics["groups"] >= MIN_GROUPS_FOR_CI
    found: dict[str, Any] = {}
    for name in METRICS:
        low, high = metrics["intervals"][name]
        found[name] = metrics[name]
        found[f"{name}_interval"] = f"{low:.3f} to {high:.3f}" if enough else "too few groups"
    more = ("threshold", "n", "groups_source", "valid_for", "unlike")
    return found | {name: metrics[name] for name in more if name in metrics}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, 6) if isinstance(value, float) else value


def predictions(fold: LabelledTiles, logits: Floats, card: ModelManifest) -> pd.DataFrame:
    """Each tile's path, label, calibrated probability of ``yes``, and group.

    Neither these nor the threshold of `evaluate` are rounded, so decisions match the metrics.
    """
    return pd.DataFrame(
        {
            "path": fold.paths,
            "label": [CLASSES[label] for label in fold.labels],
            "probability": calibrated(logits, card.temperature),
            "group": fold.groups,
        }
    )


def sheets(
    fold: LabelledTiles, logits: Floats, card: ModelManifest, unlike: npt.NDArray[np.bool_]
) -> pd.DataFrame:
    """Tiles, positives, mistakes, tiles unlike the training ones, accuracy: a row per sheet.

    `unlike` has shape (tiles,).
    """
    called = calibrated(logits, card.temperature) >= card.threshold
    columns = {
        "tiles": np.ones(len(called)),
        "positives": fold.labels == 1,
        "false_positives": called & (fold.labels == 0),
        "false_negatives": ~called & (fold.labels == 1),
        "unlike": unlike,
    }
    table = pd.DataFrame({"sheet": fold.sheets, **columns})
    totals = table.groupby("sheet", as_index=False).sum().astype(dict.fromkeys(columns, int))
    wrong = totals["false_positives"] + totals["false_negatives"]
    return totals.assign(accuracy=(1 - wrong / totals["tiles"]).round(6))


def curves(fold: LabelledTiles, logits: Floats, card: ModelManifest) -> dict[str, pd.DataFrame]:
    """The tables for the plots: roc, precision_recall, confusion and calibration."""
    labels, probabilities = fold.labels, calibrated(logits, card.temperature)
    false, true, _ = roc_curve(labels, probabilities)
    precision, recall, _ = precision_recall_curve(labels, probabilities)
    names = np.array(CLASSES)
    called = (probabilities >= card.threshold).astype(int)
    tables = {
        "roc": pd.DataFrame({"false_positive_rate": false, "true_positive_rate": true}),
        "precision_recall": pd.DataFrame({"recall": recall, "precision": precision}),
        "confusion": pd.DataFrame({"actual": names[labels], "predicted": names[called]}),
        "calibration": pd.DataFrame(calibration_curve(labels, probabilities)),
    }
    return {name: table.round(6) for name, table in tables.items()}


def worst_mistakes(table: pd.DataFrame, threshold: float, each: int) -> pd.DataFrame:
    """The most confident mistakes in `predictions`, worst first, up to `each` of both kinds.

    The column ``kind`` says false_positive or false_negative.
    """
    called = table["probability"] >= threshold
    wrongly = table[called & (table["label"] == "no")].assign(kind="false_positive")
    missed = table[~called & (table["label"] == "yes")].assign(kind="false_negative")
    return pd.concat(
        [
            wrongly.sort_values(["probability", "path"], ascending=[False, True]).head(each),
            missed.sort_values(["probability", "path"]).head(each),
        ]
    )
