"""The sample bucket's tables: real cells, the City's columns, known answers, the same bytes."""

import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

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
from tools.synthetic.hexagons import city_cells
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
