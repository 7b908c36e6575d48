"""The City's hexagons: refused files, and slow oracles for distances and counts."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import geopandas as gpd
import h3
import numpy as np
import polars as pl
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from capetown.errors import CapetownError
from capetown.geoparquet import write_frame
from capetown.requests.counts import MAX_DIRECTORATES, count
from capetown.requests.failure_reasons import metres_to_nearest
from capetown.requests.hexagons import Hexagons, cells_of, read_hexagons
from tests.tables import CELLS, OUTSIDE, collection, feature, refused, write_hexagons

UTM = "EPSG:32734"
POINT = st.tuples(st.floats(-34.5, -33.3), st.floats(18.0, 19.2))
WHOLE = json.dumps(collection([feature(cell) for cell in CELLS]))
FINER = h3.cell_to_center_child(CELLS[1], 9)


def write(path: Path, value: Any) -> Path:
    """Write a text, a list of features, or other JSON."""
    value = collection(value) if isinstance(value, list) else value
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_hexagons_keep_the_order_of_the_file(tmp_path: Path) -> None:
    hexagons = read_hexagons(write_hexagons(tmp_path / "8.geojson", CELLS[::-1]))
    assert hexagons.index.to_list() == list(CELLS[::-1])
    assert hexagons.positions(cells_of(*np.array([[-33.872839], [18.522488]]))) == [0]


@pytest.mark.parametrize(
    "value",
    [
        {"type": "FeatureCollection", "features": [feature(CELLS[0]) | {"geometry": None}]},
        collection([feature(CELLS[0])], crs="EPSG:2048"),
        "\ufeff" + json.dumps(collection([feature(CELLS[0])])),
    ],
    ids=["no geometry", "another crs", "BOM"],
)
def test_only_the_index_matters(tmp_path: Path, value: Any) -> None:
    assert read_hexagons(write(tmp_path / "8.geojson", value)).index.to_list() == [CELLS[0]]


def test_a_city_across_180_degrees_is_not_torn(tmp_path: Path) -> None:
    cells = h3.grid_disk(h3.latlng_to_cell(-16.8, 180, 8), 3)
    hexagons = Hexagons(pl.Series("index", cells))
    write_frame(hexagons.index.to_frame(), hexagons.rings, tmp_path / "counts.parquet")
    table = gpd.read_parquet(tmp_path / "counts.parquet")
    west, _, east, _ = table.total_bounds
    assert 179.9 < west < 180 < east < 180.1
    assert table.to_crs(table.estimate_utm_crs()).area.sum() / 1e6 == pytest.approx(
        sum(map(h3.cell_area, cells)), rel=0.01
    )
    # 179.9 and -179.9 are about ten kilometres from 180, in hexagons of four.
    [left, right] = metres_to_nearest(hexagons, *np.array([[-16.8, -16.8], [179.9, -179.9]]))
    assert 5_000 < left < 11_000
    assert 5_000 < right < 11_000


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        (WHOLE[:-20], "", "not valid JSON"),
        ("", "", "not valid JSON"),
        ("[]", "", "not a GeoJSON FeatureCollection"),
        ([], "", "not a GeoJSON FeatureCollection"),
        ([feature(CELLS[0]), feature(FINER)], "feature 2", f"{FINER!r} has resolution 9"),
        ([feature(cell) for cell in (*CELLS[:2], CELLS[0])], "feature 3", "is also in feature 1"),
        ([feature(CELLS[0], index="hexagon")], "feature 1", "'hexagon' is not an H3 cell"),
        ([feature(CELLS[0], index=CELLS[0].upper())], "feature 1", "is not an H3 cell"),
        ([feature(CELLS[0], index=None)], "feature 1", "None is not an H3 cell"),
        ([feature(CELLS[0]), {"type": "Feature"}], "feature 2", "no property 'index'"),
    ],
)  # fmt: skip
def test_other_files_are_refused(tmp_path: Path, content: Any, where: str, what: str) -> None:
    path = write(tmp_path / "8.geojson", content)
    with refused(path, where, what):
        read_hexagons(path)


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(
        CapetownError, match=r"no such file; see download.requests, and the names in city.py$"
    ):
        read_hexagons(tmp_path / "8.geojson")
    with pytest.raises(CapetownError, match=r"cannot be read \(Is a directory\)$"):
        read_hexagons(tmp_path)


def test_coordinates_that_do_not_exist_have_no_cell() -> None:
    latitude = np.array([np.nan, 90.0001, -90.0001, 0, np.inf, -90, -33.872839])
    longitude = np.array([0, 0, 0, 180.0001, np.nan, 180, 18.522488])
    cells = cells_of(latitude, longitude).tolist()
    pole = h3.latlng_to_cell(-90, 180, 8)
    assert cells == [0] * 5 + [h3.str_to_int(pole), h3.str_to_int(CELLS[0])]


def test_metres_of_the_known_request_outside(tmp_path: Path) -> None:
    """A join with the nearest polygon would wrongly choose this cell."""
    hexagons = read_hexagons(write_hexagons(tmp_path / "8.geojson", ["88ad36c605fffff"]))
    point = [np.array([float(degrees)]) for degrees in OUTSIDE]
    assert metres_to_nearest(hexagons, *point).round(1).tolist() == [78.0]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cells = sorted(h3.grid_disk(CELLS[0], 3))
    return write_hexagons(tmp_path_factory.mktemp("disk") / "8.geojson", cells)


@given(points=st.lists(POINT, min_size=1, max_size=30))
@settings(max_examples=30)
def test_metres_agree_with_geopandas_in_utm(disk: Path, points: list[tuple[float, float]]) -> None:
    polygons = gpd.read_file(disk).to_crs(UTM)
    latitude, longitude = np.array(points).T
    ours = metres_to_nearest(read_hexagons(disk), latitude, longitude)
    shapes = gpd.GeoSeries(gpd.points_from_xy(longitude, latitude), crs="EPSG:4326").to_crs(UTM)
    theirs = shapes.distance(polygons.union_all())
    outside = (theirs > 1).to_numpy()
    np.testing.assert_allclose(ours[outside], theirs[outside], rtol=0.007, atol=0.5)


Row = tuple[str, str | None, str | None, float | None]
TYPES: dict[str, Any] = dict.fromkeys(["index", "directorate", "suburb"], pl.Categorical)
TYPES["taken"] = pl.Duration("us")


@pytest.fixture
def hexagons(tmp_path: Path) -> Hexagons:
    return read_hexagons(write_hexagons(tmp_path / "8.geojson"))


def joined(rows: list[Row]) -> pl.LazyFrame:
    """Return joined requests of index, directorate, suburb and days to completion."""
    timed = [(*row[:3], None if row[3] is None else timedelta(days=row[3])) for row in rows]
    return pl.LazyFrame(timed, schema=TYPES, orient="row")


def test_counts_by_hexagon(hexagons: Hexagons) -> None:
    rows: list[Row] = [
        (CELLS[2], "WATER", "OBSERVATORY", 1.0),
        (CELLS[0], "WATER", "MONTAGUE GARDENS", 4.0),
        (CELLS[0], "ENERGY", "BOTHASIG", 1.0),
        (CELLS[0], None, None, -0.01),
        (CELLS[0], "WATER", "BOTHASIG", None),
        (CELLS[2], "ENERGY", "ATHLONE", None),
    ]
    assert count(hexagons, joined(rows)).to_dicts() == [
        {
            "index": CELLS[0], "requests": 4,
            "directorate: (none)": 1, "directorate: ENERGY": 1, "directorate: WATER": 2,
            "median_days_to_completion": 1.0, "suburb": "BOTHASIG",
        },
        {
            "index": CELLS[1], "requests": 0,
            "directorate: (none)": 0, "directorate: ENERGY": 0, "directorate: WATER": 0,
            "median_days_to_completion": None, "suburb": None,
        },
        {
            "index": CELLS[2], "requests": 2,
            "directorate: (none)": 0, "directorate: ENERGY": 1, "directorate: WATER": 1,
            "median_days_to_completion": 1.0, "suburb": "ATHLONE",
        },
    ]  # fmt: skip


def test_a_directorate_may_be_called_none(hexagons: Hexagons) -> None:
    rows: list[Row] = [(CELLS[0], "(none)", None, None), (CELLS[0], None, None, None)]
    assert count(hexagons, joined(rows))["directorate: (none)"].to_list() == [2, 0, 0]


def test_rare_directorates_share_a_column(hexagons: Hexagons) -> None:
    rows: list[Row] = [(CELLS[n % 2], f"D{n:05}", None, None) for n in range(20_000)]
    rows += [(CELLS[0], f"D{n:05}", None, None) for n in range(MAX_DIRECTORATES)]
    table = count(hexagons, joined(rows))
    names = [f"directorate: D{n:05}" for n in range(MAX_DIRECTORATES)]
    assert table.columns[2:-2] == ["directorate: (none)", "directorate: (other)", *names]
    assert table["directorate: (other)"].sum() == 20_000 - MAX_DIRECTORATES
    assert table.select(pl.sum_horizontal(table.columns[2:-2])).to_series().to_list() == [
        10_000 + MAX_DIRECTORATES, 10_000, 0,
    ]  # fmt: skip


def test_counts_without_a_joined_request(hexagons: Hexagons) -> None:
    table = count(hexagons, joined([]))
    assert table["requests"].to_list() == [0, 0, 0]
    assert table.columns == [
        "index", "requests", "directorate: (none)", "median_days_to_completion", "suburb",
    ]  # fmt: skip


def test_geopandas_reads_the_counts(hexagons: Hexagons, tmp_path: Path) -> None:
    rows: list[Row] = [(CELLS[1], "WATER", None, 2.5)]
    write_frame(count(hexagons, joined(rows)), hexagons.rings, tmp_path / "counts.parquet")
    frame = gpd.read_parquet(tmp_path / "counts.parquet")
    assert frame.crs == "OGC:CRS84"
    assert frame["requests"].tolist() == [0, 1, 0]
    assert frame["median_days_to_completion"].tolist()[1] == 2.5
    polygons = [shapely.geometry.shape(feature(cell)["geometry"]) for cell in CELLS]
    assert frame.geometry.tolist() == polygons
    assert frame.total_bounds.tolist() == shapely.total_bounds(polygons).tolist()
