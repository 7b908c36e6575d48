"""The City's hexagons: every damaged file answered, distances and counts against slow oracles."""

import json
from collections.abc import Callable
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
from capetown.requests.counts import DIRECTORATES, count
from capetown.requests.hexagons import metres_to_nearest, read_hexagons
from tests.tables import CELLS, OUTSIDE, collection, feature, write_hexagons

UTM = "EPSG:32734"


def write(path: Path, value: Any) -> Path:
    if isinstance(value, bytes):
        path.write_bytes(value)
    else:
        path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_hexagons_come_in_the_files_order(tmp_path: Path) -> None:
    hexagons = read_hexagons(write_hexagons(tmp_path / "8.geojson", CELLS[::-1]))
    assert hexagons.index.to_list() == list(CELLS[::-1])
    assert hexagons.deviation < 1e-6
    assert hexagons.empty == {"index": 0, "centroid_lat": 0, "centroid_lon": 0}


def test_a_ring_may_start_anywhere_and_turn_either_way(tmp_path: Path) -> None:
    other = feature(CELLS[0])
    [ring] = other["geometry"]["coordinates"]
    turned = [*ring[2:-1], *ring[:3]][::-1]
    other["geometry"]["coordinates"] = [turned]
    assert read_hexagons(write(tmp_path / "8.geojson", collection([other]))).deviation < 1e-6


def test_a_centroid_that_is_no_number_is_counted(tmp_path: Path) -> None:
    odd = collection([feature(CELLS[0], centroid_lat="north"), feature(CELLS[1])])
    hexagons = read_hexagons(write(tmp_path / "8.geojson", odd))
    assert hexagons.empty["centroid_lat"] == 1


def moved(metres: float) -> dict[str, Any]:
    other = feature(CELLS[1])
    for point in other["geometry"]["coordinates"][0]:
        point[1] += metres / 111_195
    return other


def swapped() -> dict[str, Any]:
    other = feature(CELLS[1])
    [ring] = other["geometry"]["coordinates"]
    other["geometry"]["coordinates"] = [[point[::-1] for point in ring]]
    return other


def ring_of(change: Callable[[int, list[float]], list[float]]) -> dict[str, Any]:
    """A hexagon with its corners changed, given their numbers."""
    other = feature(CELLS[0])
    [ring] = other["geometry"]["coordinates"]
    other["geometry"]["coordinates"] = [[change(n, point) for n, point in enumerate(ring)]]
    return other


def parted(parts: int) -> dict[str, Any]:
    """A hexagon as a MultiPolygon."""
    rings = [feature(cell)["geometry"]["coordinates"] for cell in CELLS[:parts]]
    return feature(CELLS[0]) | {"geometry": {"type": "MultiPolygon", "coordinates": rings}}


def scaled(factor: float) -> dict[str, Any]:
    return ring_of(lambda n, point: [factor * number for number in point])


def opened() -> dict[str, Any]:
    return ring_of(lambda n, point: [18.5, -33.8] if n == 6 else point)


@pytest.mark.parametrize(
    "value",
    [
        collection([parted(1)]),
        collection([ring_of(lambda n, point: [round(number, 5) for number in point])]),
        {"type": "FeatureCollection", "features": [feature(CELLS[0])]},
        collection([ring_of(lambda n, point: [*point, 12.5])]),
        collection([ring_of(lambda n, point: [*point, 12.5][: 2 + n % 2])]),
        collection([feature(CELLS[0])]) | {"crs": {"type": "EPSG", "properties": {"code": 4326}}},
        b"\xef\xbb\xbf" + json.dumps(collection([feature(CELLS[0])])).encode(),
    ],
    ids=["one part", "5 decimals", "no crs", "heights", "some heights", "crs by code", "BOM"],
)
def test_another_way_to_write_a_hexagon(tmp_path: Path, value: Any) -> None:
    hexagons = read_hexagons(write(tmp_path / "8.geojson", value))
    assert hexagons.index.to_list() == [CELLS[0]]
    assert hexagons.deviation < 0.8
    assert [ring.shape for ring in hexagons.rings] == [(7, 2)]


@pytest.mark.parametrize(
    "crs",
    [
        "urn:ogc:def:crs:OGC:1.3:CRS84", "urn:ogc:def:crs:OGC::CRS84", "OGC:CRS84", "CRS84",
        "CRS:84", "urn:ogc:def:crs:OGC:1.3:CRS84h", "http://www.opengis.net/def/crs/OGC/1.3/CRS84",
        "urn:ogc:def:crs:EPSG::4326", "urn:ogc:def:crs:EPSG:6.9:4326", "EPSG:4326", "epsg:4326",
        "EPSG::4326", "http://www.opengis.net/def/crs/EPSG/0/4326",
        "http://www.opengis.net/gml/srs/epsg.xml#4326", "+init=epsg:4326", "WGS84", "WGS 84",
        "4326",
    ],
)  # fmt: skip
def test_wgs84_has_many_names(tmp_path: Path, crs: str) -> None:
    path = write(tmp_path / "8.geojson", collection([feature(CELLS[0])], crs=crs))
    assert read_hexagons(path).index.to_list() == [CELLS[0]]


WHOLE = json.dumps(collection([feature(cell) for cell in CELLS]))
FINER = h3.cell_to_center_child(CELLS[1], 9)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (WHOLE[:-20], "8.geojson: not valid JSON"),
        ("", "8.geojson: not valid JSON"),
        ("[]", "not a GeoJSON FeatureCollection"),
        (collection([]), "no hexagon in it"),
        (collection([feature(CELLS[0])], crs="urn:ogc:def:crs:EPSG::2048"),
         "its crs is 'urn:ogc:def:crs:EPSG::2048'; reproject the file to WGS84"),
        (collection([feature(CELLS[0])]) | {"crs": {"properties": None}},
         "its crs is {'properties': None}; reproject the file to WGS84"),
        (collection([feature(CELLS[0])]) | {"crs": {"properties": {"name": ["EPSG:4326"]}}},
         "its crs is ['EPSG:4326']"),
        (collection([feature(CELLS[0])]) | {"crs": "local"}, "its crs is 'local'"),
        (collection([feature(CELLS[0]), feature(FINER)]),
         f"feature 2: index '{FINER}' is of resolution 9, not 8"),
        (collection([feature(CELLS[0]), feature(CELLS[1]), feature(CELLS[0])]),
         f"features 1, 3: index '{CELLS[0]}' comes more than once"),
        (collection([feature(CELLS[0], index="hexagon")]), "feature 1: index 'hexagon' is no H3"),
        (collection([feature(CELLS[0], index=CELLS[0].upper())]), "is no H3 cell"),
        (collection([feature(CELLS[0], index=None)]),
         "feature 1: no text in its property 'index', which names the cell"),
        (collection([feature(CELLS[0]), {"type": "Feature", "geometry": None}]),
         "feature 2: not a polygon with properties"),
        (collection([feature(CELLS[0]), feature(CELLS[1]) | {"geometry": {
            "type": "Point", "coordinates": [18.5, -33.9]}}]),
         "feature 2: a Point, not the polygon of one cell"),
        (collection([parted(2)]), "feature 1: a MultiPolygon of 2 parts, not the polygon of one"),
        (collection([feature(CELLS[0]) | {"geometry": {"type": "Polygon", "coordinates": [
            *feature(CELLS[0])["geometry"]["coordinates"],
            *feature(CELLS[1])["geometry"]["coordinates"]]}}]),
         "feature 1: a polygon of 2 rings, not one; a cell has no holes"),
        (collection([feature(CELLS[0]) | {"geometry": {
            "type": "Polygon", "coordinates": [[[18.5, "east"]] * 7]}}]),
         "feature 1: a corner that is not longitude and latitude"),
        (collection([feature(CELLS[0]) | {"geometry": {
            "type": "Polygon", "coordinates": [[[18.5], [18.5, -33.9], [18.6, -33.9], [18.5]]]}}]),
         "feature 1: a corner that is not longitude and latitude"),
        (collection([feature(CELLS[0]) | {"geometry": {
            "type": "Polygon", "coordinates": [[[18.5]] * 7]}}]),
         "feature 1: a corner that is not longitude and latitude"),
        (collection([feature(CELLS[0]) | {"geometry": {
            "type": "Polygon", "coordinates": [[[18.5, -33.9]] * 3]}}]),
         "feature 1: a ring of 3 corners"),
        (collection([scaled(100_000)]), "are no degrees; reproject the file to WGS84 (CRS84)"),
        (collection([opened()]), "its ring is not closed"),
        (collection([feature(CELLS[0])], crs="urn:ogc:def:crs:EPSG::14326"), "reproject the file"),
        (collection([feature(CELLS[0])], crs="WGS 84 / UTM zone 34S"), "reproject the file"),
        (collection([feature(CELLS[0]), moved(2)]),
         f"feature 2: the polygon of {CELLS[1]} is not the cell's own boundary (2.0 m off; is it"),
        (collection([feature(CELLS[0]), swapped()]), "latitude comes first; swap the coordinates"),
        (collection([feature(CELLS[0], index=CELLS[1])]), "is not the cell's own boundary"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_the_citys_hexagons(tmp_path: Path, content: Any, message: str) -> None:
    path = write(tmp_path / "8.geojson", content)
    with pytest.raises(CapetownError) as error:
        read_hexagons(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_names_the_stage_that_brings_it(tmp_path: Path) -> None:
    with pytest.raises(CapetownError, match=r"8\.geojson: no such file; run the download stage"):
        read_hexagons(tmp_path / "8.geojson")


def test_a_metre_is_tolerated(tmp_path: Path) -> None:
    path = write(tmp_path / "8.geojson", collection([moved(0.9)]))
    assert read_hexagons(path).deviation == pytest.approx(0.9, abs=1e-3)


def test_the_metres_of_the_known_request_outside(tmp_path: Path) -> None:
    """To the cell that a nearest-polygon join would wrongly give it."""
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


def test_a_directorate_may_be_called_as_those_without_one(tmp_path: Path) -> None:
    hexagons = read_hexagons(write_hexagons(tmp_path / "8.geojson"))
    rows: list[tuple[str, str | None, str | None, float | None]]
    rows = [(CELLS[0], "(none)", None, None), (CELLS[0], None, None, None)]
    assert count(hexagons, joined(rows))["directorate: (none)"].to_list() == [2, 0, 0]


def test_twenty_thousand_directorates_are_not_as_many_columns(tmp_path: Path) -> None:
    hexagons = read_hexagons(write_hexagons(tmp_path / "8.geojson"))
    rows: list[tuple[str, str | None, str | None, float | None]]
    rows = [(CELLS[n % 2], f"D{n:05}", None, None) for n in range(20_000)]
    rows += [(CELLS[0], f"D{n:05}", None, None) for n in range(DIRECTORATES)]
    table = count(hexagons, joined(rows))
    names = [f"directorate: D{n:05}" for n in range(DIRECTORATES)]
    assert table.columns[2:-2] == ["directorate: (none)", "directorate: (other)", *names]
    assert table["directorate: (other)"].sum() == 20_000 - DIRECTORATES
    assert table.select(pl.sum_horizontal(table.columns[2:-2])).to_series().to_list() == [
        10_000 + DIRECTORATES, 10_000, 0,
    ]  # fmt: skip


def test_counts_where_nothing_joined(tmp_path: Path) -> None:
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
