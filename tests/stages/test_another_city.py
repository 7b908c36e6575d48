"""The pipeline works for another city after changes in `city.py` only."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import h3
import polars as pl
import yaml

from tests import ROOT
from tests.report.city import facts
from tests.tables import collection, feature, write_gzip
from tests.workbooks import read_sheets

# Western and northern coordinates, summer time, finer hexagons and other names. The neighbours of
# Cape Town are left as they are.
CHANGES = {
    'NAME = "Cape Town"': 'NAME = "New York"',
    "ACRONYMS: frozenset[str] = frozenset()": 'ACRONYMS = frozenset({"NYPD"})',
    'REQUESTS_TABLE = "sr.csv.gz"': 'REQUESTS_TABLE = "calls.csv.gz"',
    'HEXAGONS_FILE = "city-hex-polygons-8.geojson"': 'HEXAGONS_FILE = "cells.geojson"',
    "TILE_METRES = 100": "TILE_METRES = 60",
    "RESOLUTION = 8": "RESOLUTION = 9",
    'TIME_ZONE = "Africa/Johannesburg"': 'TIME_ZONE = "America/New_York"',
    "TIME_FORMATS: tuple[str, ...] = ()": 'TIME_FORMATS = ("%m/%d/%Y %I:%M:%S %p",)',
    '= ("the City\'s data of 2020", 3, 729_270)': "= None",
    'REQUEST_ID = "notification_number"': 'REQUEST_ID = "call"',
    '("creation_timestamp", "completion_timestamp")': '("opened", "closed")',
    '("latitude", "longitude")': '("y", "x")',
    'DIRECTORATE = "directorate"': 'DIRECTORATE = "agency"',
    'REQUEST_TYPE = "code"': 'REQUEST_TYPE = "complaint [type]"',
    'SUBURB = "official_suburb"': 'SUBURB = "borough"',
    '("directorate", "directorates")': '("agency", "agencies")',
    '("suburb", "suburbs")': '("borough", "boroughs")',
    'INDEX = f"h3_level{RESOLUTION}_index"': 'INDEX = "cell9"',
    'CELL = "index"': 'CELL = "hexagon"',
}
COLUMNS = """
REQUEST_COLUMNS = (
    Column(REQUEST_ID, "text", False, "number"),
    Column(CREATED, "time", False, "opened"),
    Column(COMPLETED, "time", True, "closed"),
    Column(DIRECTORATE, "category", True, "agency"),
    Column(REQUEST_TYPE, "category", True, "complaint"),
    Column(SUBURB, "category", True, "borough"),
    Column(LATITUDE, "number", True, "north"),
    Column(LONGITUDE, "number", True, "east, so negative"),
    Column("fee", "number", True, "in dollars"),
)
"""
# What only Cape Town has, or calls so.
CAPE_TOWN = re.compile(
    r"cape town|directorate|suburb|notification|johannesburg|atlantic|false bay|\b2020\b|729,270|"
    r"resolution 8|0\.7 km|\b100 m\b",
    re.IGNORECASE,
)
HERE = (40.7128, -74.006)
HEADER = "call,opened,closed,agency,complaint [type],borough,y,x,fee"
WINTER = "01/01/2021 08:00:00 AM"
ROWS = [
    "A-1,07/01/2021 08:00:00 AM,2021-07-02T12:00:00Z,NYPD,NOISE: PARTY,QUEENS,40.7128,-74.006,9.50",
    f"A-2,{WINTER},,NYPD,NOISE: PARTY,QUEENS,40.7128,74.006,free",
    f"A-3,{WINTER},,FIRE,Smoke, ,-74.006,40.7128,",
    f"A-4,{WINTER},,FIRE,Smoke,,407128,-74006,",
    f'A-5,{WINTER},,FIRE,Smoke,,"40,7128","-74,006",',
    f"A-6,{WINTER},,FIRE,Smoke,,-33.9,18.5,",
    "A-7,11/07/2021 01:30:00 AM,,FIRE,Smoke,,,,",
]


# The cells of the rows. The fourth and fifth have coordinates that do not exist.
POINTS = [HERE, (40.7128, 74.006), (-74.006, 40.7128), None, None, (-33.9, 18.5)]
EXPECTED = [h3.latlng_to_cell(*at, 9) if at else "" for at in POINTS] + ["0"]


def copy_with_another_city(folder: Path) -> None:
    """Copy the stages' code with another `city.py`, its params, and tables of that city."""
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
    params["download"]["bucket"] = "s3://calls"
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    raw = folder / "raw" / "requests"
    raw.mkdir(parents=True)
    cells = h3.grid_disk(h3.latlng_to_cell(*HERE, 9), 2)
    features = [feature(cell, hexagon=cell, index=None) for cell in cells]
    (raw / "cells.geojson").write_text(json.dumps(collection(features)))
    write_gzip(raw / "calls.csv.gz", "\n".join([HEADER, *ROWS]) + "\n")
    answers = ["call,cell9", *(f"A-{n},{cell}" for n, cell in enumerate(EXPECTED, 1))]
    write_gzip(raw / "answers.csv.gz", "\n".join(answers))


def add_a_classifier(folder: Path) -> None:
    """Write the classifier's results, and a map of pools, as the other stages would."""
    one = facts(folder)
    for name, value in {
        "metrics/split": one.split, "metrics/evaluate": one.evaluate, "metrics/judgement": {},
        "models/model": one.model,
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(value))
    for name, table in {
        "metrics/history": one.history, "metrics/predictions": one.predictions,
        "metrics/sheets": one.sheets, "evaluation/samples": one.samples,
        "evaluation/mistakes": one.mistakes, "raw/requests/inventory": one.inventory,
        "raw/images/inventory": one.inventory,
        **{f"metrics/plots/{name}": table for name, table in one.curves.items()},
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(folder / f"{name}.csv", index=False)
    for picture in folder.glob("*.png"):
        picture.rename(folder / "evaluation" / picture.name)
    hexagons = gpd.read_parquet(folder / "hexes/counts.parquet")[["index", "geometry"]]
    (folder / "maps").mkdir()
    hexagons.assign(
        tiles=4, unread=0, tiles_with_pool_expected=2.25, tiles_with_pool_low=1,
        tiles_with_pool_high=4, called=2,
    ).to_parquet(folder / "maps/pools.parquet")  # fmt: skip


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the other city's code in its folder; tests are those of this checkout."""
    path = os.pathsep.join([str(folder / "src"), str(folder), str(ROOT)])
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**os.environ, "PYTHONPATH": path},
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def test_another_citys_requests_join_its_hexagons_and_have_a_report(tmp_path: Path) -> None:
    copy_with_another_city(tmp_path)
    log = run(tmp_path, "-m", "stages.transform").stderr
    assert "7 of 7 match the reference" in log
    table = pl.read_parquet(tmp_path / "hexes/requests.parquet")
    assert table.columns == [*HEADER.split(","), "cell9", "join_status"]
    assert table["cell9"].fill_null("").to_list() == EXPECTED
    utc = table["opened"].dt.convert_time_zone("UTC").dt.hour()
    assert (utc[0], utc[1], utc[6]) == (12, 13, 5)
    assert table.schema["opened"] == pl.Datetime("us", "America/New_York")
    assert table["borough"].to_list() == ["QUEENS", "QUEENS", *[None] * 5]
    rejects = pl.read_parquet(tmp_path / "hexes/rejects.parquet")
    assert rejects["reason"].to_list() == [
        "sign lost", "swapped", "decimal point lost", "decimal comma", None,
    ]  # fmt: skip
    assert table["fee"].to_list() == [9.5, *[None] * 6]
    assert rejects["unreadable"].to_list() == ["fee", *[None] * 4]
    assert "  fee unreadable: 1, e.g. 'free' of A-2" in log
    assert "  opened without a zone, taken as America/New_York: 7, e.g. A-1" in log
    assert "  opened in an hour that clocks repeat, taken as the earlier one: 1, e.g. A-7" in log
    quality = json.loads((tmp_path / "metrics/quality.json").read_text())
    assert quality["repeated_hour"] == {"opened": 1}
    counts = pl.read_parquet(tmp_path / "hexes/counts.parquet")
    assert len(counts) == 19
    busy = counts.filter(pl.col("requests") > 0).drop("geometry").to_dicts()
    assert busy == [{
        "index": EXPECTED[0], "requests": 1, "agency: (none)": 0, "agency: NYPD": 1,
        "median_days_to_completion": 1.0, "borough": "QUEENS",
    }]  # fmt: skip

    add_a_classifier(tmp_path)
    log += run(tmp_path, "-m", "stages.report").stderr
    sheets = read_sheets(tmp_path / "reports/tables/tables.xlsx")
    assert set(sheets) == {path.stem for path in tmp_path.glob("reports/tables/*.parquet")}
    assert [row[:2] for row in sheets["directorates"]] == [
        ["agency", "requests"], ["FIRE", 5], ["NYPD", 2],
    ]  # fmt: skip
    text, page = ((tmp_path / f"reports/index.{form}").read_text() for form in ("md", "html"))
    for words in (
        "# New York from its data", "| Agency | Requests |", "| NYPD | 2 |", "Noise: Party (29 %)",
        "| A-2 | QUEENS | 40.7128 | 74.006 | sign lost |", "cell of resolution 9 that",
        "hexagon of about 0.1 km²", "photograph of about 60 m × 60 m", "Map of New York in",
    ):  # fmt: skip
        assert words in text
    card = run(
        tmp_path, "-c", "from tests.pools.model.test_model_card import *\n"
        "print(render_card(manifest(), EVALUATION, 'data'))",
    ).stdout  # fmt: skip
    for words in ("newyork-pools", "aerial tiles of New York", "60 m a side", "about New York**"):
        assert words in card
    # Names of files, elements and charts are the same for all cities.
    page = re.sub(r'<(script type="module"|style)>.*?</(script|style)>| id="[^"]*"', "", page,
                  flags=re.DOTALL).replace('"directorates":{', "")  # fmt: skip
    metrics = [path.read_text() for path in (tmp_path / "metrics").glob("*.json")]
    for part in (text.replace("images/directorates.png", ""), page, card, log, *metrics):
        found = CAPE_TOWN.search(part)
        assert not found, part[found.start() - 100 : found.end() + 100]
