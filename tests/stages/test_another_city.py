"""Another city is another `city.py`: the stage of a copy of the code, with that file changed."""

import gzip
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

# West of Greenwich, north of the equator, with summer time, finer hexagons and other names.
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


def city() -> str:
    source = (ROOT / "src/capetown/city.py").read_text()
    for old, new in CHANGES.items():
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source + COLUMNS


def copy_with_another_city(folder: Path) -> None:
    """The stage's code, its params and a made-up city's tables."""
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "src/capetown/city.py").write_text(city())
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    thresholds = {"error_threshold": 1, "unreadable_threshold": 0.5}
    params["transform"] |= thresholds | {"reference": "answers.csv.gz"}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    raw = folder / "raw"
    raw.mkdir()
    cells = h3.grid_disk(h3.latlng_to_cell(*HERE, 9), 2)
    features = [
        {
            "type": "Feature",
            "properties": {"hexagon": cell},
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[*point[::-1]] for point in (*corners, corners[0])]],
            },
        }
        for cell, corners in ((cell, h3.cell_to_boundary(cell)) for cell in cells)
    ]
    collection = {"type": "FeatureCollection", "features": features}
    (raw / "cells.geojson").write_text(json.dumps(collection))
    table = "\n".join([HEADER, *ROWS]) + "\n"
    (raw / "calls.csv.gz").write_bytes(gzip.compress(table.encode()))
    answers = ["call,cell9", *(f"A-{n},{cell}" for n, cell in enumerate(expected(), 1))]
    (raw / "answers.csv.gz").write_bytes(gzip.compress("\n".join(answers).encode()))


def expected() -> list[str]:
    """The cells of the rows, empty where the coordinates are no place on Earth."""
    places = [HERE, (40.7128, 74.006), (-74.006, 40.7128), None, None, (-33.9, 18.5)]
    return [h3.latlng_to_cell(*place, 9) if place else "" for place in places] + ["0"]


def test_the_requests_of_another_city_join_its_hexagons(tmp_path: Path) -> None:
    copy_with_another_city(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "stages.transform"], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""}, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "7 of 7 as in the reference" in done.stderr
    table = pl.read_parquet(tmp_path / "hexes/requests.parquet")
    assert table.columns == [*HEADER.split(","), "cell9", "join_status"]
    assert table["cell9"].fill_null("").to_list() == expected()
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
    assert busy == [
        {
            "index": expected()[0], "requests": 1,
            "directorate: (none)": 0, "directorate: PARKS": 1,
            "median_days_to_completion": 1.0, "suburb": "QUEENS",
        },
    ]  # fmt: skip
