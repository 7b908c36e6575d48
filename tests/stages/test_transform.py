"""The stage `transform`: outs, metrics and log, and failures that keep the previous outs."""

import gzip
import json
import resource
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h3
import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from capetown.errors import CapetownError
from capetown.requests.reader import STATUSES
from stages import run, transform
from tests import ROOT
from tests.tables import (
    HEADER,
    INSIDE,
    INSIDE_CELL,
    OUTSIDE,
    OUTSIDE_CELL,
    request,
    text,
    write_gzip,
    write_hexagons,
)
from tests.workbooks import read_sheets
from tools.synthetic import make_bucket

CELL = {INSIDE: INSIDE_CELL, OUTSIDE: OUTSIDE_CELL}
MISSING = ("", "")
CREATED, COMPLETED = "creation_timestamp", "completion_timestamp"
REQUESTS, REFERENCE = Path("raw/requests/sr.csv.gz"), Path("raw/requests/sr_hex.csv.gz")
Points = list[tuple[str, str]]
Changes = dict[int, dict[str, str]]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("raw/requests").mkdir(parents=True)
    Path("logs").mkdir()


def prepare(points: Points, changes: Changes | None = None, **params: Any) -> None:
    """Write one request per point, some with changed values, the reference and the params."""
    rows = [request(f"{n:012}", at, **(changes or {}).get(n, {})) for n, at in enumerate(points)]
    cells = [{"h3_level8_index": CELL.get(at, "0")} for at in points]
    joined = [row | cell for row, cell in zip(rows, cells, strict=True)]
    write_gzip(REQUESTS, text(rows))
    write_gzip(REFERENCE, text(joined, [*HEADER, "h3_level8_index"]))
    write_hexagons(Path("raw/requests/city-hex-polygons-8.geojson"))
    set_params(**params)


def set_params(**params: Any) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["transform"] |= params
    Path("params.yaml").write_text(yaml.safe_dump(values))


@pytest.fixture
def previous() -> dict[Path, bytes]:
    """Outs of an earlier run."""
    for name in ("hexes/counts.parquet", "metrics/transform.json", "metrics/quality.json"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    return outs()


def outs() -> dict[Path, bytes]:
    return {path: path.read_bytes() for out in ("hexes", "metrics") for path in Path(out).iterdir()}


def metrics(name: str = "transform") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"metrics/{name}.json").read_text())
    return found


def test_the_sample_bucket_joins_like_h3_and_twice_the_same() -> None:
    make_bucket(Path("raw/requests"), requests=60_000, tiles=0, seed=1)
    set_params(csv=True)
    transform.main()
    first = outs()
    transform.main()
    assert outs() == first
    found = metrics()
    assert found["reference"] == {
        "compared": 60_000, "matched": 60_000, "mismatched": 0, "mismatch_rate": 0.0,
        "only_in_requests": 0, "only_in_reference": 0,
    }  # fmt: skip
    table = pl.read_parquet("hexes/requests.parquet")
    statuses = table["join_status"].to_list()
    theirs = pl.read_csv(REFERENCE, infer_schema=False)
    csv = pl.read_csv("hexes/requests.csv", infer_schema=False)
    csv = csv.with_columns(pl.all().str.strip_prefix("'"))
    assert_frame_equal(csv, theirs.with_columns(join_status=pl.Series(statuses)))
    assert [statuses.count(name) for name in STATUSES] == [found[name] for name in STATUSES]
    on_earth = pl.col("latitude").abs().le(90) & pl.col("longitude").abs().le(180)
    located = table.filter(on_earth)
    points = located.select("latitude", "longitude").iter_rows()
    assert located["h3_level8_index"].to_list() == [h3.latlng_to_cell(*at, 8) for at in points]
    counts = pl.read_parquet("hexes/counts.parquet")
    sheets = read_sheets(Path("hexes/counts-and-rejects.xlsx"))
    assert list(sheets) == ["counts", "rejects"]
    for name, rows in sheets.items():
        frame = pl.read_parquet(f"hexes/{name}.parquet").drop("geometry", strict=False)
        header, *values = rows
        assert header == frame.columns
        padded = [(*row, *[None] * (frame.width - len(row))) for row in values]
        sheet = pl.DataFrame(padded, orient="row", infer_schema_length=None)
        sheet.columns = frame.columns
        assert_frame_equal(sheet, frame.cast({pl.Enum: pl.String}), check_dtypes=False)
    assert (len(counts), counts["requests"].sum()) == (3_832, found["joined"])
    taken = (pl.col(COMPLETED) - pl.col(CREATED)).dt.total_microseconds().clip(0)
    joined = table.filter(pl.col("join_status") == "joined")
    expected = joined.group_by(index="h3_level8_index").agg(
        requests=pl.len().cast(pl.Int64),
        water=(pl.col("directorate") == "WATER AND SANITATION").sum().cast(pl.Int64),
        days=taken.median() / 86_400e6,
    )
    ours = counts.filter(pl.col("requests") > 0).select(
        "index", "requests", water="directorate: WATER AND SANITATION",
        days="median_days_to_completion",
    )  # fmt: skip
    assert ours["water"].sum() > 0
    assert_frame_equal(ours, expected, check_row_order=False)
    assert len(ours) == metrics("quality")["hexagons_with_requests"]


@pytest.mark.parametrize("requests", [100, 3_000])
def test_a_small_sample_passes_the_projects_thresholds(requests: int) -> None:
    make_bucket(Path("raw/requests"), requests=requests, tiles=0, seed=42)
    set_params()
    transform.main()
    assert metrics()["reference"]["matched"] == requests


DATE = "07/10/2020 06:55"
FAILED, DISAGREE = "of the requests with coordinates failed", "of the requests disagree"


@pytest.mark.parametrize(
    ("points", "changes", "params", "fault", "rejects"),
    [
        ([INSIDE] * 998 + [OUTSIDE] * 2, {}, {}, f"0.2000% {FAILED}", 2),
        ([INSIDE] * 90 + [INSIDE[::-1]] * 10, {}, {"reference": None}, f"10.0000% {FAILED}", 10),
        ([INSIDE] * 7 + [MISSING] * 3, {}, {}, "30.0000% of the requests have no coordinates", 0),
        ([INSIDE] * 9 + [("x", "y")], {}, {"error_threshold": 0.1}, f"10.0000% {DISAGREE}", 1),
        *(([INSIDE] * 1_000, {7: {name: DATE}, 8: {name: DATE}}, {}, f"0.2000% of {name}", 2)
          for name in (CREATED, COMPLETED)),
        ([INSIDE] * 10, {3: {CREATED: ""}}, {}, f"10.0000% of {CREATED} cannot be read", 0),
    ],
)  # fmt: skip
def test_an_exceeded_threshold_stops_the_stage_and_keeps_the_outs(
    previous: dict[Path, bytes],
    points: Points, changes: Changes, params: dict[str, Any], fault: str, rejects: int,
) -> None:  # fmt: skip
    prepare(points, changes, **params)
    with pytest.raises(CapetownError) as error:
        transform.main()
    assert error.value.what.startswith(fault)
    [seen] = error.value.what.split("see ")[1:]
    assert Path(seen).exists()
    assert error.value.fix == "hexes/ keeps the previous outputs"
    assert len(pl.read_parquet("logs/transform-rejects.parquet")) == rejects
    assert Path("logs/transform-mismatches.parquet").exists() == ("reference" not in params)
    assert outs() == previous


def test_deviations_within_the_thresholds_are_counted_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    changes = {
        7: {CREATED: "yesterday", COMPLETED: "today"},
        8: {COMPLETED: "NULL"},
        9: {CREATED: "2020-10-07T06:55:18"},
    }
    points = [INSIDE] * 1_998 + [MISSING] * 8 + [OUTSIDE, ("x", "18.5")]
    prepare(points, changes, reference_threshold=0.001)
    write_gzip(REQUESTS, gzip.decompress(REQUESTS.read_bytes()).decode().encode("utf-16"))
    with caplog.at_level("INFO", "capetown"):
        transform.main()
    found, quality = metrics(), metrics("quality")
    assert found.pop("reference")["mismatched"] == 1
    assert found == {
        "verdict": "every threshold holds; the join can be trusted",
        "requests": 2_008, "joined": 1_998, "missing_coordinates": 8,
        "invalid_coordinates": 1, "outside_city": 1,
        "failure_rate": 0.001, "missing_rate": 0.00398406, "unreadable_rate": 0.00049826,
    }  # fmt: skip
    assert quality["reasons"] == {"not a number": 1, "unknown": 1}
    assert quality["unparsed"] == {CREATED: 1, COMPLETED: 1}
    assert quality["without_zone"] == {CREATED: 1, COMPLETED: 0}
    assert quality["empty"][COMPLETED] == 1
    rejects = pl.read_parquet("hexes/rejects.parquet")
    assert rejects.columns[:-3] == [*HEADER, "h3_level8_index", "join_status"]
    assert rejects.select(CREATED, "latitude", "join_status", "reason", "unreadable").rows() == [
        ("yesterday", INSIDE[0], "joined", None, f"{CREATED}, {COMPLETED}"),
        (request("")[CREATED], OUTSIDE[0], "outside_city", None, None),
        (request("")[CREATED], "x", "invalid_coordinates", "not a number", None),
    ]
    logged = "\n".join(caplog.messages)
    for line in (
        "raw/requests/sr.csv.gz: text in UTF-16",
        "requests: 2,008",
        "  joined                         1,998   99.5020%",
        "  outside_city                       1    0.0498%",
        f"  e.g. 000000002006 at {OUTSIDE[0]}, {OUTSIDE[1]}: outside_city, 20,",
        f"  {CREATED} unreadable: 1, e.g. 'yesterday' of 000000000007",
        f"  {CREATED} without a zone, taken as Africa/Johannesburg: 1, e.g. 000000000009",
        "reference: 2,008 compared, 2,007 matched, 1 mismatched",
        "verdict: every threshold holds; the join can be trusted: 2,008 rows read and written; "
        "IDs are complete and unique; 0.1000% of the given coordinates failed; "
        f"0.0498% of {CREATED} or {COMPLETED} unreadable; 2,007 of 2,008 match the reference",
    ):
        assert f"\n{line}" in logged


def test_a_reference_is_optional_but_a_named_one_must_exist() -> None:
    prepare([INSIDE])
    REFERENCE.unlink()
    with pytest.raises(CapetownError) as error:
        transform.main()
    assert error.value.where == str(REFERENCE)
    assert "leave transform.reference empty" in error.value.fix
    assert not Path("hexes").exists()
    set_params(reference=None)
    transform.main()
    assert metrics()["reference"] is None


def test_without_tables_the_outs_are_empty_and_old_details_go() -> None:
    set_params()
    Path("logs/transform-rejects.parquet").touch()
    transform.main()
    assert outs() == {Path("hexes/.gitkeep"): b"", Path("metrics/transform.json"): b"{}\n",
                      Path("metrics/quality.json"): b"{}\n"}  # fmt: skip
    assert list(Path("logs").iterdir()) == []
    transform.main()


def test_without_tables_earlier_results_stay(previous: dict[Path, bytes]) -> None:
    set_params()
    with pytest.raises(CapetownError) as error:
        transform.main()
    assert error.value.where == "hexes/"
    assert "`dvc repro evaluate`" in error.value.fix
    assert outs() == previous


def test_outs_that_cannot_be_replaced_stay(previous: dict[Path, bytes]) -> None:
    prepare([INSIDE])
    denied = patch.object(Path, "rename", side_effect=PermissionError(13, "Permission denied"))
    with denied, pytest.raises(CapetownError) as error:
        transform.main()
    assert error.value.where == "hexes/"
    assert outs() == previous


@pytest.mark.parametrize("room", [50_000, 1_000_000], ids=["Parquet", "workbook"])
def test_a_full_disk_is_not_blamed_on_the_input(room: int) -> None:
    make_bucket(Path("raw/requests"), requests=5_000, tiles=0, seed=1)
    set_params()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(CapetownError) as error:
            transform.main()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.value.where == "hexes/"
    assert "File too large" in error.value.what
    assert not Path("hexes").exists()
    assert list(Path("logs").iterdir()) == []


def test_a_log_that_cannot_be_written_is_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Path("logs").rmdir()
    Path("logs").touch()
    monkeypatch.setattr(sys, "argv", ["stages/transform.py"])
    with pytest.raises(SystemExit, match="1"):
        run(transform.main)
    [said] = caplog.messages
    assert said.startswith("error: logs/transform.log: the log cannot be written (")
