"""The model's card for people: the hub's form, the same facts before and after the judgement."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard as HubCard

from capetown.errors import CapetownError
from capetown.params import BandRendering
from capetown.pools.dataset.dataset import LabelledTiles
from capetown.pools.dataset.drift import TypicalProfile
from capetown.pools.metrics import METRICS
from capetown.pools.model.manifest import ModelManifest
from capetown.pools.model.model_card import PENDING, judged_card, write_card

SCORES = dict.fromkeys(METRICS, 0.75)
FIGURES = {
    **dict.fromkeys(METRICS, 0.5), "n": 1234, "groups": 7,
    "intervals": {**{key: [0.4, 0.6] for key in METRICS}, "recall": [None, None]},
    "calibration": {"ece_before": 0.106, "ece_after": 0.145},
}  # fmt: skip


def fold(labels: list[int], groups: list[str]) -> LabelledTiles:
    names = np.array(groups)
    return LabelledTiles(
        [], names, names, np.array(labels), np.zeros((len(labels), 8, 8, 3), np.uint8), ""
    )


TRAIN, VALID = fold([1, 1, 0], ["A", "A", "B"]), fold([0], ["C"])


@pytest.fixture
def card(usual: TypicalProfile) -> ModelManifest:
    return ModelManifest(
        architecture="tf_efficientnet_lite0.in1k", image_size=224, mean=[0.5, 0.5, 0.5],
        std=[0.5, 0.5, 0.5], interpolation="bicubic", tiles=BandRendering(bands=None, scale="full"),
        usual=usual, classes=["no", "yes"], threshold=0.6454, temperature=3.0772,
        dataset="0123456789abcdef", packages={"timm": "1.0.31"},
    )  # fmt: skip


@pytest.fixture
def usual() -> TypicalProfile:
    return TypicalProfile(side=256, resolution=0.08, dark=False, grey=False)


def write(folder: Path, card: ModelManifest, valid: LabelledTiles = VALID) -> str:
    write_card(folder, card, TRAIN, valid, SCORES, pretrained=True)
    return (folder / "README.md").read_text(encoding="utf-8")


def test_it_has_the_hubs_form_with_the_validation_folds_metrics(
    tmp_path: Path, card: ModelManifest
) -> None:
    text = write(tmp_path, card)
    data: Any = HubCard(text).data
    assert (data.library_name, data.pipeline_tag) == ("timm", "image-classification")
    assert data.base_model == "timm/tf_efficientnet_lite0.in1k"
    found = {r.metric_name: (r.metric_value, r.dataset_split) for r in data.eval_results}
    assert found == {metric.name: (0.75, "validation") for metric in METRICS.values()}
    for words in (
        "3 tiles to learn from and 1 to choose", "from\n3 groups", "No group is in two folds.",
        "50 % have one", "from 0.6454\non it says", PENDING,
    ):  # fmt: skip
        assert words in text


def test_groups_on_both_sides_are_said(tmp_path: Path, card: ModelManifest) -> None:
    both = replace(VALID, groups=np.array(["B"]))
    assert "Some groups are in both folds, so the figures below flatter." in write(
        tmp_path, card, both
    )


def test_the_judgement_is_added_to_the_same_facts(tmp_path: Path, card: ModelManifest) -> None:
    before = write(tmp_path, card)
    after = judged_card(tmp_path, card, FIGURES, "data")
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == before
    data: Any = HubCard(after).data
    assert {(r.metric_value, r.dataset_split) for r in data.eval_results} == {(0.5, "test")}
    for words in (
        "On the test fold, 1,234 tiles of 7 groups",
        "| balanced accuracy | 0.500 | 0.400 to 0.600 |",
        "| recall | 0.500 | – |", "off by 14.5 % on average (expected calibration error; 10.6 %",
        "The tiles came from `data`, **the made-up ones in the repository",
    ):  # fmt: skip
        assert words in after
    assert PENDING not in after
    said = before.split("---\n", 2)[2].replace(PENDING, "")
    for paragraph in said.split("\n\n"):
        assert paragraph.strip() in after
    assert "made-up" not in judged_card(tmp_path, card, FIGURES, "s3://cct")


def test_a_folder_without_a_card_is_named(tmp_path: Path, card: ModelManifest) -> None:
    with pytest.raises(CapetownError, match=r"README\.md: no model card; `dvc repro train`"):
        judged_card(tmp_path, card, FIGURES, "data")
