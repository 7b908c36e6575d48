"""The permutation test finds differences exactly as often as it should."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, precision_score, recall_score, roc_auc_score

from capetown.pools.evaluation.compare import Experiment, compare
from capetown.pools.evaluation.permutation_test import has_power, holm, permutation_p_values
from capetown.pools.metrics import METRICS


def test_holm_by_hand() -> None:
    """0.01 is the smallest of four, 0.02 of the other three, and so on; none is below the last."""
    assert holm([0.04, 0.01, 0.03, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]).tolist() == [1, 1]


def test_the_largest_difference_needs_enough_sheets() -> None:
    """2 of 64 permutations are 3.1 %, 2 of 32 are 6.3 %."""
    assert [has_power(sheets, 1) for sheets in (5, 6)] == [False, True]
    assert [has_power(sheets, 5) for sheets in (7, 8)] == [False, True]


def test_p_values_equal_those_of_all_permutations() -> None:
    """All 64 permutations of six sheets, with scikit-learn's metrics."""
    rng = np.random.default_rng(3)
    sheets = np.repeat(np.arange(6), 5)
    labels = np.tile([0, 1, 1, 0, 1], 6)
    said = [labels * 0.4 + rng.random(30), labels * 1.2 + rng.random(30)]
    called = [values > 0.8 for values in said]

    def metrics(ranks: np.ndarray, calls: np.ndarray) -> dict[str, float]:
        return {
            "average_precision": average_precision_score(labels, ranks),
            "roc_auc": roc_auc_score(labels, ranks),
            "precision": precision_score(labels, calls, zero_division=0),
            "recall": recall_score(labels, calls),
        }

    ranks = [rankdata(values) for values in said]
    differences = []
    for drawn in product([False, True], repeat=6):
        moved = np.array(drawn)[sheets]
        one = metrics(np.where(moved, ranks[1], ranks[0]), np.where(moved, called[1], called[0]))
        other = metrics(np.where(moved, ranks[0], ranks[1]), np.where(moved, called[0], called[1]))
        differences.append({name: abs(one[name] - other[name]) for name in one})
    table = pd.DataFrame(differences)
    expected = (table >= table.loc[0] - 1e-9).mean()
    for permutations, error in ((64, 1e-9), (63, 0.2)):  # all of them, or a random selection
        found = permutation_p_values(
            labels, (said[0], said[1]), (called[0], called[1]), sheets.astype(str),
            permutations=permutations, seed=1,
        )  # fmt: skip
        for name, chance in expected.items():
            assert found[str(name)] == pytest.approx(chance, abs=error)


def drawn(name: str, rng: np.random.Generator, truth: np.ndarray, skill: float) -> Experiment:
    """A model whose predictions are alike on a sheet of six tiles."""
    sheets = len(truth) // 6
    logits = skill * truth + rng.normal(0, 1, sheets).repeat(6) + rng.normal(0, 1, len(truth))
    table = pd.DataFrame(
        {
            "path": [f"images/S{n // 6}_{n}_1.tif" for n in range(len(truth))],
            "label": np.where(truth, "yes", "no"),
            "probability": 1 / (1 + np.exp(-logits)),
        }
    )
    return Experiment(name, table, 0.6, {"split.strategy": "sheet"})


def share_with_a_difference(skills: tuple[float, float], draws: int) -> float:
    """The share of comparisons that find any metric better or worse."""
    rng = np.random.default_rng(42)
    permutations = 40 * len(METRICS)  # enough for Holm's correction
    found = 0
    for number in range(draws):
        truth = rng.random(72) < 0.5
        pair = [drawn(f"{n}", rng, truth, skill) for n, skill in enumerate(skills)]
        comparison = compare(pair, resamples=1, seed=number, permutations=permutations)
        found += bool({"better", "worse"} & set(comparison.differences["verdict"]))
    return found / draws


def test_equal_models_differ_in_at_most_five_percent_of_comparisons() -> None:
    assert share_with_a_difference((1.5, 1.5), draws=250) <= 0.05


def test_a_far_better_model_is_found() -> None:
    assert share_with_a_difference((0.5, 4.0), draws=20) == 1
