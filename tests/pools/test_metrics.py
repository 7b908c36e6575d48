"""Metrics equal scikit-learn's; intervals, thresholds and temperatures keep their promises."""

import io
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from capetown.pools.dataset.dataset import LabelledTiles
from capetown.pools.evaluation import metrics_report as report
from capetown.pools.metrics import (
    METRICS,
    bootstrap_intervals,
    brier,
    calibrated,
    calibration_curve,
    calibration_error,
    choose_threshold,
    fit_temperature,
    log_loss,
    score,
    weighted_scores,
)
from tests.pools.prediction import CARD

# Labels, probabilities on a coarse grid (for ties) and weights of tiles.
TILES = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 10), st.integers(0, 3)), min_size=2, max_size=40
)


def trusted(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float, weights: np.ndarray
) -> dict[str, float]:
    """The five metrics by scikit-learn."""
    called, kwargs = probabilities >= threshold, {"sample_weight": weights}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "balanced_accuracy": metrics.balanced_accuracy_score(labels, called, **kwargs),
            "average_precision": metrics.average_precision_score(labels, probabilities, **kwargs),
            "precision": metrics.precision_score(labels, called, zero_division=0, **kwargs),
            "recall": metrics.recall_score(labels, called, **kwargs),
            "roc_auc": metrics.roc_auc_score(labels, probabilities, **kwargs),
        }


@given(TILES, st.integers(0, 11))
@settings(max_examples=200, deadline=None)
def test_the_metrics_equal_scikit_learn_for_every_weighting(
    tiles: list[tuple[int, int, int]], tenths: int
) -> None:
    labels, grid, weights = (np.array(column) for column in zip(*tiles, strict=True))
    probabilities, threshold = grid / 10, tenths / 10
    weights = weights.astype(float)
    if len(set(labels[weights > 0])) < 2:
        found = weighted_scores(labels, probabilities, threshold, weights[None])
        assert all(np.isnan(values).all() for values in found.values())
        return
    kept = weights > 0  # scikit-learn's balanced accuracy counts classes before weighing
    expected = trusted(labels[kept], probabilities[kept], threshold, weights[kept])
    both = np.stack([weights, 2 * weights])
    found = weighted_scores(labels, probabilities, threshold, both)
    assert tuple(found) == tuple(METRICS)
    for name in METRICS:
        assert found[name] == pytest.approx([expected[name]] * 2), name


def test_a_score_by_hand() -> None:
    labels = np.array([1, 1, 0, 1, 0])
    probabilities = np.array([0.9, 0.8, 0.7, 0.3, 0.2])
    assert score(labels, probabilities, 0.7) == pytest.approx(
        {
            "balanced_accuracy": (2 / 3 + 1 / 2) / 2,
            "average_precision": (1 + 1 + 3 / 4) / 3,
            "precision": 2 / 3,
            "recall": 2 / 3,
            "roc_auc": 5 / 6,
        }
    )


def test_intervals_repeat_and_contain_the_score() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    probabilities = np.clip(labels * 0.4 + rng.random(200) * 0.6, 0, 1)
    groups = np.array([f"S{n // 4}" for n in range(200)])
    first, again = (
        bootstrap_intervals(labels, probabilities, 0.5, groups, resamples=300, seed=1)
        for _ in range(2)
    )
    assert first == again
    for name, value in score(labels, probabilities, 0.5).items():
        low, high = first[name]
        assert low < value < high


def test_copies_within_a_group_do_not_narrow_the_interval() -> None:
    """Ten copies of each tile add no information."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 40)
    probabilities = rng.random(40)
    groups = np.array([f"S{n:02}" for n in range(40)])
    single = bootstrap_intervals(labels, probabilities, 0.5, groups, resamples=200, seed=1)
    tenfold = bootstrap_intervals(
        labels.repeat(10), probabilities.repeat(10), 0.5, groups.repeat(10), resamples=200, seed=1
    )
    for name in METRICS:
        assert tenfold[name] == pytest.approx(single[name])


def test_resamples_without_a_class_are_left_out() -> None:
    labels, probabilities = np.array([1, 1, 0]), np.array([0.9, 0.8, 0.1])
    found = bootstrap_intervals(
        labels, probabilities, 0.5, np.array(["A", "B", "C"]), resamples=50, seed=0
    )
    assert found["roc_auc"] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("labels", "probabilities", "threshold"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9], 0.4),
        # `yes` down to 0.7 or down to 0.45 is equally good: the nearer to one half.
        ([0, 1, 0, 1], [0.1, 0.45, 0.5, 0.7], 0.6),
    ],
)
def test_the_threshold_lies_between_the_classes_and_near_one_half(
    labels: list[int], probabilities: list[float], threshold: float
) -> None:
    found = choose_threshold(np.array(labels), np.array(probabilities), "balanced_accuracy")
    assert found == pytest.approx(threshold)


def test_thresholds_within_a_standard_error_are_ties() -> None:
    # Down to 0.9: 6 of 10 found, no alarm, standard error sqrt(0.6 * 0.4 / 10) = 0.155 of the sum.
    # Down to 0.6: 7 of 10 found, 2 of 10 alarms, 0.1 worse than the best; down to 0.3 more.
    labels = np.array([1] * 6 + [0, 0, 1] + [0] * 3 + [1] * 3 + [0] * 5)
    probabilities = np.array([0.9] * 6 + [0.6] * 3 + [0.3] * 3 + [0.1] * 8)
    choose = partial(choose_threshold, labels, probabilities, "balanced_accuracy")
    assert choose() == pytest.approx(0.75)
    assert choose(errors=0.5) == pytest.approx(0.75)
    assert choose(errors=1) == pytest.approx(0.45)


def test_the_aims_differ_if_one_class_is_rare() -> None:
    labels = np.array([1] * 2 + [0] * 2 + [1] + [0] * 15)
    probabilities = np.linspace(0.95, 0.05, 20)
    f1 = choose_threshold(labels, probabilities, "f1")
    balanced = choose_threshold(labels, probabilities, "balanced_accuracy")
    assert (probabilities >= f1).sum() == 2
    assert (probabilities >= balanced).sum() == 5


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=2, max_size=30))
@settings(max_examples=100, deadline=None)
def test_no_threshold_is_better(tiles: list[tuple[int, float]]) -> None:
    labels = np.array([label for label, _ in tiles])
    probabilities = np.array([probability for _, probability in tiles])
    if len(set(labels)) < 2:
        return
    chosen = choose_threshold(labels, probabilities, "balanced_accuracy")
    reached = score(labels, probabilities, chosen)["balanced_accuracy"]
    for other in [*probabilities, *np.linspace(0, 1, 21)]:
        assert score(labels, probabilities, other)["balanced_accuracy"] <= reached + 1e-9


def test_the_temperature_of_drawn_labels_is_found() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 6, 20_000)
    labels = (rng.random(20_000) < calibrated(logits, 3.0)).astype(int)
    groups = np.arange(len(labels)).astype(str)
    temperature = fit_temperature(labels, logits, groups, seed=0)
    assert temperature == pytest.approx(3.0, rel=0.05)
    assert log_loss(labels, logits / temperature) < log_loss(labels, logits)
    assert brier(labels, calibrated(logits, temperature)) < brier(labels, calibrated(logits, 1))
    assert calibration_error(labels, calibrated(logits, temperature)) < 0.02
    assert calibration_error(labels, calibrated(logits, 1)) > 0.05
    # All labels are right: there is no minimum.
    separable = fit_temperature((logits > 0).astype(int), logits, groups, seed=0)
    assert 1 / 20 <= separable < 1


def test_a_temperature_that_may_not_help_is_one() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, 2_000)
    labels = (rng.random(2_000) < calibrated(logits, 1.3)).astype(int)
    groups = np.repeat(np.arange(20), 100).astype(str)
    assert fit_temperature(labels, logits, groups, seed=0) == pytest.approx(1.3, rel=0.15)
    assert fit_temperature(labels[:99], logits[:99], groups[:99], seed=0) == 1.0
    same = np.concatenate([np.tile([0, 1], 100), np.tile([1, 0], 20)])
    sure = np.concatenate([np.tile([-3.0, 3.0], 100), np.tile([-3.0, 3.0], 20)])
    parts = np.array(["right"] * 200 + ["wrong"] * 40)
    assert fit_temperature(same, sure, parts, seed=0) == 1.0


def test_log_loss_and_brier_equal_scikit_learn() -> None:
    labels, logits = np.array([1, 0, 1, 1]), np.array([2.0, -1.0, -0.5, 800.0])
    probabilities = calibrated(logits, 1.0)
    assert log_loss(labels[:3], logits[:3]) == pytest.approx(
        metrics.log_loss(labels[:3], probabilities[:3])
    )
    assert brier(labels, probabilities) == pytest.approx(
        metrics.brier_score_loss(labels, probabilities)
    )
    assert log_loss(labels[3:], logits[3:]) == 0


def test_the_calibration_curve_by_hand() -> None:
    labels = np.array([0, 1, 1, 1])
    probabilities = np.array([0.12, 0.18, 0.9, 1.0])
    assert calibration_curve(labels, probabilities) == [
        pytest.approx({"mean_probability": 0.15, "share_of_yes": 0.5, "tiles": 2}),
        pytest.approx({"mean_probability": 0.95, "share_of_yes": 1.0, "tiles": 2}),
    ]
    assert calibration_error(labels, probabilities) == pytest.approx((0.35 * 2 + 0.05 * 2) / 4)


FOLD = LabelledTiles(
    paths=["a", "b", "c", "d", "e"],
    sheets=np.array(["A", "A", "B", "B", "B"]),
    groups=np.array(["A_1", "A_2", "B_1", "B_1", "B_1"]),
    labels=np.array([1, 0, 1, 0, 1]),
    pixels=np.zeros((5, 32, 32, 3), dtype=np.uint8),
    digest="",
)
# Probabilities at temperature 2: 0.9, 0.8, 0.5, 0.1, 0.7.
LOGITS = 2 * np.log(np.array([9, 4, 1, 1 / 9, 7 / 3]))


def test_a_fold_is_evaluated_at_the_models_threshold_and_at_half() -> None:
    results = report.evaluate(FOLD, LOGITS, CARD, resamples=10, seed=0)
    assert list(results)[:5] == list(METRICS)
    assert results["recall"] == pytest.approx(2 / 3, abs=1e-6)
    assert results["precision"] == pytest.approx(2 / 3, abs=1e-6)
    assert results["at_half"]["recall"] == 1
    assert results["at_half"]["precision"] == 0.75
    assert results["baseline"]["precision"] == 0.6
    counts = [results[name] for name in ("n", "positives", "sheets", "groups", "threshold")]
    assert counts == [5, 3, 2, 3, 0.6]
    squares = 0.01 + 0.64 + 0.25 + 0.01 + 0.09
    assert results["calibration"]["brier_after"] == pytest.approx(squares / 5)
    assert results["calibration"]["brier_before"] != results["calibration"]["brier_after"]


def test_the_summary_has_metrics_and_intervals_as_text() -> None:
    results = report.evaluate(FOLD, LOGITS, CARD, resamples=10, seed=0)
    few = report.summary_metrics(results)
    assert few["recall_interval"] == "too few groups"
    assert (few["threshold"], few["n"], len(few)) == (0.6, 5, 2 * len(METRICS) + 3)
    intervals = {name: [0.25, 0.5] for name in METRICS}
    many = report.summary_metrics(results | {"groups": 5, "intervals": intervals})
    assert many["recall_interval"] == "0.250 to 0.500"


def test_predictions_and_sheets_by_hand() -> None:
    table = report.predictions(FOLD, LOGITS, CARD)
    assert table["path"].tolist() == ["a", "b", "c", "d", "e"]
    assert table["label"].tolist() == ["yes", "no", "yes", "no", "yes"]
    assert table["probability"].tolist() == pytest.approx([0.9, 0.8, 0.5, 0.1, 0.7])
    unlike = np.array([False, True, True, False, True])
    assert report.sheets(FOLD, LOGITS, CARD, unlike).to_numpy().tolist() == [
        ["A", 2, 1, 1, 0, 1, 0.5],
        ["B", 3, 2, 0, 1, 2, 0.666667],
    ]


def test_written_probabilities_decide_as_the_metrics_did() -> None:
    """A tile 1e-12 below the threshold is below it in every file."""
    card = CARD.model_copy(update={"threshold": 0.7 + 1e-12})
    results = report.evaluate(FOLD, LOGITS, card, resamples=10, seed=0)
    assert results["recall"] == pytest.approx(1 / 3, abs=1e-6)
    assert results["threshold"] == card.threshold
    table = pd.read_csv(io.StringIO(report.predictions(FOLD, LOGITS, card).to_csv(index=False)))
    found = report.worst_mistakes(table, results["threshold"], each=9)
    assert found["path"].tolist() == ["b", "c", "e"]
    assert found["kind"].tolist() == ["false_positive", "false_negative", "false_negative"]


def test_the_worst_mistakes_come_first() -> None:
    rows = zip("abcde", ["no", "no", "yes", "yes", "no"], [0.7, 0.9, 0.2, 0.1, 0.9], strict=True)
    table = pd.DataFrame(rows, columns=["path", "label", "probability"])
    found = report.worst_mistakes(table, 0.5, each=2)
    assert found["path"].tolist() == ["b", "e", "d", "c"]
    assert found["kind"].tolist() == ["false_positive"] * 2 + ["false_negative"] * 2


def test_the_curves_have_the_right_ends() -> None:
    tables = report.curves(FOLD, LOGITS, CARD)
    assert list(tables) == ["roc", "precision_recall", "confusion", "calibration"]
    assert tables["roc"].iloc[[0, -1]].to_numpy().tolist() == [[0, 0], [1, 1]]
    assert tables["precision_recall"].iloc[-1].tolist() == [0, 1]
    confusion = pd.crosstab(tables["confusion"]["actual"], tables["confusion"]["predicted"])
    assert confusion.loc[["no", "yes"], ["no", "yes"]].to_numpy().tolist() == [[1, 1], [1, 2]]
    assert tables["calibration"]["tiles"].sum() == 5
