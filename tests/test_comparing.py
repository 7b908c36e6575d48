"""Experiments on the same tiles: differences by hand, verdicts, and tiles that changed sides."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from capetown.comparing import Experiment, changed_sides, compare
from capetown.errors import CapetownError
from capetown.reporting.comparison import as_markdown, as_page

# Ten sheets of four tiles, two of each class.
PATHS = [f"images/{label}/S{sheet}_{n}_0.tif" for sheet in range(10) for n, label in
         enumerate(["yes", "yes", "no", "no"])]  # fmt: skip
LABELS = ["yes" if "/yes/" in path else "no" for path in PATHS]
TRUTH = np.array([label == "yes" for label in LABELS])


def experiment(name: str, probabilities: np.ndarray, threshold: float = 0.5) -> Experiment:
    table = pd.DataFrame({"path": PATHS, "label": LABELS, "probability": probabilities})
    return Experiment(name, table, threshold)


def noisy(seed: int, noise: float) -> np.ndarray:
    drawn = TRUTH + np.random.default_rng(seed).normal(0, noise, len(TRUTH))
    return np.clip(drawn * 0.5 + 0.25, 0, 1)


GOOD = np.where(TRUTH, 0.9, 0.1)


def test_an_experiment_against_itself_is_within_noise() -> None:
    found = compare(
        [experiment("a", noisy(1, 1)), experiment("b", noisy(1, 1))], resamples=200, seed=1
    )
    assert found.differences["difference"].tolist() == [0.0] * 5
    assert set(found.differences["verdict"]) == {"within noise"}
    assert changed_sides(found, "a", "b").empty


def test_metrics_and_differences_are_scikit_learns() -> None:
    first, second = noisy(1, 1), noisy(2, 0.6)
    found = compare(
        [experiment("a", first, 0.4), experiment("b", second, 0.6)], resamples=50, seed=1
    )
    order = np.argsort(PATHS)
    assert found.tiles["path"].tolist() == [PATHS[n] for n in order]
    expected = {
        "balanced_accuracy": [
            balanced_accuracy_score(TRUTH, first >= 0.4),
            balanced_accuracy_score(TRUTH, second >= 0.6),
        ],
        "average_precision": [average_precision_score(TRUTH, p) for p in (first, second)],
        "roc_auc": [roc_auc_score(TRUTH, p) for p in (first, second)],
    }
    differences = found.differences.set_index("metric")["difference"]
    for metric, values in expected.items():
        np.testing.assert_allclose(found.metrics[metric], values)
        assert differences[metric] == pytest.approx(values[1] - values[0])


def test_a_clear_difference_is_more_than_noise_in_its_direction() -> None:
    bad = experiment("bad", 1 - GOOD)
    found = compare([bad, experiment("good", GOOD)], resamples=200, seed=1)
    assert found.differences["difference"].tolist() == pytest.approx(
        [1.0, 1 - average_precision_score(TRUTH, 1 - GOOD), 1.0, 1.0, 1.0]
    )
    assert set(found.differences["verdict"]) == {"better"}
    back = compare([experiment("good", GOOD), bad], resamples=200, seed=1)
    assert set(back.differences["verdict"]) == {"worse"}


def test_one_tile_of_difference_is_noise_and_is_named() -> None:
    other = GOOD.copy()
    other[5] = 0.2
    found = compare([experiment("a", GOOD), experiment("b", other)], resamples=500, seed=1)
    recall = found.differences.set_index("metric").loc["recall"]
    assert recall["difference"] == pytest.approx(-0.05)
    assert recall["low"] < 0 == recall["high"]
    assert recall["verdict"] == "within noise"
    assert changed_sides(found, "a", "b").to_dict("records") == [
        {"path": PATHS[5], "label": "yes", "before": 0.9, "after": 0.2, "now": "wrong"}
    ]


def test_whole_sheets_are_resampled() -> None:
    """All tiles of one sheet of ten turn wrong: it is missing from a third of the resamples."""
    other = np.where([path.split("/")[-1].startswith("S3_") for path in PATHS], 1 - GOOD, GOOD)
    found = compare([experiment("a", GOOD), experiment("b", other)], resamples=4000, seed=1)
    recall = found.differences.set_index("metric").loc["recall"]
    # 0 to 3 of 10 draws are that sheet in 97.5 % of the resamples.
    assert (recall["low"], recall["high"]) == (pytest.approx(-0.3), 0.0)


def test_only_tiles_that_all_judged_alike_are_compared() -> None:
    one, two = experiment("a", GOOD), experiment("b", GOOD)
    relabelled = two.predictions.copy()
    relabelled.loc[0, "label"] = "no"
    found = compare([one, Experiment("b", relabelled.drop(index=7), 0.5)], resamples=20, seed=1)
    assert len(found.tiles) == 38
    assert found.left_out == 2


def test_experiments_without_a_common_tile_cannot_be_compared() -> None:
    other = experiment("b", GOOD)
    moved = other.predictions.assign(path=[f"other/{path}" for path in PATHS])
    with pytest.raises(CapetownError, match="a, b: no test tile that all of them judged"):
        compare([experiment("a", GOOD), Experiment("b", moved, 0.5)], resamples=20, seed=1)
    with pytest.raises(CapetownError, match="name each experiment once"):
        compare([other, other], resamples=20, seed=1)


def test_the_text_and_the_page_say_it_and_escape_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    name = "<script>alert(1)</script>"
    other = GOOD.copy()
    other[5] = 0.2
    found = compare([experiment("main", GOOD), experiment(name, other)], resamples=100, seed=1)
    text = as_markdown(found, resamples=100)
    assert "40 test tiles of 10 map sheets, the same for all" in text
    assert "gets 0 tiles right that main gets wrong, and 1 wrong that main gets right" in text
    assert "-5.0 | -" in text
    for written in (text, as_page(found, resamples=100, tiles=tmp_path_factory.mktemp("raw"))):
        assert name not in written
