"""`capetown pools`: tiles with a pool per hexagon, computed by hand."""

import math
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import geopandas as gpd
import numpy as np
import polars as pl
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from capetown.cli import main
from capetown.errors import CapetownError
from capetown.pools.prediction.per_hexagon import interval
from tests.pools.prediction import Predict, refused
from tests.imagery import geotiff
from tests.tables import CELLS, OUTSIDE_CELL, write_hexagons

FIRST, SECOND, THIRD = CELLS
Row = tuple[str, float | None, str | None, str | None]
ROWS: list[Row] = [
    ("a.tif", 0.5, "yes", FIRST),
    ("b.tif", 0.5, "no", FIRST),
    ("c.tif", None, None, FIRST),
    ("d.tif", 0.25, "no", SECOND),
    ("e.tif", 1.0, "yes", OUTSIDE_CELL),
    ("f.tif", 0.75, "yes", None),
]


def table(rows: Iterable[Row]) -> pl.DataFrame:
    schema = {"path": pl.String, "probability": pl.Float64, "decision": pl.String}
    return pl.DataFrame(list(rows), schema | {"h3_index": pl.String}, orient="row")


def outlined(*corners: float) -> pl.DataFrame:
    """Square tiles of side 1 with these left edges, all in the first hexagon."""
    rows = table((f"{n}.tif", 0.5, "no", FIRST) for n in range(len(corners)))
    boxes = shapely.box(np.array(corners), 0, np.array(corners) + 1, 1)
    return rows.with_columns(geometry=pl.Series(list(shapely.to_wkb(boxes)), dtype=pl.Binary))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_hexagons(tmp_path / "hexagons.geojson")
    table(ROWS).write_parquet("predictions.parquet")
    return tmp_path


def pools(*arguments: str) -> None:
    given = arguments if "--out" in arguments else (*arguments, "--out", "out.parquet")
    main(["pools", *given, "--hexagons", "hexagons.geojson"])


def test_tiles_are_counted_per_hexagon(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "hexes").mkdir()
    counts = {"index": [SECOND, FIRST, "88ad361709fffff"], "requests": [7, 3, 9]}
    pl.DataFrame(counts).write_parquet("hexes/counts.parquet")
    pools("predictions.parquet")

    found = gpd.read_parquet("out.parquet")
    # Two tiles of 1/2: 0, 1 or 2 pools with 1/4, 1/2 and 1/4. One of 1/4: 0 or 1, 3/4 and 1/4.
    assert found.drop(columns="geometry").astype(object).where(found.notna(), None).to_numpy()[
        :, :8
    ].tolist() == [
        [FIRST, 2, 1, 1.0, 0, 2, 1, 3],
        [SECOND, 1, 0, 0.25, 0, 1, 0, 7],
        [THIRD, 0, 0, None, None, None, 0, None],
    ]
    assert list(found.columns[:8]) == [
        "index", "tiles", "unread", "tiles_with_pool_expected", "tiles_with_pool_low",
        "tiles_with_pool_high", "called", "requests",
    ]  # fmt: skip
    assert found.crs.to_string() == "OGC:CRS84"
    theirs = gpd.read_file("hexagons.geojson").to_crs(found.crs)
    assert theirs.geometry.geom_equals(found.geometry).all()
    assert capsys.readouterr().out.splitlines() == [
        "1 tiles have no location and are not counted, such as f.tif",
        "1 tiles lie outside the hexagons and are not counted, such as e.tif",
        "1 tiles are unreadable and count as `unread`, such as c.tif",
        "1 hexagons have no known requests",
        "out.parquet: 3 tiles in 2 of 3 hexagons, 1.2 of them expected to have a pool, 1 called",
    ]


def test_csv_gives_the_same_bytes_and_requests_may_be_missing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pools("predictions.parquet")
    table(ROWS).with_columns(more=pl.lit("x")).write_csv("predictions.csv")
    pools("predictions.csv", "--out", "again.parquet")
    assert Path("out.parquet").read_bytes() == Path("again.parquet").read_bytes()
    assert pl.read_parquet("out.parquet")["requests"].null_count() == 3
    assert "hexes/counts.parquet is missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("probabilities", "bounds"),
    [
        ([1.0, 1.0, 0.0], (2, 2)),
        ([0.0], (0, 0)),
        # 2 % is less than the 2.5 % left out on each side, 3 % is more.
        ([0.02], (0, 0)),
        ([0.03], (0, 1)),
        ([0.98], (1, 1)),
        # No or all heads: 1/32 of five coins is more than 2.5 %, 1/64 of six is less.
        ([0.5] * 5, (0, 5)),
        ([0.5] * 6, (1, 5)),
        # Certain tiles only shift the others.
        ([1.0, *[0.5] * 6, 1.0], (3, 7)),
    ],
)
def test_intervals_by_hand(probabilities: list[float], bounds: tuple[int, int]) -> None:
    assert interval(probabilities) == bounds


@given(st.lists(st.floats(0, 1).map(lambda p: round(p, 3)), min_size=1, max_size=9))
def test_the_interval_leaves_out_at_most_a_fortieth_on_each_side(
    probabilities: list[float],
) -> None:
    """The oracle enumerates all outcomes."""
    chance = np.zeros(len(probabilities) + 1)
    for pools in product((0, 1), repeat=len(probabilities)):
        ways = zip(pools, probabilities, strict=True)
        chance[sum(pools)] += math.prod(p if pool else 1 - p for pool, p in ways)
    low, high = interval(probabilities)
    assert chance[:low].sum() < 0.025 + 1e-9
    assert chance[: low + 1].sum() >= 0.025 - 1e-9
    assert chance[high + 1 :].sum() <= 0.025 + 1e-9
    assert chance[high:].sum() > 0.025 - 1e-9


def test_the_interval_of_many_tiles_is_nearly_normal() -> None:
    probabilities = np.random.default_rng(0).beta(0.3, 0.9, 3000)
    mean, deviation = probabilities.sum(), math.sqrt((probabilities * (1 - probabilities)).sum())
    low, high = interval(probabilities.tolist())
    assert low == pytest.approx(mean - 1.96 * deviation, abs=1)
    assert high == pytest.approx(mean + 1.96 * deviation, abs=1)


@pytest.mark.parametrize(
    ("corners", "share"),
    [
        ((0, 1), ""),
        # A tenth of one of two tiles.
        ((0, 0.9), "5%"),
        # Two of three tiles repeat the other.
        ((0, 0, 0), "67%"),
    ],
)
def test_repeated_area_is_reported(
    folder: Path, capsys: pytest.CaptureFixture[str], corners: tuple[float, ...], share: str
) -> None:
    outlined(*corners).write_parquet("predictions.parquet")
    pools("predictions.parquet")
    notes = capsys.readouterr().out.splitlines()[:-2]
    assert [line.partition(" ")[0] for line in notes] == [share] * bool(share)


# Tables, the row named and a word of the error.
BAD: dict[str, tuple[pl.DataFrame, str, str]] = {
    "a path": (table(ROWS).drop("path"), "", "path"),
    "columns": (pl.DataFrame({"x": [1]}), "", "path, probability, decision, h3_index"),
    "rows": (table([]), "", "no row"),
    "too much": (table([*ROWS, ("g.tif", 1.5, "yes", FIRST)]), ": row 7", "probability 1.5"),
    "not a number": (table([("g", math.nan, "yes", FIRST)]), ": row 1", "probability nan"),
    "a decision": (table([("g.tif", 0.5, "pool", FIRST)]), ": row 1", "decision 'pool'"),
    "no decision": (table([("g.tif", 0.5, None, FIRST)]), ": row 1", "decision None"),
    "no probability": (table([("g.tif", None, "no", FIRST)]), ": row 1", "decision 'no'"),
    "a cell": (table([("g.tif", 0.5, "no", "xyz")]), ": row 1", "h3_index 'xyz'"),
    "coarse": (table([("g", 0.5, "no", "87ad36022ffffff")]), ": row 1", "h3_index '87ad36022"),
    "twice": (table(ROWS + ROWS[:1]), ": row 1", "path 'a.tif' is repeated (2 such rows)"),
    "nowhere": (table(ROWS[5:]), "", "h3_index"),
    "words": (table(ROWS).with_columns(probability=pl.lit("x")), "", "unreadable"),
}


@pytest.mark.parametrize("kind", BAD)
def test_invalid_predictions_are_refused_by_row(folder: Path, kind: str) -> None:
    frame, row, what = BAD[kind]
    frame.write_parquet("bad.parquet")
    error = not_written(folder, "bad.parquet")
    assert error.where == f"bad.parquet{row}"
    assert what in error.what


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["nothing.parquet"], "nothing.parquet"),
        (["hexagons.geojson"], "hexagons.geojson"),
        (["damaged.parquet"], "damaged.parquet"),
        (["damaged.csv"], "damaged.csv"),
        (["predictions.parquet", "--out", "out.csv"], "--out out.csv"),
        (["predictions.parquet", "--out", "predictions.parquet"], "--out predictions.parquet"),
        (["predictions.parquet", "--out", "missing/out.parquet"], "missing/out.parquet"),
        (["predictions.parquet", "--out", "."], "."),
        (["predictions.parquet"], "hexes/counts.parquet"),
    ],
)
def test_unusable_files_are_refused(folder: Path, arguments: list[str], where: str) -> None:
    whole = Path("predictions.parquet").read_bytes()
    Path("damaged.parquet").write_bytes(whole[: len(whole) // 2])
    Path("damaged.csv").write_bytes(b"\xff\xfe\x00path,label\n\x80")
    if where == "hexes/counts.parquet":
        (folder / "hexes").mkdir()
        Path(where).write_bytes(b"PAR1")
    assert str(not_written(folder, *arguments)).startswith(f"{where}: ")
    assert Path("predictions.parquet").read_bytes() == whole


def not_written(folder: Path, *arguments: str) -> CapetownError:
    """The error of `capetown pools`, which wrote nothing."""
    before = {*folder.iterdir()}
    given = arguments if "--out" in arguments else (*arguments, "--out", "out.parquet")
    error = refused("pools", *given, "--hexagons", "hexagons.geojson")
    assert {*folder.iterdir()} == before
    return error


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_two_commands_make_a_map_of_tiles(
    ending: str, predict: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiles = tmp_path / "tiles"
    tiles.mkdir()
    geotiff(tiles / "a.tif")
    geotiff(tiles / "b.tif")
    (tiles / "damaged.tif").write_bytes(b"II*\0")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tiles / "nowhere.tif")
    written = tmp_path / f"predictions.{ending}"
    predictions = predict(written, tiles)
    [cell] = {index for index in predictions["h3_index"] if isinstance(index, str) and index}
    hexagons = write_hexagons(tmp_path / "hexagons.geojson", [cell])
    capsys.readouterr()
    out = tmp_path / "pools.parquet"
    main(["pools", str(written), "--hexagons", str(hexagons), "--out", str(out)])
    [row] = gpd.read_parquet(out).to_dict("records")
    assert (row["index"], row["tiles"], row["unread"]) == (cell, 2, 0)
    probability = float(predictions["probability"].iloc[0])
    assert row["tiles_with_pool_expected"] == pytest.approx(2 * probability)
    without_location, repeated, *_ = capsys.readouterr().out.splitlines()
    assert without_location.startswith("2 tiles have no location")
    # Both located tiles show the same square.
    assert repeated.startswith("50%")
