"""Metrics equal scikit-learn's; intervals, thresholds and temperatures are what they claim."""

import io
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from capetown.imagery.reading import AS_STORED
from capetown.pools.dataset.dataset import LabelledTiles
from capetown.pools.evaluation.metrics_report import (
    curves,
    evaluate,
    predictions,
    sheets,
    summary_metrics,
    worst_mistakes,
)
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
from capetown.pools.model.manifest import ModelManifest
from tests.pools import USUAL

# Labels, probabilities from a coarse grid (so that there are ties) and weights of tiles.
TILES = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 10), st.integers(0, 3)), min_size=2, max_size=40
)


def trusted(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float, weights: np.ndarray
) -> dict[str, float]:
    """The five metrics by scikit-learn."""
    called = probabilities >= threshold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "balanced_accuracy": metrics.balanced_accuracy_score(
                labels, called, sample_weight=weights
            ),
            "average_precision": metrics.average_precision_score(
                labels, probabilities, sample_weight=weights
            ),
            "precision": metrics.precision_score(
                labels, called, sample_weight=weights, zero_division=0
            ),
            "recall": metrics.recall_score(labels, called, sample_weight=weights),
            "roc_auc": metrics.roc_auc_score(labels, probabilities, sample_weight=weights),
        }


@given(TILES, st.integers(0, 11))
@settings(max_examples=200, deadline=None)
def test_the_five_metrics_are_scikit_learns_for_every_weighting(
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


def test_always_yes_scores_the_share_of_yes() -> None:
    labels = np.array([1, 1, 0, 1])
    assert score(labels, np.ones(4), 0.5) == pytest.approx(
        {
            "balanced_accuracy": 0.5,
            "average_precision": 0.75,
            "precision": 0.75,
            "recall": 1,
            "roc_auc": 0.5,
        }
    )


# --- intervals --------------------------------------------------------------------------------


def test_intervals_repeat_and_hold_the_score() -> None:
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


def test_intervals_of_alike_tiles_are_those_of_their_sheets() -> None:
    """Ten copies of each tile in one sheet bring no information, so no narrower interval."""
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


# --- threshold --------------------------------------------------------------------------------


def test_the_threshold_lies_between_the_classes() -> None:
    labels = np.array([0, 0, 1, 1])
    assert choose_threshold(labels, np.array([0.1, 0.2, 0.6, 0.9]), "balanced_accuracy") == 0.4


def test_of_equal_thresholds_the_nearest_to_one_half_is_taken() -> None:
    # Calling down to 0.7 or down to 0.45 `yes` is equally good.
    labels = np.array([0, 1, 0, 1])
    probabilities = np.array([0.1, 0.45, 0.5, 0.7])
    assert choose_threshold(labels, probabilities, "balanced_accuracy") == pytest.approx(0.6)


def test_within_a_standard_error_the_nearest_to_one_half_is_taken() -> None:
    # Down to 0.9: 6 of 10 found, no alarm, standard error sqrt(0.6 * 0.4 / 10) = 0.155 of the sum.
    # Down to 0.6: 7 of 10 found, 2 of 10 alarms, 0.1 worse than the best; down to 0.3 more.
    labels = np.array([1] * 6 + [0, 0, 1] + [0] * 3 + [1] * 3 + [0] * 5)
    probabilities = np.array([0.9] * 6 + [0.6] * 3 + [0.3] * 3 + [0.1] * 8)
    choose = partial(choose_threshold, labels, probabilities, "balanced_accuracy")
    assert choose() == pytest.approx(0.75)
    assert choose(errors=0.5) == pytest.approx(0.75)
    assert choose(errors=1) == pytest.approx(0.45)


def test_the_two_aims_differ_where_one_class_is_rare() -> None:
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


# --- calibration ------------------------------------------------------------------------------


def test_the_temperature_that_the_labels_were_drawn_with_is_found() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 6, 20_000)
    labels = (rng.random(20_000) < calibrated(logits, 3.0)).astype(int)
    temperature = fit_temperature(labels, logits)
    assert temperature == pytest.approx(3.0, rel=0.05)
    assert log_loss(labels, logits / temperature) < log_loss(labels, logits)
    assert brier(labels, calibrated(logits, temperature)) < brier(labels, calibrated(logits, 1))
    assert calibration_error(labels, calibrated(logits, temperature)) < 0.02
    assert calibration_error(labels, calibrated(logits, 1)) > 0.05


def test_separable_logits_have_a_temperature_too() -> None:
    temperature = fit_temperature(np.array([0, 1]), np.array([-5.0, 5.0]))
    assert 1 / 20 <= temperature < 1


def test_log_loss_and_brier_are_scikit_learns() -> None:
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


# --- a whole fold -----------------------------------------------------------------------------

CARD = ModelManifest(
    architecture="tf_efficientnet_lite0",
    image_size=32,
    mean=[0.5] * 3,
    std=[0.5] * 3,
    interpolation="bicubic",
    tiles=AS_STORED,
    typical=USUAL,
    classes=["no", "yes"],
    threshold=0.6,
    temperature=2.0,
    dataset="",
    packages={},
)
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


def test_a_fold_is_judged_at_the_models_threshold_and_at_half() -> None:
    figures = evaluate(FOLD, LOGITS, CARD, resamples=10, seed=0)
    assert list(figures)[:5] == list(METRICS)
    assert figures["recall"] == pytest.approx(2 / 3, abs=1e-6)
    assert figures["precision"] == pytest.approx(2 / 3, abs=1e-6)
    assert figures["at_half"]["recall"] == 1
    assert figures["at_half"]["precision"] == 0.75
    assert figures["baseline"]["precision"] == 0.6
    assert (figures["n"], figures["positives"], figures["sheets"]) == (5, 3, 2)
    assert figures["groups"] == 3
    assert figures["threshold"] == 0.6
    assert figures["calibration"]["brier_after"] == pytest.approx(
        (0.01 + 0.64 + 0.25 + 0.01 + 0.09) / 5
    )
    assert figures["calibration"]["brier_before"] != figures["calibration"]["brier_after"]


def test_a_review_sees_the_metrics_and_their_intervals_in_words() -> None:
    figures = evaluate(FOLD, LOGITS, CARD, resamples=10, seed=0)
    few = summary_metrics(figures)
    assert list(few)[:2] == ["balanced_accuracy", "balanced_accuracy_interval"]
    assert few["recall_interval"] == "too few groups"
    assert (few["threshold"], few["n"], len(few)) == (0.6, 5, 2 * len(METRICS) + 2)
    intervals = {name: [0.25, 0.5] for name in METRICS}
    assert summary_metrics(figures | {"groups": 5, "intervals": intervals})["recall_interval"] == (
        "0.250 to 0.500"
    )


def test_predictions_and_sheets_by_hand() -> None:
    table = predictions(FOLD, LOGITS, CARD)
    assert table["path"].tolist() == ["a", "b", "c", "d", "e"]
    assert table["label"].tolist() == ["yes", "no", "yes", "no", "yes"]
    assert table["probability"].tolist() == pytest.approx([0.9, 0.8, 0.5, 0.1, 0.7])
    assert sheets(FOLD, LOGITS, CARD).to_numpy().tolist() == [
        ["A", 2, 1, 1, 0, 0.5],
        ["B", 3, 2, 0, 1, 0.666667],
    ]


def test_what_is_written_decides_as_the_metrics_did() -> None:
    """A millionth of a millionth below the threshold is below it, in every file."""
    card = CARD.model_copy(update={"threshold": 0.7 + 1e-12})
    figures = evaluate(FOLD, LOGITS, card, resamples=10, seed=0)
    assert figures["recall"] == pytest.approx(1 / 3, abs=1e-6)
    assert figures["threshold"] == card.threshold
    table = pd.read_csv(io.StringIO(predictions(FOLD, LOGITS, card).to_csv(index=False)))
    found = worst_mistakes(table, figures["threshold"], each=9)
    assert found[["path", "kind"]].to_numpy().tolist() == [
        ["b", "false_positive"],
        ["c", "false_negative"],
        ["e", "false_negative"],
    ]


def test_the_worst_mistakes_come_first() -> None:
    table = pd.DataFrame(
        [
            ("a", "no", 0.7),
            ("b", "no", 0.9),
            ("c", "yes", 0.2),
            ("d", "yes", 0.1),
            ("e", "no", 0.9),
        ],
        columns=["path", "label", "probability"],
    )
    found = worst_mistakes(table, 0.5, each=2)
    assert found[["path", "kind"]].to_numpy().tolist() == [
        ["b", "false_positive"],
        ["e", "false_positive"],
        ["d", "false_negative"],
        ["c", "false_negative"],
    ]


def test_the_curves_end_where_they_must() -> None:
    tables = curves(FOLD, LOGITS, CARD)
    assert list(tables) == ["roc", "precision_recall", "confusion", "calibration"]
    assert tables["roc"].iloc[0].tolist() == [0, 0]
    assert tables["roc"].iloc[-1].tolist() == [1, 1]
    assert tables["precision_recall"].iloc[-1].tolist() == [0, 1]
    assert tables["confusion"].value_counts().to_dict() == {
        ("yes", "yes"): 2,
        ("yes", "no"): 1,
        ("no", "yes"): 1,
        ("no", "no"): 1,
    }
    assert tables["calibration"]["tiles"].sum() == 5
