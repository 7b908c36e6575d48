"""The report's pictures have the same names in every run."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from capetown.errors import CapetownError
from capetown.pools.evaluation.examples import draw_mistakes, draw_samples
from tests.pools.training.tiny import card_of, outspoken_model

ARCHITECTURE = "test_efficientnet.r160_in1k"


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    """Six tiles in a folder, each of another grey."""
    rows = [(f"{label}{n}.tif", label) for label in ("no", "yes") for n in range(3)]
    for n, (path, _) in enumerate(rows):
        Image.fromarray(np.full((64, 64, 3), 40 * n, np.uint8)).save(tmp_path / path)
    return pd.DataFrame(rows, columns=["path", "label"]).assign(kind="false_positive")


def grey(path: Path) -> int:
    return int(np.asarray(Image.open(path))[0, 0, 0])


def test_pictures_are_numbered_from_the_worst_mistake_and_by_path(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    folder = tmp_path / "evaluation"
    folder.mkdir()
    model, card = outspoken_model(ARCHITECTURE), card_of(ARCHITECTURE)
    for shown in ([4, 1], [0, 5]):
        drawn = draw_mistakes(table.loc[shown], model, card, root=tmp_path, folder=folder)
        assert drawn["tile"].tolist() == ["mistake-1.png", "mistake-2.png"]
        assert drawn["saliency"].tolist() == ["mistake-1-saliency.png", "mistake-2-saliency.png"]
        assert {p.name for p in folder.iterdir()} == {*drawn["tile"], *drawn["saliency"]}
        assert [grey(folder / name) for name in drawn["tile"]] == [40 * n for n in shown]
    drawn = draw_samples(table, card, seed=3, root=tmp_path, folder=folder)
    assert drawn["path"].tolist() == sorted(table["path"])
    assert drawn["tile"].tolist() == [f"sample-{n}.png" for n in range(1, 7)]
    assert [grey(folder / name) for name in drawn["tile"]] == [40 * n for n in range(6)]


def test_an_unreadable_tile_is_named(table: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "no1.tif").write_bytes((tmp_path / "no1.tif").read_bytes()[:100])
    card = card_of(ARCHITECTURE)
    with pytest.raises(CapetownError) as caught:
        draw_samples(table, card, seed=3, root=tmp_path, folder=tmp_path)
    assert caught.value.where == str(tmp_path / "no1.tif")
