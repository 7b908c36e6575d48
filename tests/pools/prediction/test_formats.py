"""`predict` and `pools` write what GIS programs open, or leave the old file alone."""

import json
import re
import resource
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import geopandas
import h3
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import shapely
from PIL import Image

from capetown.cli import main
from capetown.layers import SUFFIXES, write_layer
from capetown.pools.prediction.predictions import LAYER, SCHEMA
from capetown.report.theme import COLOURS
from tests.imagery import geotiff
from tests.pools.prediction import Predict, refused
from tests.qgis import ogrinfo, opened
from tests.tables import CELLS, write_hexagons


@pytest.fixture
def pools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Run `capetown pools`: some probabilities in each cell, and a file name."""
    monkeypatch.chdir(tmp_path)

    def run(out: str, probabilities: dict[str, list[float]]) -> Path:
        write_hexagons(tmp_path / "hexagons.geojson", [*probabilities])
        rows = [(p, cell) for cell, several in probabilities.items() for p in several]
        table = pd.DataFrame(rows, columns=["probability", "h3_index"])
        decisions = np.where(table["probability"] > 0.5, "yes", "no")
        table = table.assign(path=table.index.astype(str), decision=decisions)
        table.to_parquet("predictions.parquet")
        main(["pools", "predictions.parquet", "--out", out, "--hexagons", "hexagons.geojson"])
        return tmp_path / out

    return run


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_all_formats_have_the_same_rows(predict: Predict, tmp_path: Path, suffix: str) -> None:
    """One tile has no location and one is damaged."""
    folder = tmp_path / "tiles"
    folder.mkdir()
    geotiff(folder / "a.tif")
    Image.new("RGB", (40, 40)).save(folder / "nowhere.tif")
    (folder / "damaged.tif").write_bytes(b"II*\0")
    expected = predict("out.parquet", folder)
    found = predict(f"out{suffix}", folder)
    assert found.crs.to_epsg() == 4326
    same = ["path", "probability", "decision", "error", "drift", "h3_index", "latitude"]
    for column in same:
        here, there = (
            [None if pd.isna(value) else value for value in table[column]]
            for table in (found, expected)
        )
        assert here == there
    outlines = shapely.from_wkb(expected["geometry"])
    located = ~shapely.is_missing(outlines)
    assert located.sum() == 1
    assert (found.geometry.notna() == located).all()
    assert shapely.equals(found.geometry[located].to_numpy(), outlines[located]).all()
    # Letters, digits and underscores, at most 31 of them, and no word of SQL.
    names = [*found.columns]
    assert [name for name in names if not re.fullmatch("[a-z][a-z0-9_]{0,30}", name)] == []


def test_qgis_shows_the_tiles_by_probability(predict: Predict, tmp_path: Path) -> None:
    out = tmp_path / "out.gpkg"
    probability = predict(out, geotiff(tmp_path / "a.tif"))["probability"][0]
    found = opened(out, probability, 0.04, 0.05, 0.95, 1)
    assert (found["valid"], found["count"], found["crs"]) == (True, 1, "EPSG:4326")
    assert found["column"] == "probability"
    words = ["under 5 %", "5 to 20 %", "20 to 40 %", "40 to 60 %", "60 to 80 %", "80 to 95 %",
             "95 % or more"]  # fmt: skip
    colours = [COLOURS[f"q{n}"][0] for n in range(7)]
    assert found["classes"] == [list(pair) for pair in zip(words, colours, strict=True)]
    own, *labels = found["labels"]
    assert labels == [words[0], words[1], words[6], words[6]]
    assert found["middle"] == colours[words.index(own)]


def test_qgis_shows_the_hexagons_like_the_report(pools: Callable[..., Path]) -> None:
    """The second one has no tile, so it has no colour."""
    out = pools("out.gpkg", {CELLS[0]: [1.0, 1.0], CELLS[1]: []})
    found = opened(out, 0, 1.9, 2)
    assert (found["valid"], found["count"], found["crs"]) == (True, 2, "EPSG:4326")
    assert found["column"] == "tiles_with_pool_expected"
    assert found["classes"] == [["under 2", COLOURS["q0"][0]], ["2 or more", COLOURS["q1"][0]]]
    assert found["labels"] == ["under 2", "under 2", "2 or more"]
    said = ogrinfo(out, "hexagons")
    assert "Warning" not in said
    lines = "Geometry: Multi Polygon", "Feature Count: 2", "h3_index: String", 'ID["EPSG",4326]'
    assert [line for line in lines if line not in said] == []


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".csv"])
def test_hexagons_across_180_degrees_have_two_parts(
    pools: Callable[..., Path], suffix: str
) -> None:
    """RFC 7946. One of seven hexagons crosses, some lie beyond."""
    cells = h3.grid_disk(h3.latlng_to_cell(-16.8, 180, 8), 1)
    out = pools(f"out{suffix}", {cell: [0.5] for cell in cells})
    if suffix == ".csv":
        outlines = shapely.from_wkt(pd.read_csv(out)["geometry"])
    else:
        layer = {"layer": "hexagons"} if suffix == ".gpkg" else {}
        outlines = geopandas.read_file(out, **layer).geometry.to_numpy()
    assert {len(shapely.get_parts(outline)) for outline in outlines} == {1, 2}
    parts = shapely.get_parts(outlines)
    west, _, east, _ = shapely.bounds(parts).T
    assert (west >= -180).all()
    assert (east <= 180).all()
    assert (east - west < 0.1).all()
    assert shapely.is_ccw(shapely.get_exterior_ring(parts)).all()
    for cell, outline in zip(cells, outlines, strict=True):
        ring = np.array(h3.cell_to_boundary(cell))[:, ::-1]
        ring[:, 0] %= 360
        assert shapely.area(outline) == pytest.approx(shapely.Polygon(ring).area)


def test_a_geojson_is_its_features(pools: Callable[..., Path]) -> None:
    """It has no CRS, as RFC 7946 wants, and a missing number is null."""
    feature, _ = json.loads(pools("out.geojson", {CELLS[0]: [], CELLS[1]: [0.5]}).read_bytes())[
        "features"
    ]
    assert (feature["type"], feature["geometry"]["type"]) == ("Feature", "Polygon")
    assert feature["properties"]["index"] == CELLS[0]
    assert feature["properties"]["tiles_with_pool_expected"] is None


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_keeps_the_old_file(tmp_path: Path, suffix: str) -> None:
    """GDAL reports no failure at its end, when it writes the index of a GeoPackage."""
    boxes = shapely.to_wkb(shapely.box(np.arange(300) / 1000, 0, np.arange(1, 301) / 1000, 1))
    columns = {field.name: pa.nulls(300, field.type) for field in SCHEMA}
    table = pa.table({**columns, "geometry": boxes.tolist()}, SCHEMA)
    out = tmp_path / f"out{suffix}"
    write_layer([table], SCHEMA, out, LAYER)
    whole = out.stat().st_size
    out.write_text("old")
    before, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.RLIMIT_FSIZE
    soft, hard = resource.getrlimit(limits)
    try:
        for limit in np.linspace(0, whole - 1, 20).astype(int).tolist():
            resource.setrlimit(limits, (limit, hard))
            with pytest.raises(OSError, match=r"File too large|is the disk full"):
                write_layer([table], SCHEMA, out, LAYER)
            assert out.read_text() == "old"
            assert [*tmp_path.iterdir()] == [out]
    finally:
        resource.setrlimit(limits, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_geopackage_in_use_is_left_alone(pools: Callable[..., Path], tmp_path: Path) -> None:
    """SQLite would apply another program's changes to the new file."""
    out = pools("out.gpkg", {CELLS[0]: [0.5]})
    arguments = ["pools", "predictions.parquet", "--out", str(out)]
    arguments += ["--hexagons", "hexagons.geojson"]
    before = out.read_bytes()

    def kept(what: str) -> None:
        there = sorted(tmp_path.iterdir())
        error = refused(*arguments)
        assert (error.where, what in error.what) == (str(out), True)
        assert error.fix
        assert sorted(tmp_path.iterdir()) == there

    with closing(sqlite3.connect(out, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        kept("locked")
        other.execute("ROLLBACK")
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("UPDATE layer_styles SET ui = 'x'")
        kept("out.gpkg-wal")
        other.execute("PRAGMA journal_mode=DELETE")
    out.write_bytes(before)
    out.chmod(0o444)
    kept("read-only")
    out.chmod(0o644)
    assert out.read_bytes() == before
    pools("out.gpkg", {CELLS[0]: [0.5]})
    assert out.read_bytes() == before
