"""From tiles to a map of pools by hexagon: what `predict` writes is what `pools` reads."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from PIL import Image
from torch import nn

from capetown.cli import main
from tests.pools.prediction import predict
from tests.pools.prediction.test_georeference import geotiff
from tests.tables import write_hexagons


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_two_commands_make_a_map(
    ending: str, model: tuple[nn.Module, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiles = tmp_path / "tiles"
    tiles.mkdir()
    geotiff(tiles / "a.tif")
    geotiff(tiles / "b.tif")
    (tiles / "damaged.tif").write_bytes(b"II*\0")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tiles / "nowhere.tif")
    written = tmp_path / f"predictions.{ending}"
    predictions = predict(model[1], written, str(tiles))
    [cell] = {index for index in predictions["h3_index"] if isinstance(index, str) and index}
    hexagons = write_hexagons(tmp_path / "hexagons.geojson", [cell])
    capsys.readouterr()
    out = tmp_path / "pools.parquet"
    main(["pools", str(written), "--hexagons", str(hexagons), "--out", str(out)])
    [row] = gpd.read_parquet(out).to_dict("records")
    assert (row["index"], row["tiles"], row["unread"]) == (cell, 2, 0)
    probability = float(predictions["probability"].iloc[0])
    assert row["pools_expected"] == pytest.approx(2 * probability)
    said = capsys.readouterr().out
    assert "2 tiles have no place on Earth and count nowhere" in said
    # Both show the same square.
    assert "50% of the tiles' area repeats what others show" in said
