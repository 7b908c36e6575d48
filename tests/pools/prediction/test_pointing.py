"""Where in a tile that is called the evidence is strongest, in pixels and on Earth."""

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from capetown.pools.model.evidence import evidence, strongest_points
from capetown.pools.model.modelfile import save_model
from capetown.pools.tiles.reading import resize
from tests.pools.prediction import CARD, predict
from tests.pools.prediction.test_places import NORTH, PIXELS, TO_EARTH, WEST, geotiff

PLACE = ["evidence_x", "evidence_y", "evidence_longitude", "evidence_latitude"]


def test_a_tile_that_is_called_has_its_point_and_others_have_none(
    model: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    geotiff(tmp_path / "a.tif")
    found = {}
    for threshold in (0.0, 1.0):
        folder = tmp_path / str(threshold)
        save_model(folder, model[0], CARD.model_copy(update={"threshold": threshold}))
        out = tmp_path / f"{threshold}.parquet"
        found[threshold] = predict(folder, out, str(tmp_path / "a.tif")).iloc[0]
    assert found[1.0][PLACE].isna().all()

    row = found[0.0]
    its = model[0].eval()
    pixels = resize(PIXELS, CARD.image_size, "bicubic")[None]
    [(x, y)] = strongest_points(evidence(its, CARD, pixels, towards_yes=True)) * 40
    assert (row["evidence_x"], row["evidence_y"]) == pytest.approx((x, y), abs=0.05)
    # 2.5 m a pixel, counted from the upper left corner.
    place = TO_EARTH.transform(WEST + 2.5 * x, NORTH - 2.5 * y)
    assert (row["evidence_latitude"], row["evidence_longitude"]) == pytest.approx(place, abs=1e-6)
    assert np.hypot(x - 20, y - 20) > 1
