"""The stage `transform` works for another city after changes in `city.py` only."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h3
import polars as pl
import yaml

from tests import ROOT
from tests.tables import collection, feature, write_gzip

# Western and northern coordinates, summer time, finer hexagons and other names.
CHANGES = {
    'REQUESTS_TABLE = "sr.csv.gz"': 'REQUESTS_TABLE = "calls.csv.gz"',
    'HEXAGONS_FILE = "city-hex-polygons-8.geojson"': 'HEXAGONS_FILE = "cells.geojson"',
    "RESOLUTION = 8": "RESOLUTION = 9",
    'TIME_ZONE = "Africa/Johannesburg"': 'TIME_ZONE = "America/New_York"',
    'REQUEST_ID = "notification_number"': 'REQUEST_ID = "call"',
    '("creation_timestamp", "completion_timestamp")': '("opened", "closed")',
    '("latitude", "longitude")': '("y", "x")',
    'DIRECTORATE = "directorate"': 'DIRECTORATE = "agency"',
    'SUBURB = "official_suburb"': 'SUBURB = "borough"',
    'INDEX = "h3_level8_index"': 'INDEX = "cell9"',
    'CELL = "index"': 'CELL = "hexagon"',
}
COLUMNS = """
REQUEST_COLUMNS = (
    Column(REQUEST_ID, "text", False, "number"),
    Column(CREATED, "time", False, "opened"),
    Column(COMPLETED, "time", True, "closed"),
    Column(DIRECTORATE, "category", True, "agency"),
    Column(SUBURB, "category", True, "borough"),
    Column(LATITUDE, "number", True, "north"),
    Column(LONGITUDE, "number", True, "east, so negative"),
    Column("fee", "number", True, "in dollars"),
)
"""
HERE = (40.7128, -74.006)
HEADER = "call,opened,closed,agency,borough,y,x,fee"
ROWS = [
    "A-1,2020-07-01 08:00:00,2020-07-02T12:00:00Z,PARKS,QUEENS,40.7128,-74.006,12.50",
    "A-2,2020-01-01 08:00:00,,PARKS,QUEENS,40.7128,74.006,free",
    "A-3,2020-01-01 08:00:00,,FIRE,,-74.006,40.7128,",
    "A-4,2020-01-01 08:00:00,,FIRE,,407128,-74006,",
    'A-5,2020-01-01 08:00:00,,FIRE,,"40,7128","-74,006",',
    "A-6,2020-01-01 08:00:00,,FIRE,,-33.9,18.5,",
    "A-7,2020-01-01 08:00:00,,FIRE,,,,",
]


# The cells of the rows. The fourth and fifth have coordinates that do not exist.
POINTS = [HERE, (40.7128, 74.006), (-74.006, 40.7128), None, None, (-33.9, 18.5)]
EXPECTED = [h3.latlng_to_cell(*at, 9) if at else "" for at in POINTS] + ["0"]


def copy_with_another_city(folder: Path) -> None:
    """Copy the stage's code with another `city.py`, its params, and tables of that city."""
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "src/capetown/city.py"
    source = path.read_text()
    for old, new in CHANGES.items():
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    path.write_text(source + COLUMNS)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    thresholds = {"error_threshold": 1, "unreadable_threshold": 0.5}
    params["transform"] |= thresholds | {"reference": "answers.csv.gz"}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    raw = folder / "raw"
    raw.mkdir()
    cells = h3.grid_disk(h3.latlng_to_cell(*HERE, 9), 2)
    features = [feature(cell, hexagon=cell, index=None) for cell in cells]
    (raw / "cells.geojson").write_text(json.dumps(collection(features)))
    write_gzip(raw / "calls.csv.gz", "\n".join([HEADER, *ROWS]) + "\n")
    answers = ["call,cell9", *(f"A-{n},{cell}" for n, cell in enumerate(EXPECTED, 1))]
    write_gzip(raw / "answers.csv.gz", "\n".join(answers))


def test_another_citys_requests_join_its_hexagons(tmp_path: Path) -> None:
    copy_with_another_city(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "stages.transform"], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""}, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "7 of 7 match the reference" in done.stderr
    table = pl.read_parquet(tmp_path / "hexes/requests.parquet")
    assert table.columns == [*HEADER.split(","), "cell9", "join_status"]
    assert table["cell9"].fill_null("").to_list() == EXPECTED
    summer, winter = table["opened"].dt.convert_time_zone("UTC").dt.hour()[:2]
    assert (summer, winter) == (12, 13)
    assert table.schema["opened"] == pl.Datetime("us", "America/New_York")
    rejects = pl.read_parquet(tmp_path / "hexes/rejects.parquet")
    assert rejects["reason"].to_list() == [
        "sign lost", "swapped", "decimal point lost", "decimal comma", None,
    ]  # fmt: skip
    assert table["fee"].to_list() == [12.5, *[None] * 6]
    assert rejects["unreadable"].to_list() == ["fee", *[None] * 4]
    assert "  fee unreadable: 1, e.g. 'free' of A-2" in done.stderr
    assert "  opened without a zone, taken as America/New_York: 7, e.g. A-1" in done.stderr
    counts = pl.read_parquet(tmp_path / "hexes/counts.parquet")
    assert len(counts) == 19
    busy = counts.filter(pl.col("requests") > 0).drop("geometry").to_dicts()
    assert busy == [{
        "index": EXPECTED[0], "requests": 1, "directorate: (none)": 0, "directorate: PARKS": 1,
        "median_days_to_completion": 1.0, "suburb": "QUEENS",
    }]  # fmt: skip
