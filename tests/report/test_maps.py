"""The maps of requests and of pools."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import geopandas as gpd
import h3
import polars as pl
import pytest
import shapely
import vl_convert
from font_roboto import RobotoBold, RobotoMedium

from capetown import city
from capetown.cli import main
from capetown.errors import CapetownError
from capetown.report.ground import svg_text
from capetown.report.pool_map import pool_map, read_pools
from capetown.report.render import markdown_and_images
from capetown.report.request_map import picture, request_map, text_width
from capetown.requests.hexagons import Hexagons
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
        ("", 2), ("Number of requests", 2), ("Share of the hexagon’s requests", 2),
    ]  # fmt: skip
    count, days, part, _, share, _ = (list(layer.classes) for layer in drawn.layers)
    assert count[:6] == [-1, 0, 1, 1, 1, 2]  # 0 to 5 requests
    assert part[:6] == [-1, -1, -1, 1, 1, 1]
    # Fewer than five requests have neither a median nor a share.
    assert days[:6] == [-1, -1, -1, -1, -1, 2]
    assert share[:6] == [-1, -1, -1, -1, -1, 5]


def test_two_years_can_be_compared(tmp_path: Path) -> None:
    one = facts(tmp_path)
    hexagons = one.tables["hexagons"].with_columns(requests=pl.lit(12), requests_before=pl.lit(6))
    drawn = request_map(replace(one, tables={**one.tables, "hexagons": hexagons}))
    change = drawn.layers[2]
    assert (change.palette, change.words[6]) == ("d", "double or more")
    assert list(change.classes) == [-1] * 5 + [6] * (len(change.classes) - 5)
    assert drawn.details["Year before"][20] == "+100 %"


def hexagons_of(west: float, south: float, east: float, north: float) -> gpd.GeoDataFrame:
    """Hexagons of a city, with a hundred requests in each."""
    cells = h3.geo_to_cells(shapely.box(west, south, east, north), 8)
    rings = Hexagons(pl.Series("index", cells)).rings
    names = [float("nan"), *["Charing Cross"] * (len(cells) - 1)]
    columns = {"index": cells, "requests": 100, "suburb": names, "directorate: A": 100,
               "median_days_to_completion": 2.5}  # fmt: skip
    return gpd.GeoDataFrame(columns, geometry=[*map(shapely.Polygon, rings)], crs="OGC:CRS84")


def boxes(parent: Element) -> dict[str, shapely.Polygon]:
    """The areas of the texts and legend signs directly in an element."""
    found = {}
    for child in parent:
        x, y, width, height = (float(child.get(name, 0)) for name in ("x", "y", "width", "height"))
        if child.tag.endswith("text"):
            bold = child.get("font-weight") == "700"
            size, words = int(child.get("font-size", 0)), str(child.text)
            width = text_width(words, RobotoBold if bold else RobotoMedium, size)
            left = x - {"end": width}.get(child.get("text-anchor", ""), 0)
            left -= width / 2 if child.get("class") else 0
            found[words] = shapely.box(left, y - 0.75 * size, left + width, y + 0.25 * size)
        elif child.tag.endswith("rect") and x:
            found[f"{x} {y}"] = shapely.box(x, y, x + width, y + height)
    return found


def overlaps(found: dict[str, shapely.Polygon]) -> list[tuple[str, str]]:
    return [
        (one, other) for (one, area), (other, another) in combinations(found.items(), 2)
        if area.intersects(another)
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["Ghent", "Saint-Quentin-en-Yvelines and all of Its Neighbours"])
@pytest.mark.parametrize(
    ("bounds", "is_beside"),
    [((0, 0, 0.1, 0.3), True), ((0, 0, 0.2, 0.2), True), ((0, 0, 0.3, 0.1), False)],
    ids=["tall", "square", "wide"],
)
def test_the_picture_fits_cities_of_any_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bounds: tuple[float, float, float, float],
    is_beside: bool, name: str,
) -> None:  # fmt: skip
    """Nothing overlaps or leaves the picture, and there is no sea without neighbours."""
    monkeypatch.setattr(city, "NAME", name)
    one = facts(tmp_path)
    kinds = one.tables["kinds"].with_columns(code=pl.col("code") + " and more pipes" * 9)
    one = replace(one, hexagons=hexagons_of(*bounds), tables={**one.tables, "kinds": kinds})
    drawn = request_map(one)
    svg = picture(one, drawn)
    assert 'class="sea"' not in svg
    assert "Atlantic" not in svg
    assert ">NaN<" not in svg

    root = fromstring(svg)
    inner = next(child for child in root if child.tag.endswith("svg"))
    whole, area = (
        shapely.box(0, 0, float(of.get("width", 0)), float(of.get("height", 0)))
        for of in (root, inner)
    )
    panel = boxes(root)
    assert next(iter(panel)).startswith(name[:20])
    assert len(panel) == 3 + 2 * 4 + 1 + 3 * 2  # heading, numbers, heading, types
    assert all(whole.contains(box) for box in panel.values())
    assert overlaps({"map": area} | panel) == []
    left, top, *_ = shapely.union_all(list(panel.values())).bounds
    assert (left > area.bounds[2], top > area.bounds[3]) == (is_beside, not is_beside)

    wide, high = map(float, inner.get("viewBox", "").split()[2:])
    assert high / wide == pytest.approx(area.bounds[3] / area.bounds[2], rel=0.01)
    legend = boxes(inner)
    assert {"Charing Cross", "Requests in a hexagon", "100 or more"} < set(legend)
    assert all(shapely.box(0, 0, wide, high).contains(box) for box in legend.values())
    assert overlaps(legend) == []
    legend.pop("Charing Cross")
    assert [words for words, box in legend.items() if box.intersects(drawn.ground.covered)] == []
