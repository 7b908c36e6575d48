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
import numpy as np
import polars as pl
import pytest
import yaml

from capetown.errors import CapetownError
from tests import ROOT
from tests.tables import HEADER
from tools.synthetic import make_bucket, requests
from tools.synthetic.__main__ import main
from tools.synthetic.hexagons import city_cells, corner_cells
from tools.synthetic.known import known_requests

COUNT = 20_000
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
    make_bucket(tmp_path, requests=COUNT, tiles=0, seed=43)
    ours, other = bytes_of(bucket), bytes_of(tmp_path)
    assert {name for name in ours if ours[name] == other[name]} == set(HEXAGONS)


def test_the_citys_3832_cells_are_one_piece_that_fills_its_box() -> None:
    cells = city_cells()
    assert len(cells) == 3832
    assert list(cells) == sorted(set(cells))
    assert {h3.get_resolution(cell) for cell in cells} == {8}
    assert {index for *_, index in ANSWERS.values()} - set(cells) == LACKING
    reached, waiting = {cells[0]}, [cells[0]]
    while waiting:
        new = (set(h3.grid_disk(waiting.pop(), 1)) & set(cells)) - reached
        reached |= new
        waiting += new
    assert reached == set(cells)
    vertices = np.array([v for cell in cells for v in h3.cell_to_boundary(cell)])
    box = [*vertices.min(axis=0), *vertices.max(axis=0)]
    assert box == pytest.approx([-34.3625, 18.3005, -33.4665, 19.0105], abs=0.0025)


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
    assert "\n".join(lines[:5]) == (
        '{\n"type": "FeatureCollection",\n"name": "city-hex-polygons-8",\n'
        '"crs": { "type": "name", "properties": { "name": "urn:ogc:def:crs:OGC:1.3:CRS84" } },\n'
        '"features": ['
    )
    indices = [json.loads(line.rstrip(","))["properties"]["index"] for line in lines[5:-2]]
    assert indices == list(city_cells())
    frame = gpd.read_file(bucket / HEXAGONS[0])
    assert list(frame.columns) == ["index", "centroid_lat", "centroid_lon", "geometry"]
    assert frame.crs == "EPSG:4326"
    assert frame.is_valid.all()


def test_a_corner_of_the_city_at_three_resolutions(bucket: Path) -> None:
    collection = json.loads((bucket / HEXAGONS[1]).read_text())
    rows = [feature["properties"] for feature in collection["features"]]
    assert [row["index"] for row in rows] == list(corner_cells())
    assert all(row["resolution"] == h3.get_resolution(row["index"]) for row in rows)
    by_resolution = {n: {r["index"] for r in rows if r["resolution"] == n} for n in (8, 9, 10)}
    assert len(by_resolution[8]) == 19
    assert by_resolution[8] <= set(city_cells())
    for n in (9, 10):
        children = {c for cell in by_resolution[8] for c in h3.cell_to_children(cell, n)}
        assert by_resolution[n] == children


def test_the_tables_have_the_citys_columns_and_the_same_rows(
    bucket: Path, indexed: pl.DataFrame
) -> None:
    plain = read(bucket / "sr.csv.gz")
    header = gzip.decompress((bucket / "sr.csv.gz").read_bytes()).split(b"\n")[0]
    assert header.decode() == ",".join(["", *HEADER])
    assert plain.columns == ["", *HEADER]
    assert plain[""].to_list() == [str(k) for k in range(COUNT)]
    assert indexed.columns == [*HEADER, "h3_level8_index"]
    assert plain.drop("").equals(indexed.drop("h3_level8_index"))
    assert read(bucket / "sr_hex_truncated.csv").equals(indexed.head(1000))


def test_every_index_is_what_h3_says(indexed: pl.DataFrame) -> None:
    nowhere = set()
    columns = ["latitude", "longitude", "h3_level8_index"]
    for latitude, longitude, index in indexed.select(columns).iter_rows():
        if index is None:
            nowhere.add(f"{latitude} {longitude}")
        elif index == "0":
            assert latitude is longitude is None
        else:
            assert h3.latlng_to_cell(float(latitude), float(longitude), 8) == index
    assert nowhere == {"-33,90312 18,58847", "-3398152 1855416", "-3768230.16 -45917.62"}


def test_known_answers_are_among_the_requests(indexed: pl.DataFrame) -> None:
    columns = ["notification_number", "latitude", "longitude", "h3_level8_index"]
    rows = indexed.select(columns).filter(pl.col(columns[0]).is_in(list(ANSWERS))).iter_rows()
    assert {n: (float(y), float(x), index) for n, y, x, index in rows} == ANSWERS
    points = set(indexed.select("latitude", "longitude").iter_rows())
    assert {("-33.87138874", "18.51291184"), ("-34.0153414", "18.6108484")} <= points


def test_ten_requests_fail_to_join_and_22_6_percent_have_no_coordinates(
    indexed: pl.DataFrame,
) -> None:
    cells, without = pl.col("h3_level8_index"), pl.col("latitude").is_null()
    failed = indexed.filter(cells.is_null() | ~cells.is_in([*city_cells(), "0"]))
    assert len(failed) == 10
    assert failed.filter(cells.is_in(list(LACKING))).height == 3
    assert failed.filter(cells.is_null()).height == 3
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
    created, completed = (
        indexed[name].str.to_datetime("%Y-%m-%d %H:%M:%S%z").dt.convert_time_zone("Etc/GMT-2")
        for name in ("creation_timestamp", "completion_timestamp")
    )
    assert indexed["creation_timestamp"].str.ends_with("+02:00").all()
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


@pytest.mark.parametrize(("count", "without"), [(100, 23), (2000, 452)])
def test_any_number_of_requests_has_every_answer_in_the_city(
    count: int, without: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "SLICE", 700)
    make_bucket(tmp_path, requests=count, tiles=0, seed=1)
    rows = read(tmp_path / "sr.csv.gz")
    assert rows[""].to_list() == [str(k) for k in range(count)]
    assert rows["notification_number"].n_unique() == count
    assert rows["creation_timestamp"].is_sorted()
    assert set(ANSWERS) - OUTSIDE <= set(rows["notification_number"])
    assert rows["latitude"].null_count() == without


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
        ({"seed": -1}, "100 requests, 0 tiles, seed -1"),
        ({"tiles": 1_000_000}, "1000000 tiles"),
        ({"tiles": 1, "tile_side": 5_000}, "a side of 5000 pixels"),
    ],
)
def test_a_number_out_of_range_is_refused_and_leaves_nothing(
    tmp_path: Path, given: dict[str, Any], where: str
) -> None:
    with pytest.raises(CapetownError) as error:
        make_bucket(tmp_path, **{"requests": 100, "tiles": 0, "seed": 1, **given})
    assert error.value.where == where
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit, match="is not an empty folder"):
        main([str(tmp_path), "--requests", "100", "--tiles", "0"])
    with pytest.raises(CapetownError, match="File exists"):
        make_bucket(tmp_path / "mine.txt" / "bucket", requests=100, tiles=0, seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
