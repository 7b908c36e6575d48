"""`capetown pools`: tiles with a pool by hexagon, worked out by hand."""

import math
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import polars as pl
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from capetown.cli import main
from capetown.pools.prediction.per_hexagon import interval
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
    """Tiles of the side 1 with their left edges at some numbers, all in the first hexagon."""
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


def test_tiles_are_counted_by_hexagon(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "hexes").mkdir()
    counts = {"index": [SECOND, FIRST, "88ad361709fffff"], "requests": [7, 3, 9]}
    pl.DataFrame(counts).write_parquet("hexes/counts.parquet")
    pools("predictions.parquet")

    found = gpd.read_parquet("out.parquet")
    # Two even odds: 0, 1 or 2 pools with 1/4, 1/2 and 1/4. One of 1/4: none or one, 3/4 and 1/4.
    assert found.drop(columns="geometry").astype(object).where(found.notna(), None).to_numpy()[
        :, :8
    ].tolist() == [
        [FIRST, 2, 1, 1.0, 0, 2, 1, 3],
        [SECOND, 1, 0, 0.25, 0, 1, 0, 7],
        [THIRD, 0, 0, None, None, None, 0, None],
    ]
    assert list(found.columns[:8]) == [
        "index", "tiles", "unread", "pools_expected", "pools_low", "pools_high", "called",
        "requests",
    ]  # fmt: skip
    assert found.crs.to_string() == "OGC:CRS84"
    theirs = gpd.read_file("hexagons.geojson").to_crs(found.crs)
    assert theirs.geometry.geom_equals(found.geometry).all()
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "1 tiles have no place on Earth and count nowhere, such as f.tif",
        "1 tiles lie outside the hexagons and count nowhere, such as e.tif",
        "1 tiles could not be read and count as unread, such as c.tif",
        "1 hexagons are not among those whose requests are known",
        "out.parquet: 3 tiles in 2 of 3 hexagons, 1.2 of them with a pool by their "
        "probabilities, 1 called",
    ]


def test_csv_gives_the_same_and_requests_may_be_missing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pools("predictions.parquet")
    table(ROWS).with_columns(more=pl.lit("x")).write_csv("predictions.csv")
    pools("predictions.csv", "--out", "again.parquet")
    assert Path("out.parquet").read_bytes() == Path("again.parquet").read_bytes()
    assert pl.read_parquet("out.parquet")["requests"].null_count() == 3
    said = capsys.readouterr().out
    assert "hexes/counts.parquet is not there: the hexagons have no requests beside them" in said


@pytest.mark.parametrize(
    ("probabilities", "bounds"),
    [
        ([1.0, 1.0, 0.0], (2, 2)),
        ([0.0], (0, 0)),
        # One in fifty, and one in thirty: above and below what 2.5 % leave out.
        ([0.02], (0, 0)),
        ([0.03], (0, 1)),
        ([0.98], (1, 1)),
        # 1/32 for none or for all of five coins is more than 2.5 %, 1/64 of six is less.
        ([0.5] * 5, (0, 5)),
        ([0.5] * 6, (1, 5)),
        # Certain tiles only shift the others.
        ([1.0, *[0.5] * 6, 1.0], (3, 7)),
    ],
)
def test_intervals_by_hand(probabilities: list[float], bounds: tuple[int, int]) -> None:
    assert interval(probabilities) == bounds


@given(st.lists(st.floats(0, 1).map(lambda p: round(p, 3)), min_size=1, max_size=9))
def test_the_interval_leaves_out_no_more_than_a_fortieth_on_either_side(
    probabilities: list[float],
) -> None:
    """All ways that the tiles can be are gone through."""
    chance = np.zeros(len(probabilities) + 1)
    for pools in product((0, 1), repeat=len(probabilities)):
        ways = zip(pools, probabilities, strict=True)
        chance[sum(pools)] += math.prod(p if pool else 1 - p for pool, p in ways)
    low, high = interval(probabilities)
    assert chance[:low].sum() < 0.025 + 1e-9
    assert chance[: low + 1].sum() >= 0.025 - 1e-9
    assert chance[high + 1 :].sum() <= 0.025 + 1e-9
    assert chance[high:].sum() > 0.025 - 1e-9


def test_many_tiles_come_close_to_the_normal_distribution() -> None:
    probabilities = np.random.default_rng(0).beta(0.3, 0.9, 3000)
    mean, deviation = probabilities.sum(), math.sqrt((probabilities * (1 - probabilities)).sum())
    low, high = interval(probabilities.tolist())
    assert low == pytest.approx(mean - 1.96 * deviation, abs=1)
    assert high == pytest.approx(mean + 1.96 * deviation, abs=1)


@pytest.mark.parametrize(
    ("corners", "share"),
    [
        ((0, 1), ""),
        # A tenth of each of two, which is a tenth of one in two.
        ((0, 0.9), "5%"),
        # Two of three tiles repeat the other.
        ((0, 0, 0), "67%"),
    ],
)
def test_overlap_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], corners: tuple[float, ...], share: str
) -> None:
    outlined(*corners).write_parquet("predictions.parquet")
    pools("predictions.parquet")
    said = "of the tiles' area repeats what others show: what lies there counts in each of them"
    assert capsys.readouterr().out.splitlines()[:-2] == [f"{share} {said}"] * bool(share)


BAD: dict[str, Any] = {
    "a path": (table(ROWS).drop("path"), "no column path; is it what `capetown predict` wrote"),
    "columns": (pl.DataFrame({"x": [1]}), "no column path, probability, decision, h3_index; is it"),
    "rows": (table([]), "no row under the header; predict at least one tile"),
    "too much": (table([*ROWS, ("g.tif", 1.5, "yes", FIRST)]), r"row 7: probability 1\.5 is no nu"),
    "not a number": (table([("g.tif", math.nan, "yes", FIRST)]), "row 1: probability nan is no nu"),
    "a decision": (
        table([("g.tif", 0.5, "pool", FIRST)]),
        "row 1: decision 'pool' is none of no, yes",
    ),
    "half": (table([("g.tif", 0.5, None, FIRST)]), "row 1: a probability without a decision"),
    "a cell": (table([("g.tif", 0.5, "no", "xyz")]), "row 1: h3_index 'xyz' is no H3 cell of reso"),
    "coarse": (table([("g", 0.5, "no", "87ad36022ffffff")]), r"row 1: h3_index '87\w+' is no H3 c"),
    "twice": (table(ROWS + ROWS[:1]), r"row 1: the tile a\.tif is there more than once \(2 such"),
    "nowhere": (table(ROWS[5:]), r"no tile has a place on Earth \(h3_index is empty in all 1 rows"),
    "words": (table(ROWS).with_columns(probability=pl.lit("x")), r"cannot be read \("),
}


@pytest.mark.parametrize("kind", BAD)
def test_predictions_that_cannot_be_counted(folder: Path, kind: str) -> None:
    frame, said = BAD[kind]
    frame.write_parquet("bad.parquet")
    refused(folder, rf"bad\.parquet: {said}", "bad.parquet")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.parquet"], r"nothing\.parquet: no such file; `capetown predict` writes one"),
        (["hexagons.geojson"], r"hexagons\.geojson: a table of predictions ends in \.parquet or"),
        (["damaged.parquet"], r"damaged\.parquet: cannot be read \("),
        (["damaged.csv"], r"damaged\.csv: "),
        (["predictions.parquet", "--out", "out.csv"], r"--out out\.csv: hexagons are written as"),
        (["predictions.parquet", "--out", "predictions.parquet"], "would replace what it is made"),
        (["predictions.parquet", "--out", "missing/out.parquet"], "missing/out.parquet: cannot be"),
        (["predictions.parquet", "--out", "."], "is not a regular file and is left alone"),
    ],
)
def test_files_that_cannot_be_used(folder: Path, arguments: list[str], said: str) -> None:
    whole = Path("predictions.parquet").read_bytes()
    Path("damaged.parquet").write_bytes(whole[: len(whole) // 2])
    Path("damaged.csv").write_bytes(b"\xff\xfe\x00path,label\n\x80")
    refused(folder, said, *arguments)
    assert Path("predictions.parquet").read_bytes() == whole


def test_requests_that_cannot_be_read_are_named(folder: Path) -> None:
    (folder / "hexes").mkdir()
    (folder / "hexes" / "counts.parquet").write_bytes(b"PAR1")
    refused(folder, r"hexes/counts\.parquet: cannot be read \(.*`dvc repro transform` makes it",
            "predictions.parquet")  # fmt: skip


def refused(folder: Path, said: str, *arguments: str) -> None:
    """One line is said, and nothing is written."""
    before = {*folder.iterdir()}
    with pytest.raises(SystemExit, match=said) as caught:
        pools(*arguments)
    assert "\n" not in str(caught.value)
    assert {*folder.iterdir()} == before
