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
from scipy.signal import fftconvolve
from scipy.stats import poisson_binom

from capetown.cli import main
from capetown.errors import CapetownError
from capetown.layers import SUFFIXES
from capetown.pools.prediction import per_hexagon
from capetown.pools.prediction.per_hexagon import interval
from tests.imagery import geotiff
from tests.pools.prediction import Predict, refused
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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_hexagons(tmp_path / "hexagons.geojson")
    table(ROWS).write_parquet("predictions.parquet")
    return tmp_path


def pools(predictions: str, out: str = "out.parquet") -> None:
    main(["pools", predictions, "--out", out, "--hexagons", "hexagons.geojson"])


def test_tiles_are_counted_per_hexagon(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "hexes").mkdir()
    counts = {
        "index": [SECOND, FIRST, "88ad361709fffff"], "requests": [7, 3, 9],
        "directorate: WATER": [4, 0, 9], "suburb": ["B", None, "C"], "geometry": [b"", b"", b""],
    }  # fmt: skip
    pl.DataFrame(counts).write_parquet("hexes/counts.parquet")
    Path("predictions.parquet").rename("[p]*.parquet")  # not read as a pattern
    table(ROWS[:1]).write_parquet("p.parquet")
    pools("[p]*.parquet")

    # Two tiles of 1/2: 0, 1 or 2 pools with 1/4, 1/2 and 1/4. One of 1/4: 0 or 1, 3/4 and 1/4.
    assert pl.read_parquet("out.parquet").drop("geometry").to_dict(as_series=False) == {
        "index": [FIRST, SECOND, THIRD],
        "tiles": [2, 1, 0],
        "unread": [1, 0, 0],
        "tiles_with_pool_expected": [1.0, 0.25, None],
        "tiles_with_pool_low": [0, 0, None],
        "tiles_with_pool_high": [2, 1, None],
        "called": [1, 0, 0],
        "requests": [3, 7, None],
        "directorate: WATER": [0, 4, None],
        "suburb": [None, "B", None],
    }
    found = gpd.read_parquet("out.parquet")
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


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=400), st.lists(st.sampled_from([0.0, 0.5, 1.0]))
)
def test_the_interval_is_that_of_scipy(some: list[float], exact: list[float]) -> None:
    counts = np.arange(len(some + exact) + 1)
    quantiles = np.array([0.025, 0.975]) - 1e-12
    expected = np.searchsorted(poisson_binom.cdf(counts, some + exact), quantiles)
    assert interval(some + exact) == tuple(expected)


def test_the_interval_of_many_tiles_needs_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifteen rounds for 20,000 tiles, each of at most a hundred thousand numbers."""
    sizes: list[int] = []

    def convolve(first: np.ndarray, second: np.ndarray, axes: int) -> np.ndarray:
        found: np.ndarray = fftconvolve(first, second, axes=axes)
        sizes.append(found.size)
        return found

    monkeypatch.setattr(per_hexagon, "fftconvolve", convolve)
    # A binomial distribution of mean 10,000 and deviation 70.7.
    assert interval([0.5] * 20_000) == (9861, 10139)
    assert len(sizes) == 15
    assert max(sizes) < 100_000


def test_the_interval_of_many_tiles_is_nearly_normal() -> None:
    probabilities = np.random.default_rng(0).beta(0.3, 0.9, 3000)
    mean, deviation = probabilities.sum(), math.sqrt((probabilities * (1 - probabilities)).sum())
    low, high = interval(probabilities.tolist())
    assert low == pytest.approx(mean - 1.96 * deviation, abs=1)
    assert high == pytest.approx(mean + 1.96 * deviation, abs=1)


@pytest.mark.parametrize(
    ("left", "share"),
    # A tenth of one of two tiles; two of three tiles.
    [((0, 1), ""), ((0, 0.9), "5%"), ((0, 0, 0), "67%")],
)
def test_repeated_area_is_reported(
    folder: Path, capsys: pytest.CaptureFixture[str], left: tuple[float, ...], share: str
) -> None:
    """Square tiles of side 1, all in the first hexagon."""
    rows = table((f"{n}.tif", 0.5, "no", FIRST) for n in range(len(left)))
    boxes = shapely.to_wkb(shapely.box(np.array(left), 0, np.array(left) + 1, 1))
    rows.with_columns(geometry=pl.Series(boxes.tolist())).write_parquet("predictions.parquet")
    pools("predictions.parquet")
    notes = capsys.readouterr().out.splitlines()[:-2]
    assert [line.partition(" ")[0] for line in notes] == [share] * bool(share)


def not_written(folder: Path, *arguments: str) -> CapetownError:
    """The error of `capetown pools`, which wrote nothing."""
    before = {path: path.is_file() and path.read_bytes() for path in folder.iterdir()}
    options = ("--out", "out.parquet", "--hexagons", "hexagons.geojson")
    error = refused("pools", *options, *arguments)
    assert {path: path.is_file() and path.read_bytes() for path in folder.iterdir()} == before
    return error


# One row in the first hexagon, or a whole table; the row named; a word of the error.
BAD: list[tuple[Row | pl.DataFrame, str, str]] = [
    (("g.tif", 1.5, "yes", FIRST), ": row 1", "probability 1.5"),
    (("g.tif", math.nan, "yes", FIRST), ": row 1", "probability nan"),
    (("g.tif", 0.5, "pool", FIRST), ": row 1", "decision 'pool'"),
    (("g.tif", 0.5, None, FIRST), ": row 1", "decision None"),
    (("g.tif", 0.5, "no", "xyz"), ": row 1", "h3_index 'xyz'"),
    (("g.tif", 0.5, "no", "87ad36022ffffff"), ": row 1", "h3_index '87ad36022"),
    (("g.tif", 0.5, "no", None), "", "h3_index"),
    (table([*ROWS, ("b.tif", 0.5, "no", FIRST)]), ": row 2", "path 'b.tif' is repeated (2 such"),
    (pl.DataFrame({"x": [1]}), "", "path, probability, decision, h3_index"),
    (table([]), "", "no row"),
    (table(ROWS).with_columns(probability=pl.lit("x")), "", "unreadable"),
]


@pytest.mark.parametrize(("bad", "row", "what"), BAD)
def test_invalid_predictions_are_refused_by_row(
    folder: Path, bad: Row | pl.DataFrame, row: str, what: str
) -> None:
    (bad if isinstance(bad, pl.DataFrame) else table([bad])).write_parquet("bad.parquet")
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
        (["predictions.parquet", "--out", "out.txt"], "--out out.txt"),
        (["damaged.gpkg"], "damaged.gpkg"),
        (["hexagons.txt"], "hexagons.txt"),
        (["predictions.parquet", "--out", "predictions.parquet"], "--out predictions.parquet"),
        (["predictions.parquet", "--out", "missing/out.parquet"], "missing/out.parquet"),
        (["predictions.parquet", "--out", "."], "."),
        (["predictions.parquet"], "hexes/counts.parquet"),
    ],
)
def test_unusable_files_are_refused(folder: Path, arguments: list[str], where: str) -> None:
    Path("damaged.parquet").write_bytes(Path("predictions.parquet").read_bytes()[:-9])
    Path("damaged.gpkg").write_bytes(b"SQLite format 3")
    Path("hexagons.txt").write_text("")
    Path("damaged.csv").write_bytes(b"\xff\xfe\x00path,label\n\x80")
    if where == "hexes/counts.parquet":
        (folder / "hexes").mkdir()
        Path(where).write_bytes(b"PAR1")
    assert not_written(folder, *arguments).where == where


def test_two_commands_make_a_map_of_tiles(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Through any format, to the same bytes. The table of requests may be missing."""
    monkeypatch.chdir(tmp_path)
    Path("tiles").mkdir()
    geotiff(Path("tiles/a.tif"))
    geotiff(Path("tiles/b.tif"))
    Path("tiles/damaged.tif").write_bytes(b"II*\0")
    Image.new("RGB", (40, 40)).save("tiles/nowhere.tif")
    for suffix in SUFFIXES:
        predict(f"tiles{suffix}", "tiles")
    predictions = predict("tiles.csv", "tiles")
    cell = predictions["h3_index"][0]
    write_hexagons(Path("hexagons.geojson"), [cell])
    for suffix in SUFFIXES:
        capsys.readouterr()
        pools(f"tiles{suffix}", f"from{suffix}.parquet")
    assert len({Path(f"from{suffix}.parquet").read_bytes() for suffix in SUFFIXES}) == 1
    [row] = pl.read_parquet("from.csv.parquet").to_dicts()
    assert (row["index"], row["tiles"], row["unread"], row["requests"]) == (cell, 2, 0, None)
    probability = float(predictions["probability"][0])
    assert row["tiles_with_pool_expected"] == pytest.approx(2 * probability)
    without_location, repeated, missing, _ = capsys.readouterr().out.splitlines()
    assert without_location.startswith("2 tiles have no location")
    # Both located tiles show the same square.
    assert repeated.startswith("50%")
    assert missing.startswith("hexes/counts.parquet is missing")
