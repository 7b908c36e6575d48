"""The maps of requests and of pools."""

from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import polars as pl
import pytest
import vl_convert

from capetown.cli import main
from capetown.errors import CapetownError
from capetown.report.ground import svg_text
from capetown.report.pool_map import pool_map, read_pools
from capetown.report.render import markdown_and_images
from capetown.report.request_map import request_map
from tests.pools.prediction.test_per_hexagon import ROWS, table
from tests.report.city import facts
from tests.tables import CELLS, write_hexagons


@pytest.fixture
def pools(tmp_path: Path) -> gpd.GeoDataFrame:
    write_hexagons(tmp_path / "hexagons.geojson")
    table(ROWS).write_parquet(tmp_path / "predictions.parquet")
    out = tmp_path / "pools.parquet"
    main(["pools", str(tmp_path / "predictions.parquet"), "--out", str(out),
          "--hexagons", str(tmp_path / "hexagons.geojson")])  # fmt: skip
    found = read_pools(out)
    assert found is not None
    return found


def test_control_characters_in_a_name_are_replaced() -> None:
    """XML has no such characters, not even escaped."""
    text = svg_text("A\x1b[2J\0\n<b>", 1, 2, 3, "")
    assert text.endswith(">A?[2J? &lt;b&gt;</text>")
    assert vl_convert.svg_to_png(f'<svg xmlns="http://www.w3.org/2000/svg">{text}</svg>')


def test_the_map_of_pools_and_its_numbers(pools: gpd.GeoDataFrame, tmp_path: Path) -> None:
    drawn = pool_map(pools, None)
    [layer] = drawn.layers
    assert (list(layer.classes), list(layer.words)) == ([0, 0, -1], ["under 2"])
    assert {label: texts.get(0) for label, texts in drawn.details.items()} == {
        "Tiles": "2", "Expected to have a pool": "1.0", "95 % interval": "0 to 2",
        "Called by the model": "1",
    }  # fmt: skip
    assert len(drawn.ground.outlines) == len(drawn.index) == 3
    text, images = markdown_and_images(replace(facts(tmp_path), pools_by_hexagon=pools))
    assert "In 2 of the 3 hexagons the model judged 3 tiles." in text
    assert f"| `{CELLS[0]}` | 2 | 1.0 | 0 to 2 | 1 |" in text
    assert f"| `{CELLS[1]}` | 1 | 0.2 | 0 to 1 | 0 |" in text
    assert CELLS[2] not in text
    assert images["pools.png"]().startswith(b"\x89PNG")


def test_a_missing_file_is_none_and_a_damaged_one_an_error(tmp_path: Path) -> None:
    path = tmp_path / "pools.parquet"
    assert read_pools(path) is None
    path.write_bytes(b"PAR1")
    with pytest.raises(CapetownError) as error:
        read_pools(path)
    assert error.value.where == str(path)
    assert "capetown pools" in error.value.fix


def test_requests_have_a_layer_for_counts_days_and_each_directorate(tmp_path: Path) -> None:
    drawn = request_map(facts(tmp_path))
    assert [(group, len(layers)) for group, layers in drawn.menu] == [
        ("", 2), ("Number of requests", 1), ("Share of the hexagon’s requests", 1),
    ]  # fmt: skip
    count, days, part, share = (list(layer.classes) for layer in drawn.layers)
    assert count[:6] == part[:6] == [-1, 0, 1, 1, 1, 2]  # 0 to 5 requests
    # Fewer than five requests have neither a median nor a share.
    assert days[:6] == [-1, -1, -1, -1, -1, 2]
    assert share[:6] == [-1, -1, -1, -1, -1, 6]


def test_two_years_can_be_compared(tmp_path: Path) -> None:
    one = facts(tmp_path)
    hexagons = one.tables["hexagons"].with_columns(requests=pl.lit(12), requests_before=pl.lit(6))
    drawn = request_map(replace(one, tables={**one.tables, "hexagons": hexagons}))
    change = drawn.layers[2]
    assert (change.palette, change.words[6]) == ("d", "double or more")
    assert list(change.classes) == [-1] * 5 + [6] * (len(change.classes) - 5)
    assert drawn.details["Year before"][20] == "+100 %"
