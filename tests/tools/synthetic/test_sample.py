"""The sample bucket's tables: real cells, the City's columns, known answers, the same bytes."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import geopandas as gpd
import h3
import polars as pl
import pytest
import shapely
import yaml

from capetown.errors import CapetownError
from tests import ROOT
from tools.synthetic import make_bucket, requests
from tools.synthetic.__main__ import main
from tools.synthetic.hexagons import city_cells, corner_cells
from tools.synthetic.known import known_requests

COUNT = 20_000
COLUMNS = (
    "notification_number,reference_number,creation_timestamp,completion_timestamp,directorate,"
    "department,branch,section,code_group,code,cause_code_group,cause_code,official_suburb,"
    "latitude,longitude"
)
TABLES = ("sr.csv.gz", "sr_hex.csv.gz", "sr_hex_truncated.csv")
HEXAGONS = ("city-hex-polygons-8.geojson", "city-hex-polygons-8-10.geojson")
# The City's own requests: latitude, longitude, index.
ANSWERS = {
    "000400583534": (-33.872839, 18.522488, "88ad360225fffff"),
    "000400555043": (-34.078916, 18.848940, "88ad36d5e1fffff"),
    "000400589145": (-34.102242, 18.821116, "88ad36d437fffff"),
    "000400538915": (-33.920019, 18.607209, "88ad361133fffff"),
    "000400568554": (-33.987400, 18.453760, "88ad361709fffff"),
    "001015950287": (-34.044257, 18.774378, "88ad36c629fffff"),
    "001016348681": (-34.044257, 18.774378, "88ad36c629fffff"),
    "001016488950": (-33.904955, 18.723060, "88ad361b51fffff"),
}
OUTSIDE = {"001015950287", "001016348681", "001016488950"}
LACKING = {"88ad36c629fffff", "88ad361b51fffff"}


def read(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, infer_schema=False)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sample") / "bucket"
    make_bucket(out, requests=COUNT, tiles=0, seed=42)
    return out


@pytest.fixture(scope="module")
def indexed(bucket: Path) -> pl.DataFrame:
    return read(bucket / "sr_hex.csv.gz")


def test_same_arguments_give_the_same_bytes_on_any_number_of_threads(
    bucket: Path, tmp_path: Path
) -> None:
    subprocess.run(
        [sys.executable, "-m", "tools.synthetic", tmp_path / "again", "--tiles", "0"],
        env={**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"},
        check=True,
    )
    assert bytes_of(tmp_path / "again") == bytes_of(bucket)
    assert set(bytes_of(bucket)) == {*TABLES, *HEXAGONS}


def test_another_seed_gives_other_requests_in_the_same_city(bucket: Path, tmp_path: Path) -> None:
    make_bucket(tmp_path / "other", requests=COUNT, tiles=0, seed=43)
    ours, other = bytes_of(bucket), bytes_of(tmp_path / "other")
    assert all(ours[name] == other[name] for name in HEXAGONS)
    assert all(ours[name] != other[name] for name in TABLES)


def test_the_city_has_its_3832_cells() -> None:
    cells = city_cells()
    assert len(cells) == len(set(cells)) == 3832
    assert list(cells) == sorted(cells)
    assert {h3.get_resolution(cell) for cell in cells} == {8}
    assert {index for *_, index in ANSWERS.values()} - LACKING <= set(cells)
    assert not LACKING & set(cells)


@pytest.mark.parametrize(
    ("latitude", "longitude", "nearest"),
    [(-34.044257, 18.774378, "88ad36c605fffff"), (-33.904955, 18.723060, "88ad361b5bfffff")],
)
def test_a_nearest_polygon_join_is_as_wrong_as_on_the_citys_cells(
    bucket: Path, latitude: float, longitude: float, nearest: str
) -> None:
    cells = gpd.read_file(bucket / HEXAGONS[0]).to_crs("EPSG:32734")
    point = gpd.GeoSeries.from_xy([longitude], [latitude], crs="EPSG:4326").to_crs("EPSG:32734")
    away = cells.distance(point[0])
    assert cells["index"][away.idxmin()] == nearest
    assert away.min() > 0


@pytest.mark.parametrize(
    ("latitude", "longitude"), [(-33.87138874, 18.51291184), (-34.01534140, 18.61084840)]
)
def test_straight_edges_give_the_wrong_cell_at_the_two_edge_points(
    bucket: Path, latitude: float, longitude: float
) -> None:
    cells = gpd.read_file(bucket / HEXAGONS[0])
    within = cells[cells.contains(shapely.Point(longitude, latitude))]["index"].tolist()
    index = h3.latlng_to_cell(latitude, longitude, 8)
    assert within != [index]
    assert index in city_cells()


def test_the_cells_are_one_piece_that_fills_the_citys_box() -> None:
    reached, waiting = {city_cells()[0]}, [city_cells()[0]]
    while waiting:
        new = (set(h3.grid_disk(waiting.pop(), 1)) & set(city_cells())) - reached
        reached |= new
        waiting += new
    assert len(reached) == 3832
    vertices = [vertex for cell in city_cells() for vertex in h3.cell_to_boundary(cell)]
    assert 18.298 < min(lon for _, lon in vertices) < 18.303
    assert 19.008 < max(lon for _, lon in vertices) < 19.013
    assert -34.365 < min(lat for lat, _ in vertices) < -34.360
    assert -33.469 < max(lat for lat, _ in vertices) < -33.464


@pytest.mark.parametrize(("name", "count"), [(HEXAGONS[0], 3832), (HEXAGONS[1], 1083)])
def test_polygons_are_h3s_own_to_the_last_digit(bucket: Path, name: str, count: int) -> None:
    features = json.loads((bucket / name).read_text())["features"]
    assert len(features) == count
    for feature in features:
        properties, geometry = feature["properties"], feature["geometry"]
        cell = properties["index"]
        ring = [[lon, lat] for lat, lon in h3.cell_to_boundary(cell)]
        assert geometry == {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
        assert (properties["centroid_lat"], properties["centroid_lon"]) == h3.cell_to_latlng(cell)


def test_hexagon_file_is_written_as_the_city_writes_it(bucket: Path) -> None:
    lines = (bucket / HEXAGONS[0]).read_text().splitlines()
    assert lines[:5] == [
        "{",
        '"type": "FeatureCollection",',
        '"name": "city-hex-polygons-8",',
        '"crs": { "type": "name", "properties": { "name": "urn:ogc:def:crs:OGC:1.3:CRS84" } },',
        '"features": [',
    ]
    assert [json.loads(line.rstrip(","))["properties"]["index"] for line in lines[5:-2]] == list(
        city_cells()
    )
    frame = gpd.read_file(bucket / HEXAGONS[0])
    assert list(frame.columns) == ["index", "centroid_lat", "centroid_lon", "geometry"]
    assert frame.crs == "EPSG:4326"
    assert frame.is_valid.all()


def test_a_corner_of_the_city_at_three_resolutions(bucket: Path) -> None:
    collection = json.loads((bucket / HEXAGONS[1]).read_text())
    assert list(collection) == ["type", "crs", "features"]
    rows = [feature["properties"] for feature in collection["features"]]
    assert [row["index"] for row in rows] == list(corner_cells())
    assert all(row["resolution"] == h3.get_resolution(row["index"]) for row in rows)
    coarse = [row["index"] for row in rows if row["resolution"] == 8]
    assert set(coarse) <= set(city_cells())
    assert len(coarse) == 19
    for resolution in (9, 10):
        fine = {row["index"] for row in rows if row["resolution"] == resolution}
        assert fine == {child for cell in coarse for child in h3.cell_to_children(cell, resolution)}


def test_the_tables_have_the_citys_columns_and_the_same_rows(
    bucket: Path, indexed: pl.DataFrame
) -> None:
    plain = read(bucket / "sr.csv.gz")
    header = gzip.decompress((bucket / "sr.csv.gz").read_bytes()).split(b"\n")[0]
    assert header.decode() == f",{COLUMNS}"
    assert plain.columns == ["", *COLUMNS.split(",")]
    assert plain[""].to_list() == [str(k) for k in range(COUNT)]
    assert indexed.columns == [*COLUMNS.split(","), "h3_level8_index"]
    assert plain.drop("").equals(indexed.drop("h3_level8_index"))
    assert read(bucket / "sr_hex_truncated.csv").equals(indexed.head(1000))


def test_every_index_is_what_h3_says(indexed: pl.DataFrame) -> None:
    nowhere = []
    for row in indexed.select("latitude", "longitude", "h3_level8_index").iter_rows():
        latitude, longitude, index = row
        if latitude is None and longitude is None:
            assert index == "0"
        elif index is None:
            nowhere.append((latitude, longitude))
        else:
            assert h3.latlng_to_cell(float(latitude), float(longitude), 8) == index
    assert sorted(nowhere) == [
        ("-33,90312", "18,58847"),
        ("-3398152", "1855416"),
        ("-3768230.16", "-45917.62"),
    ]


def test_known_answers_are_among_the_requests(indexed: pl.DataFrame) -> None:
    found = indexed.filter(pl.col("notification_number").is_in(list(ANSWERS)))
    rows = found.select("notification_number", "latitude", "longitude", "h3_level8_index")
    assert {
        number: (float(latitude), float(longitude), index)
        for number, latitude, longitude, index in rows.iter_rows()
    } == ANSWERS
    points = set(indexed.select("latitude", "longitude").iter_rows())
    assert {("-33.87138874", "18.51291184"), ("-34.0153414", "18.6108484")} <= points


def test_ten_requests_fail_to_join_below_a_thousandth(indexed: pl.DataFrame) -> None:
    cells = pl.col("h3_level8_index")
    failed = indexed.filter(cells.is_null() | ~cells.is_in([*city_cells(), "0"]))
    assert len(failed) == 10
    assert failed.filter(cells.is_in(list(LACKING))).height == 3
    assert failed.filter(cells.is_null()).height == 3
    assert len(failed) / indexed["latitude"].count() < 0.001


def test_22_6_percent_have_no_coordinates(indexed: pl.DataFrame) -> None:
    without = pl.col("latitude").is_null()
    assert indexed.filter(without).height == 4520
    assert indexed.filter(without != pl.col("longitude").is_null()).is_empty()


def test_notification_numbers_are_unique_text_in_order(indexed: pl.DataFrame) -> None:
    numbers = indexed["notification_number"]
    assert numbers.n_unique() == COUNT
    assert numbers.str.contains(r"^00(04|10)\d{8}$").all()
    for start in ("0004", "0010"):
        assert numbers.filter(numbers.str.starts_with(start)).is_sorted()
    references = indexed["reference_number"]
    assert references.drop_nulls().str.contains(r"^91\d{8}$").all()
    assert 0.30 < references.null_count() / COUNT < 0.38


def test_times_are_a_year_in_order_and_some_end_before_they_begin(indexed: pl.DataFrame) -> None:
    columns = ["creation_timestamp", "completion_timestamp"]
    for column in columns:
        stamp = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+02:00$"
        assert indexed[column].drop_nulls().str.contains(stamp).all()
    created, completed = (
        indexed[column].str.head(19).str.to_datetime("%Y-%m-%d %H:%M:%S") for column in columns
    )
    assert created.is_sorted()
    assert created.dt.year().unique().to_list() == [2020]
    assert completed.dt.year().max() == 2022
    assert 20 <= completed.null_count() <= 200
    taken = (completed - created).dt.total_seconds().drop_nulls()
    early = taken.filter(taken < 0)
    assert early.min() >= -900  # type: ignore[operator]
    assert 0.003 < len(early) / COUNT < 0.009
    monthly = created.dt.month().value_counts().sort("creation_timestamp")["count"]
    assert monthly.arg_min() == 3, "April was the lockdown"


def test_rows_are_the_same_people_in_any_number_of_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "SLICE", 700)
    make_bucket(tmp_path / "bucket", requests=2000, tiles=0, seed=1)
    rows = read(tmp_path / "bucket" / "sr.csv.gz")
    assert rows[""].to_list() == [str(k) for k in range(2000)]
    assert rows["creation_timestamp"].is_sorted()
    assert set(ANSWERS) - OUTSIDE <= set(rows["notification_number"])
    assert rows["latitude"].null_count() == 452


def test_the_smallest_bucket_has_every_answer_in_the_city(tmp_path: Path) -> None:
    make_bucket(tmp_path / "bucket", requests=100, tiles=0, seed=7)
    rows = read(tmp_path / "bucket" / "sr_hex.csv.gz")
    assert len(rows) == rows["notification_number"].n_unique() == 100
    assert set(ANSWERS) - OUTSIDE <= set(rows["notification_number"])


@pytest.mark.parametrize("count", [100, 1_428, 1_429, 3_000, 20_000, 941_634])
def test_no_more_requests_fail_than_the_pipeline_lets_pass(count: int) -> None:
    failing = len(known_requests(count)) - len(known_requests(0))
    threshold = yaml.safe_load((ROOT / "params.yaml").read_text())["transform"]["error_threshold"]
    assert failing / round((1 - requests.MISSING) * count) <= threshold
    assert failing == 10 or count < 20_000


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"requests": 99}, "99 requests, 0 tiles, seed 1"),
        ({"requests": 300_000_000}, "300000000 requests, 0 tiles, seed 1"),
        ({"tiles": -1}, "100 requests, -1 tiles, seed 1"),
        ({"seed": -1}, "100 requests, 0 tiles, seed -1"),
        ({"tiles": 1_000_000}, "1000000 tiles"),
        ({"tiles": 1, "tile_side": 5_000}, "a side of 5000 pixels"),
    ],
)
def test_a_number_out_of_range_is_refused(
    tmp_path: Path, given: dict[str, Any], where: str
) -> None:
    with pytest.raises(CapetownError) as error:
        make_bucket(tmp_path / "bucket", **{"requests": 100, "tiles": 0, "seed": 1, **given})
    assert error.value.where == where
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit, match="is not an empty folder"):
        main([str(tmp_path), "--requests", "100", "--tiles", "0"])
    with pytest.raises(CapetownError, match="File exists"):
        make_bucket(tmp_path / "mine.txt" / "bucket", requests=100, tiles=0, seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CapetownError, match="1000000 tiles"):
        make_bucket(tmp_path / "empty", requests=100, tiles=1_000_000, seed=1)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
    make_bucket(tmp_path / "empty", requests=100, tiles=0, seed=1)
    assert {path.name for path in (tmp_path / "empty").iterdir()} == {*TABLES, *HEXAGONS}
