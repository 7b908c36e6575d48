"""The model card has the hub's form, and the same facts before and after evaluation."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard

from capetown.errors import CapetownError
from capetown.pools.dataset.dataset import LabelledTiles
from capetown.pools.metrics import METRICS
from capetown.pools.model.manifest import ModelManifest
from capetown.pools.model.model_card import render_card, summarise_training
from tests.pools.training.tiny import card_of

SCORES = dict.fromkeys(METRICS, 0.75)
EVALUATION = {
    **dict.fromkeys(METRICS, 0.5), "n": 1234, "groups": 7,
    "intervals": {**{key: [0.4, 0.6] for key in METRICS}, "recall": [None, None]},
    "calibration": {"ece_before": 0.106, "ece_after": 0.145},
}  # fmt: skip


def fold(labels: list[int], groups: list[str]) -> LabelledTiles:
    names = np.array(groups)
    pixels = np.zeros((0, 8, 8, 3), np.uint8)
    return LabelledTiles([], names, names, np.array(labels), pixels, "", "names")


TRAIN, VALID = fold([1, 1, 0], ["A", "A", "B"]), fold([0], ["C"])


def manifest(valid: LabelledTiles = VALID) -> ModelManifest:
    summary = summarise_training(TRAIN, valid, SCORES, pretrained=True)
    return card_of("tf_efficientnet_lite0.in1k").model_copy(
        update={"training": summary, "threshold": 0.6454, "packages": {"timm": "1.0.31"}}
    )


def test_the_card_has_the_hubs_form_and_the_metrics_of_the_validation_fold() -> None:
    card = render_card(manifest())
    data: Any = ModelCard(card).data
    assert (data.library_name, data.pipeline_tag) == ("timm", "image-classification")
    assert data.base_model == "timm/tf_efficientnet_lite0.in1k"
    found = {r.metric_name: (r.metric_value, r.dataset_split) for r in data.eval_results}
    assert found == {metric.name: (0.75, "validation") for metric in METRICS.values()}
    for words in (
        "3 tiles for training, and 1 for choosing", "3 groups of neighbouring tiles",
        "No group is in both folds.", "50 % of the", "0.6454", "| recall | 0.750 |",
        "timm 1.0.31.", "evaluation/README.md",
    ):  # fmt: skip
        assert words in card
    shared = manifest(replace(VALID, groups=np.array(["B"])))
    assert "Some groups are in both folds" in render_card(shared)


def test_evaluation_adds_the_test_fold_to_the_same_facts() -> None:
    before, after = render_card(manifest()), render_card(manifest(), EVALUATION, "data")
    data: Any = ModelCard(after).data
    assert {(r.metric_value, r.dataset_split) for r in data.eval_results} == {(0.5, "test")}
    for words in (
        "On the test fold: 1,234 tiles of 7 groups", "| recall | 0.500 | – |",
        "| balanced accuracy | 0.500 | 0.400 to 0.600 |", "off by 14.5 % on average", "10.6 %",
        "The tiles came from `data`, **the synthetic ones",
    ):  # fmt: skip
        assert words in after
    old, new = (card.split("---\n", 2)[2].split("\n\n") for card in (before, after))
    assert [part for part in old if part not in new and "not been evaluated" not in part] == []
    assert "synthetic" not in render_card(manifest(), EVALUATION, "s3://cct")
    hostile = render_card(manifest(), EVALUATION, "a` ![b](http://c/d.png)\n\n![e](f)")
    assert "The tiles came from `a' ![b](http://c/d.png) ![e](f)`." in hostile


def test_a_random_split_claims_nothing_of_groups() -> None:
    summary = manifest().training
    assert summary is not None
    random = summary.model_copy(update={"groups_source": "none"})
    card = render_card(manifest().model_copy(update={"training": random}), EVALUATION, "tiles")
    assert "The split is random" in card
    assert "1,234 tiles, which were not used" in card
    assert "resampling single tiles" in card
    assert "groups" not in card


def test_the_card_says_whether_names_locate_tiles() -> None:
    summary = manifest().training
    assert summary is not None
    for verdict, words in (
        ("match", "continue their neighbours"), ("unknown", "was not checked"),
        ("mismatch", "has no location, even if its name gives one"),
    ):  # fmt: skip
        training = summary.model_copy(update={"names": verdict})
        assert words in render_card(manifest().model_copy(update={"training": training}))


def test_a_model_without_a_training_summary_has_no_card() -> None:
    with pytest.raises(CapetownError, match=r"model\.json: no summary of the training"):
        render_card(card_of("resnet18"))
