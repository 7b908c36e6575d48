"""The City's hexagons: damaged files are refused; distances and counts against slow oracles."""

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
from capetown.requests.hexagons import cells_of, read_hexagons
from tests.tables import CELLS, OUTSIDE, collection, feature, write_hexagons

UTM = "EPSG:32734"
WHOLE = json.dumps(collection([feature(cell) for cell in CELLS]))
FINER = h3.cell_to_center_child(CELLS[1], 9)


def write(path: Path, value: Any) -> Path:
    if isinstance(value, bytes):
        path.write_bytes(value)
    else:
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
        b"\xef\xbb\xbf" + json.dumps(collection([feature(CELLS[0])])).encode(),
    ],
    ids=["no geometry", "another crs", "BOM"],
)
def test_only_the_index_matters(tmp_path: Path, value: Any) -> None:
    assert read_hexagons(write(tmp_path / "8.geojson", value)).index.to_list() == [CELLS[0]]


@pytest.mark.parametrize(
    ("content", "feature_number", "what"),
    [
        (WHOLE[:-20], None, "not valid JSON"),
        ("", None, "not valid JSON"),
        ("[]", None, "not a GeoJSON FeatureCollection"),
        (collection([]), None, "not a GeoJSON FeatureCollection"),
        (collection([feature(CELLS[0]), feature(FINER)]), 2, f"{FINER!r} has resolution 9"),
        (collection([feature(cell) for cell in (*CELLS[:2], CELLS[0])]), 3, "is also in feature 1"),
        (collection([feature(CELLS[0], index="hexagon")]), 1, "'hexagon' is not an H3 cell"),
        (collection([feature(CELLS[0], index=CELLS[0].upper())]), 1, "is not an H3 cell"),
        (collection([feature(CELLS[0], index=None)]), 1, "None is not an H3 cell"),
        (collection([feature(CELLS[0]), {"type": "Feature"}]), 2, "no property 'index'"),
    ],
)  # fmt: skip
def test_other_files_are_refused(
    tmp_path: Path, content: Any, feature_number: int | None, what: str
) -> None:
    path = write(tmp_path / "8.geojson", content)
    with pytest.raises(CapetownError) as error:
        read_hexagons(path)
    assert what in error.value.what
    assert error.value.where == (
        f"{path}: feature {feature_number}" if feature_number else str(path)
    )
    assert error.value.fix


def test_a_missing_file_names_the_stage_that_fetches_it(tmp_path: Path) -> None:
    with pytest.raises(CapetownError) as error:
        read_hexagons(tmp_path / "8.geojson")
    assert "download" in error.value.fix


def test_coordinates_that_do_not_exist_have_no_cell() -> None:
    latitude = np.array([np.nan, 90.0001, -90.0001, 0, np.inf, -90, -33.872839])
    longitude = np.array([0, 0, 0, 180.0001, np.nan, 180, 18.522488])
    cells = cells_of(latitude, longitude).tolist()
    pole = h3.latlng_to_cell(-90, 180, 8)
    assert cells == [0] * 5 + [h3.str_to_int(pole), h3.str_to_int(CELLS[0])]


def test_metres_of_the_known_request_outside(tmp_path: Path) -> None:
    """The cell is the one that a nearest-polygon join would wrongly give it."""
    hexagons = read_hexagons(write_hexagons(tmp_path / "8.geojson", ["88ad36c605fffff"]))
    point = [np.array([float(degrees)]) for degrees in OUTSIDE]
    assert metres_to_nearest(hexagons, *point).round(1).tolist() == [78.0]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cells = sorted(h3.grid_disk(CELLS[0], 3))
    return write_hexagons(tmp_path_factory.mktemp("disk") / "8.geojson", cells)


@given(
    points=st.lists(
        st.tuples(st.floats(-34.5, -33.3), st.floats(18.0, 19.2)), min_size=1, max_size=30
    )
)
@settings(max_examples=30, deadline=None)
def test_metres_agree_with_geopandas_in_utm(disk: Path, points: list[tuple[float, float]]) -> None:
    polygons = gpd.read_file(disk).to_crs(UTM)
    latitude, longitude = np.array(points).T
    ours = metres_to_nearest(read_hexagons(disk), latitude, longitude)
    shapes = gpd.GeoSeries(gpd.points_from_xy(longitude, latitude), crs="EPSG:4326").to_crs(UTM)
    theirs = shapes.distance(polygons.union_all())
    outside = (theirs > 1).to_numpy()
    np.testing.assert_allclose(ours[outside], theirs[outside], rtol=0.007, atol=0.5)


def joined(rows: list[tuple[str, str | None, str | None, float | None]]) -> pl.LazyFrame:
    return pl.LazyFrame(
        [
            (index, directorate, suburb, None if days is None else timedelta(days=days))
            for index, directorate, suburb, days in rows
        ],
        schema={
            "index": pl.Categorical,
            "directorate": pl.Categorical,
            "suburb": pl.Categorical,
            "taken": pl.Duration("us"),
        },
        orient="row",
    )


def test_counts_by_hexagon(tmp_path: Path) -> None:
    hexagons = read_hexagons(write_hexagons(tmp_path / "8.geojson"))
    rows = [
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


def test_a_directorate_may_have_the_name_of_none(tmp_path: Path) -> None:
    hexagons = read_hexagons(write_hexagons(tmp_path / "8.geojson"))
    rows: list[tuple[str, str | None, str | None, float | None]]
    rows = [(CELLS[0], "(none)", None, None), (CELLS[0], None, None, None)]
    assert count(hexagons, joined(rows))["directorate: (none)"].to_list() == [2, 0, 0]


def test_rare_directorates_share_a_column(tmp_path: Path) -> None:
    hexagons = read_hexagons(write_hexagons(tmp_path / "8.geojson"))
    rows: list[tuple[str, str | None, str | None, float | None]]
    rows = [(CELLS[n % 2], f"D{n:05}", None, None) for n in range(20_000)]
    rows += [(CELLS[0], f"D{n:05}", None, None) for n in range(MAX_DIRECTORATES)]
    table = count(hexagons, joined(rows))
    names = [f"directorate: D{n:05}" for n in range(MAX_DIRECTORATES)]
    assert table.columns[2:-2] == ["directorate: (none)", "directorate: (other)", *names]
    assert table["directorate: (other)"].sum() == 20_000 - MAX_DIRECTORATES
    assert table.select(pl.sum_horizontal(table.columns[2:-2])).to_series().to_list() == [
        10_000 + MAX_DIRECTORATES, 10_000, 0,
    ]  # fmt: skip


def test_counts_without_a_joined_request(tmp_path: Path) -> None:
    hexagons = read_hexagons(write_hexagons(tmp_path / "8.geojson"))
    table = count(hexagons, joined([]))
    assert table["requests"].to_list() == [0, 0, 0]
    assert table.columns == [
        "index", "requests", "directorate: (none)", "median_days_to_completion", "suburb",
    ]  # fmt: skip


def test_geopandas_reads_the_counts(tmp_path: Path) -> None:
    hexagons = read_hexagons(write_hexagons(tmp_path / "8.geojson"))
    rows: list[tuple[str, str | None, str | None, float | None]] = [(CELLS[1], "WATER", None, 2.5)]
    write_frame(count(hexagons, joined(rows)), hexagons.rings, tmp_path / "counts.parquet")
    frame = gpd.read_parquet(tmp_path / "counts.parquet")
    assert frame.crs == "OGC:CRS84"
    assert frame["requests"].tolist() == [0, 1, 0]
    assert frame["median_days_to_completion"].tolist()[1] == 2.5
    polygons = [shapely.geometry.shape(feature(cell)["geometry"]) for cell in CELLS]
    assert frame.geometry.tolist() == polygons
    assert frame.total_bounds.tolist() == shapely.total_bounds(polygons).tolist()
