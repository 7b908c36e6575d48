"""Labelled tiles on the map, and their hexagons' requests."""

from dataclasses import replace
from pathlib import Path

import h3
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from capetown.city import RESOLUTION
from capetown.report.facts import Facts
from capetown.report.labelled_tiles import (
    MIN_HEXAGONS,
    correlate,
    labelled_map,
    outside,
    tile_statistics,
    tiles_by_hexagon,
)
from capetown.report.render import markdown_and_images
from tests.report.city import CELLS, facts


@pytest.fixture
def small(tmp_path: Path) -> Facts:
    return facts(tmp_path)


def test_tiles_are_counted_by_hexagon_and_test_errors_with_them(small: Facts) -> None:
    """Of the five tiles, one lies outside. Probabilities fall from 39/40, and labels from yes."""
    rows = tiles_by_hexagon(small)
    table = {row[0]: list(row[1:]) for row in rows.itertuples(index=False)}
    assert list(rows.columns) == [
        "index", "tiles", "with_pool", "train", "valid", "test", "wrong",
    ]  # fmt: skip
    assert table[CELLS[0]] == [1, 1, 0, 0, 1, 0]
    assert table[CELLS[1]] == [3, 2, 1, 0, 2, 0]
    wrong = replace(small, evaluate={**small.evaluate, "threshold": 0.99})
    assert tiles_by_hexagon(wrong)["wrong"].sum() == 2
    numbers = tile_statistics(small)
    assert (numbers["tiles"], numbers["elsewhere"], numbers["unknown"]) == (49, 1, 150)
    assert numbers["correlation"].hexagons == 15
    said = "1 of 50 located tiles lie outside all hexagons, such as b.tif (by name)"
    assert outside(small) == said
    assert outside(replace(small, tiles=small.tiles[:3])) == ""


def test_the_map_shows_counts_shares_folds_and_errors(small: Facts) -> None:
    drawn = labelled_map(small)
    classes = {layer.name: list(layer.classes)[:2] for layer in drawn.layers}
    assert classes == {
        "labelled tiles": [0, 1],
        "share with a pool": [-1, 3],
        "fold": [2, 3],
        "test tiles called wrongly": [-1, -1],
    }
    assert drawn.details["Fold"] == {
        0: "1 test", 1: "1 training, 2 test",
        **{20 + n: "3 training" for n in range(15)},
    }  # fmt: skip
    text, images = markdown_and_images(small)
    assert "49 labelled tiles lie in 17 hexagons." in text
    assert "That is not how common pools are." in text
    assert images["labelled.png"]().startswith(b"\x89PNG")


def test_without_located_tiles_nothing_is_said(small: Facts) -> None:
    text, images = markdown_and_images(replace(small, tiles=pd.DataFrame()))
    assert "labelled tiles lie in" not in text
    assert "labelled.png" not in images


@pytest.mark.parametrize(("noise", "linked"), [(0.05, True), (50.0, False)])
def test_the_correlation_equals_scipy_and_its_interval_tells_a_link(
    noise: float, linked: bool
) -> None:
    """Nineteen neighbourhoods of ten hexagons each."""
    rng = np.random.default_rng(3)
    around = h3.grid_disk(h3.cell_to_parent(CELLS[0], RESOLUTION - 2), 2)
    cells = [cell for parent in around for cell in h3.cell_to_children(parent, RESOLUTION)[:10]]
    pools = rng.random(190)
    rows = pd.DataFrame(
        {"index": cells, "pools": pools, "water": pools + rng.normal(0, noise, 190)}
    )
    found = correlate(rows, seed=1)
    assert found is not None
    assert (found.hexagons, found.neighbourhoods) == (190, 19)
    assert found.value == pytest.approx(spearmanr(rows["pools"], rows["water"]).statistic)
    assert found.low <= found.value <= found.high
    assert (found.low > 0) == linked
    assert correlate(rows, seed=1) == found
    assert correlate(rows.assign(water=0.5), seed=1) is None
    assert correlate(rows[: MIN_HEXAGONS - 1], seed=1) is None
