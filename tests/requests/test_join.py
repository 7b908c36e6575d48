"""The join: known answers, refused tables, and h3 and geopandas as oracles."""

import codecs
from pathlib import Path

import geopandas as gpd
import h3
import numpy as np
import polars as pl
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from capetown import city
from capetown.city import REQUEST_ID
from capetown.errors import CapetownError
from capetown.requests import reader
from capetown.requests.hexagons import Hexagons, read_hexagons
from capetown.requests.join import Join, join
from capetown.requests.reader import REQUEST_SCHEMA, STATUSES
from capetown.requests.reference import Reference, compare_with_reference, read_reference
from tests.tables import (
    HEADER,
    INSIDE,
    INSIDE_CELL,
    OUTSIDE,
    OUTSIDE_CELL,
    refused,
    request,
    text,
    write_gzip,
    write_hexagons,
)

COLUMNS = city.REQUEST_COLUMNS
# Latitude, longitude, index: from the City's own files.
ANSWERS = [
    ("-33.872839", "18.522488", "88ad360225fffff"),
    ("-34.078916", "18.848940", "88ad36d5e1fffff"),
    ("-34.102242", "18.821116", "88ad36d437fffff"),
    ("-33.920019", "18.607209", "88ad361133fffff"),
    ("-33.987400", "18.453760", "88ad361709fffff"),
    # Within 2 mm of an edge. The polygons in the City's file give another cell.
    ("-33.87138874", "18.51291184", h3.latlng_to_cell(-33.87138874, 18.51291184, 8)),
    ("-34.01534140", "18.61084840", h3.latlng_to_cell(-34.01534140, 18.61084840, 8)),
]


@pytest.fixture(scope="module")
def hexagons(tmp_path_factory: pytest.TempPathFactory) -> Hexagons:
    cells = list(dict.fromkeys(cell for *_, cell in ANSWERS))
    return read_hexagons(write_hexagons(tmp_path_factory.mktemp("hexagons") / "8.geojson", cells))


def join_text(folder: Path, hexagons: Hexagons, content: str) -> tuple[Join, pl.DataFrame]:
    """Join a table. Return the join and the Parquet file."""
    path = write_gzip(folder / "sr.csv.gz", content)
    joined = join(path, hexagons, folder / "requests.parquet")
    return joined, pl.read_parquet(folder / "requests.parquet")


# Latitude, longitude, index, status and reason. "?" is the cell that h3 finds.
CASES: list[tuple[str, str, str | None, str, str | None]] = [
    *((*answer, "joined", None) for answer in ANSWERS),
    (*OUTSIDE, OUTSIDE_CELL, "outside_city", None),
    ("-33.904955", "18.723060", "88ad361b51fffff", "outside_city", None),
    (" -33.872839", "18.522488 ", INSIDE_CELL, "joined", None),
    ("-3.3872839e1", "18.522488", INSIDE_CELL, "joined", None),
    ("", "", "0", "missing_coordinates", None),
    ("-33.872839", "", "0", "missing_coordinates", None),
    ("", "18.522488", "0", "missing_coordinates", None),
    ("north", "18.522488", None, "invalid_coordinates", "not a number"),
    ("-33.872839", "east", None, "invalid_coordinates", "not a number"),
    *((nothing, "18.522488", "0", "missing_coordinates", None)
      for nothing in (" ", "NULL", "null", "N/A", "#N/A", "NaN", "nan", "None", "\\N")),
    ("inf", "18.522488", None, "invalid_coordinates", "infinite"),
    ("-90.000001", "18.522488", None, "invalid_coordinates", "out of range"),
    ("-33.872839", "180.000001", None, "invalid_coordinates", "out of range"),
    ('"-33,872839"', '"18,522488"', None, "invalid_coordinates", "decimal comma"),
    ("-33872839", "18522488", None, "invalid_coordinates", "decimal point lost"),
    ("18.522488", "-33.872839", "?", "outside_city", "swapped"),
    ("33.872839", "18.522488", "?", "outside_city", "sign lost"),
    ("-33.872839", "-18.522488", "?", "outside_city", "sign lost"),
    ("18.522488", "33.872839", "?", "outside_city", "swapped and sign lost"),
    ("0", "0", "?", "outside_city", "zero, zero"),
    ("-26.204103", "28.047305", "?", "outside_city", None),
    ("90", "0", "?", "outside_city", None),
    ("-33.872839", "180", "?", "outside_city", None),
    ("-33.872839", "-180", "?", "outside_city", None),
]  # fmt: skip


def test_every_row_keeps_its_order_and_gets_its_status_and_reason(
    tmp_path: Path, hexagons: Hexagons
) -> None:
    numbers = [f"{999 - n:012}" for n in range(len(CASES))]
    rows = [request(number, case[:2]) for number, case in zip(numbers, CASES, strict=True)]
    joined, table = join_text(tmp_path, hexagons, text(rows))
    expected = [
        (number, h3.latlng_to_cell(float(north), float(east), 8) if index == "?" else index, status)
        for number, (north, east, index, status, _) in zip(numbers, CASES, strict=True)
    ]
    assert table.select(REQUEST_ID, "h3_level8_index", "join_status").rows() == expected
    assert joined.rows[REQUEST_ID].to_list() == numbers
    assert joined.rejects.select(REQUEST_ID, "latitude", "longitude", "reason").rows() == [
        (number, north.strip('"'), east.strip('"'), reason)
        for number, (north, east, _, status, reason) in zip(numbers, CASES, strict=True)
        if status in ("invalid_coordinates", "outside_city")
    ]


def test_values_are_typed_and_numbers_stay_text(tmp_path: Path, hexagons: Hexagons) -> None:
    row = request("001015950287", reference_number="0000000000012345678901")
    _, table = join_text(tmp_path, hexagons, text([row, request("2", completion_timestamp="")]))
    assert table["notification_number"].to_list() == ["001015950287", "2"]
    assert table["reference_number"].to_list() == ["0000000000012345678901", None]
    stamp = pl.Datetime("us", "Africa/Johannesburg")
    assert table.schema["creation_timestamp"] == table.schema["completion_timestamp"] == stamp
    added = {"h3_level8_index": pl.String(), "join_status": pl.Enum(STATUSES)}
    assert table.schema == REQUEST_SCHEMA | added
    assert table["code"].cast(pl.String).to_list() == ["Sewer: Blocked/Overflow"] * 2
    times = table["creation_timestamp"].dt.to_string().to_list()
    assert times == ["2020-10-07 06:55:18.000000+02:00"] * 2
    assert table["completion_timestamp"].null_count() == 1
    assert table["latitude"].to_list() == [-33.872839] * 2


def test_columns_may_come_in_another_order(tmp_path: Path, hexagons: Hexagons) -> None:
    rows = [request("01"), request("02", OUTSIDE)]
    _, plain = join_text(tmp_path, hexagons, text(rows))
    _, table = join_text(tmp_path, hexagons, text(rows, HEADER[::-1]))
    assert_frame_equal(table, plain, check_column_order=False)


def test_additional_columns_are_kept(tmp_path: Path, hexagons: Hexagons) -> None:
    rows = [request("01") | {"": "0", "ward": "7"}]
    joined, table = join_text(tmp_path, hexagons, text(rows, ["", *HEADER, "ward"]))
    assert table.columns == ["", *HEADER, "ward", "h3_level8_index", "join_status"]
    assert table.row(0)[0] == "0"
    assert table["ward"].to_list() == ["7"]
    assert joined.empty["ward"] == 0


def test_spellings_of_missing_are_not_names(tmp_path: Path, hexagons: Hexagons) -> None:
    """In columns with names. The CSV and the rejects keep the City's text."""
    words = {"official_suburb": "NULL", "directorate": "n/a", "reference_number": "NULL"}
    blank = request("03", official_suburb=" ", directorate=" " * 30)
    rows = [request("01", OUTSIDE, **words), request("02", official_suburb="Null Bay"), blank]
    path = write_gzip(tmp_path / "sr.csv.gz", text(rows))
    joined = join(path, hexagons, tmp_path / "requests.parquet", tmp_path / "requests.csv")
    table = pl.read_parquet(tmp_path / "requests.parquet")
    assert table["official_suburb"].to_list() == [None, "Null Bay", None]
    assert table["directorate"].to_list() == [None, "WATER AND SANITATION", None]
    assert table["reference_number"].to_list() == ["NULL", None, None]
    assert (joined.empty["official_suburb"], joined.empty["directorate"]) == (2, 2)
    assert joined.rejects["official_suburb"].to_list() == ["NULL"]
    assert (tmp_path / "requests.csv").read_bytes().count(b",NULL,") == 2


def test_the_csv_is_for_spreadsheets(tmp_path: Path, hexagons: Hexagons) -> None:
    """A byte order mark, the status, and no formula; numbers keep their sign."""
    words = {"directorate": "=1+1", "reference_number": "@x", "code": "Água"}
    rows = [request("01", OUTSIDE, **words), request("02", ("=2", "-18.5"), branch="-")]
    path = write_gzip(tmp_path / "sr.csv.gz", text(rows))
    join(path, hexagons, tmp_path / "requests.parquet", tmp_path / "requests.csv")
    data = (tmp_path / "requests.csv").read_bytes()
    assert data.startswith(codecs.BOM_UTF8)
    table = pl.read_csv(data, infer_schema=False)
    assert table.columns == [*HEADER, "h3_level8_index", "join_status"]
    names = "directorate", "reference_number", "code", "latitude", "longitude", "join_status"
    assert table.select(*names).rows() == [
        ("'=1+1", "'@x", "Água", *OUTSIDE, "outside_city"),
        ("WATER AND SANITATION", None, request("")["code"], "'=2", "-18.5", "invalid_coordinates"),
    ]
    assert table["branch"].to_list() == ["Reticulation", "'-"]


@pytest.mark.parametrize(
    ("where", "key", "value", "what", "fix"),
    [
        (city, "REQUEST_COLUMNS", COLUMNS[:-1], "'longitude' is not declared", "REQUEST_COLUMNS"),
        (city, "REQUEST_COLUMNS", (*COLUMNS, COLUMNS[5]), "'department' is declared twice", "keep"),
        (city, "REQUEST_COLUMNS", tuple(c._replace(kind="text") for c in COLUMNS),
         "'creation_timestamp' is a text", "time"),
        (city, "TIMES", ("completion_timestamp",) * 2, "'completion_timestamp' has two roles",
         "another column"),
        (reader, "COMPUTED", ("code",), "'code' would be overwritten", "rename it"),
        (city, "TIME_ZONE", "Africa/Cape Town", "'Africa/Cape Town' is not a time zone", "TIME_"),
        (city, "TIME_FORMATS", "%m/%d/%Y", "'%m/%d/%Y' is not a tuple", "comma"),
        (city, "TIME_FORMATS", ("%s", "%d/%m %H"), "'%d/%m %H' is not a form of times", "TIME_F"),
        (city, "TIME_FORMATS", ("%c", "%H:%M"), "'%H:%M' is not a form of times", "TIME_FORMATS"),
    ],
)  # fmt: skip
def test_a_wrong_city_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: object, key: str, value: object,
    what: str, fix: str,
) -> None:  # fmt: skip
    path = write_gzip(tmp_path / "sr.csv.gz", text([request("01")]))
    monkeypatch.setattr(where, key, value)
    with pytest.raises(CapetownError) as error:
        reader.RequestTable(path, HEADER)
    assert (error.value.where, error.value.what) == (city.__file__, what)
    assert fix in error.value.fix


def test_a_very_long_value_does_not_hide_what_is_wrong_elsewhere(
    tmp_path: Path, hexagons: Hexagons
) -> None:
    rows = [request("01", code="x" * 200_000), request("02", ("", INSIDE[1]))]
    joined, _ = join_text(tmp_path, hexagons, text(rows))
    assert joined.rows["half"].to_list() == [False, True]
    with refused(tmp_path / "sr.csv.gz", "row 3", "1 values for 15 columns"):
        join_text(tmp_path, hexagons, text(rows) + "03\n")


def test_commas_and_line_breaks_in_quotes_belong_to_the_value(
    tmp_path: Path, hexagons: Hexagons
) -> None:
    value = '"a, ""b, c"",\r\n' + "x," * 1_500_000 + '"'
    rows = [request("01"), request("02", code=value), request("03", code='","')]
    _, table = join_text(tmp_path, hexagons, text(rows))
    assert table["code"].cast(pl.String).str.len_chars().to_list() == [23, 3_000_012, 1]


# --- tables that are refused -------------------------------------------------------------------

GOOD = text([request("01"), request("02"), request("03")])


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        (",".join(HEADER) + "\n", "", "no rows"),
        (GOOD.replace("longitude", "lon"), "", "'longitude' is missing"),
        (text([request("1", h3_level8_index="0")], [*HEADER, "h3_level8_index"]),
         "column 'h3_level8_index'", "overwritten"),
        (text([request("01", reason="leak")], [*HEADER, "reason"]),
         "column 'reason'", "overwritten"),
        (text([request("01"), request("02"), request("01")]), "rows 1 and 3", "'01' is not unique"),
        (text([request("01"), request("")]), "row 2", "is empty"),
        (text([request("01"), request("Total")]), "row 2", "'Total' is not an ID"),
        (GOOD + "2" + "," * 14 + "\n", "row 4", "'2' and no other value"),
        (text([request("01"), request("02", code="a,b")]), "row 2", "16 values for 15 columns"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_joined(
    tmp_path: Path, hexagons: Hexagons, content: str, where: str, what: str
) -> None:
    with refused(tmp_path / "sr.csv.gz", where, what):
        join_text(tmp_path, hexagons, content)


# --- the reference -----------------------------------------------------------------------------


def reference(folder: Path, rows: list[tuple[str, str]]) -> Reference:
    lines = ["notification_number,h3_level8_index", *(f"{a},{b}" for a, b in rows)]
    return read_reference(write_gzip(folder / "sr_hex.csv.gz", "\n".join(lines) + "\n"))


def test_every_difference_from_the_reference_is_found(tmp_path: Path, hexagons: Hexagons) -> None:
    rows = [request("01"), request("02", OUTSIDE), request("03", ("", "")), request("04")]
    joined, _ = join_text(tmp_path, hexagons, text(rows))
    same = [("01", INSIDE_CELL), ("02", OUTSIDE_CELL), ("03", "0"), ("04", INSIDE_CELL)]
    assert compare_with_reference(joined.rows, reference(tmp_path, same)).mismatches.is_empty()
    assert compare_with_reference(joined.rows, reference(tmp_path, same[::-1])).matched == 4
    other = [("04", OUTSIDE_CELL), ("03", INSIDE_CELL), ("1", INSIDE_CELL), ("02", OUTSIDE_CELL)]
    found = compare_with_reference(joined.rows, reference(tmp_path, other))
    assert (found.compared, found.matched) == (5, 1)
    assert found.mismatches.select(
        "notification_number", "index", "expected", "in_requests", "in_reference"
    ).rows() == [
        ("01", INSIDE_CELL, None, True, False),
        ("03", "0", INSIDE_CELL, True, True),
        ("04", INSIDE_CELL, OUTSIDE_CELL, True, True),
        ("1", None, INSIDE_CELL, False, True),
    ]


def test_other_tables_are_refused_as_a_reference(tmp_path: Path, hexagons: Hexagons) -> None:
    joined, _ = join_text(tmp_path, hexagons, text([request("01"), request("02")]))
    twice = reference(tmp_path, [("01", "0"), ("01", "0")])
    path = tmp_path / "sr_hex.csv.gz"
    with refused(path, "rows 1 and 2", "notification_number '01' is not unique") as error:
        compare_with_reference(joined.rows, twice)
    assert "leave transform.reference empty" in error.value.fix
    with refused(path, "", "column 'h3_level8_index' is missing") as error:
        read_reference(write_gzip(path, GOOD))
    assert "leave transform.reference empty" in error.value.fix
    path.unlink()
    with refused(path, "", "no such file") as error:
        read_reference(path)
    assert error.value.fix == "add it to download.requests; or leave transform.reference empty"


# --- oracles -----------------------------------------------------------------------------------

UTM = "EPSG:32734"
DISK = st.tuples(st.floats(-33.91, -33.84), st.floats(18.47, 18.57))
CITY = st.tuples(st.floats(-34.4, -33.4), st.floats(18.2, 19.1))
AROUND = h3.grid_disk(INSIDE_CELL, 2)
BOUNDARIES = np.array([h3.cell_to_boundary(cell) for cell in AROUND])
OFFSETS = st.floats(-5e-7, 5e-7)


def at_edge(cell: int, edge: int, part: float, north: float, east: float) -> tuple[float, float]:
    """Return a point on an edge of a cell, moved by a few centimetres at most."""
    start, end = BOUNDARIES[cell][[edge, (edge + 1) % 6]]
    latitude, longitude = start + part * (end - start) + [north, east]
    return float(latitude), float(longitude)


AT_EDGE = st.builds(
    at_edge, st.integers(0, len(BOUNDARIES) - 1), st.integers(0, 5), st.floats(0, 1), OFFSETS,
    OFFSETS,
)  # fmt: skip


def cells_of(
    folder: Path, hexagons: Hexagons, points: list[tuple[float, float]]
) -> list[str | None]:
    rows = [request(str(n), (repr(north), repr(east))) for n, (north, east) in enumerate(points)]
    return join_text(folder, hexagons, text(rows))[1]["h3_level8_index"].to_list()


@given(points=st.lists(CITY | AT_EDGE, min_size=1, max_size=50))
@settings(max_examples=40)
def test_cells_equal_those_of_h3(
    tmp_path_factory: pytest.TempPathFactory, hexagons: Hexagons, points: list[tuple[float, float]]
) -> None:
    folder = tmp_path_factory.mktemp("points")
    for at in (points, [(round(north, 9), round(east, 9)) for north, east in points]):
        assert cells_of(folder, hexagons, at) == [h3.latlng_to_cell(*point, 8) for point in at]


@given(points=st.lists(DISK | AT_EDGE, min_size=1, max_size=50))
@settings(max_examples=40)
def test_geopandas_within_agrees_except_within_a_centimetre_of_an_edge(
    tmp_path_factory: pytest.TempPathFactory, hexagons: Hexagons, points: list[tuple[float, float]]
) -> None:
    polygons = gpd.GeoDataFrame(
        {"index": AROUND},
        geometry=[shapely.Polygon(ring[:, ::-1]) for ring in BOUNDARIES],
        crs="EPSG:4326",
    )
    latitude, longitude = np.array(points).T
    shapes = gpd.GeoDataFrame(geometry=gpd.points_from_xy(longitude, latitude), crs="EPSG:4326")
    theirs = shapes.sjoin(polygons, predicate="within").groupby(level=0)["index"].first()
    theirs = theirs.reindex(range(len(points)))
    ours = cells_of(tmp_path_factory.mktemp("points"), hexagons, points)
    edges = polygons.to_crs(UTM).boundary.union_all()
    metres = shapes.to_crs(UTM).distance(edges)
    for n in np.flatnonzero((metres > 0.01).to_numpy()):
        inside = ours[n] if ours[n] in AROUND else None
        assert inside == (None if theirs.isna()[n] else theirs[n])
