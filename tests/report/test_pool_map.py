"""The report's map of pools, where there is one."""

from dataclasses import replace
from pathlib import Path

import pytest

from capetown.cli import main
from capetown.errors import CapetownError
from capetown.report.pool_map import Predicted, predicted_map, read_predicted
from capetown.report.render import markdown_and_images, page
from tests.pools.prediction.test_per_hexagon import ROWS, table
from tests.report.city import facts
from tests.tables import CELLS, write_hexagons


@pytest.fixture
def predicted(tmp_path: Path) -> Predicted:
    write_hexagons(tmp_path / "hexagons.geojson")
    table(ROWS).write_parquet(tmp_path / "predictions.parquet")
    out = tmp_path / "pools.parquet"
    main(["pools", str(tmp_path / "predictions.parquet"), "--out", str(out),
          "--hexagons", str(tmp_path / "hexagons.geojson")])  # fmt: skip
    found = read_predicted(out)
    assert found is not None
    return found


def test_both_reports_have_the_map_and_its_numbers(predicted: Predicted, tmp_path: Path) -> None:
    with_map = replace(facts(tmp_path), predicted=predicted)
    text, images = markdown_and_images(with_map)
    assert "In 2 of the 3 hexagons the model judged 3 tiles." in text
    assert f"| `{CELLS[0]}` | 2 | 1.0 | 0 to 2 | 1 |" in text
    assert f"| `{CELLS[1]}` | 1 | 0.2 | 0 to 1 | 0 |" in text
    assert CELLS[2] not in text
    assert images["pools.png"]().startswith(b"\x89PNG")
    html = page(with_map)
    assert 'id="pools"' in html
    assert "Where the pools are" in html


def test_without_one_the_report_does_not_speak_of_it(tmp_path: Path) -> None:
    text, images = markdown_and_images(replace(facts(tmp_path), predicted=None))
    assert "Where the pools are" not in text
    assert "pools.png" not in images


def test_hexagons_of_the_map_carry_their_numbers(predicted: Predicted) -> None:
    [[first, second]] = predicted_map(predicted).to_dict()["datasets"].values()
    assert (first["index"], first["tiles_with_pool_expected"], first["tiles_with_pool_high"]) == (
        CELLS[0],
        1.0,
        2,
    )
    assert second["tiles"] == 1
    assert len(first["geometry"]["coordinates"][0]) == 7


def test_a_missing_map_is_none_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    assert read_predicted(tmp_path / "pools.parquet") is None
    (tmp_path / "pools.parquet").write_bytes(b"PAR1")
    with pytest.raises(CapetownError, match=r"pools\.parquet: cannot be read \(.*makes it anew"):
        read_predicted(tmp_path / "pools.parquet")
