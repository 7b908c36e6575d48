"""The stage: its outputs and numbers, and the thresholds that stop it with nothing half-written."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import h3
import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from capetown.errors import CapetownError
from capetown.requests.reader import STATUSES
from stages import transform
from tests import ROOT
from tests.tables import (
    CELLS,
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
from tools.synthetic import make_bucket

CELL = {INSIDE: INSIDE_CELL, OUTSIDE: OUTSIDE_CELL, ("", ""): "0"}


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").mkdir()
    return tmp_path


def prepare(places: list[tuple[str, str]], **params: Any) -> None:
    """Tables of a request at each place, the City's answer to them, and params."""
    prepare_rows([request(f"{n:012}", place) for n, place in enumerate(places, 1)], **params)


def prepare_rows(rows: list[dict[str, str]], **params: Any) -> None:
    """The same of requests as they are."""
    raw = Path("raw")
    raw.mkdir(exist_ok=True)
    places = [(row["latitude"], row["longitude"]) for row in rows]
    answers = [row | {"h3_level8_index": CELL.get(place, "0")} for row, place in
               zip(rows, places, strict=True)]  # fmt: skip
    write_gzip(raw / "sr.csv.gz", text(rows))
    write_gzip(raw / "sr_hex.csv.gz", text(answers, [*HEADER, "h3_level8_index"]))
    write_hexagons(raw / "city-hex-polygons-8.geojson")
    set_params(**params)


def set_params(**params: Any) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["transform"] |= params
    Path("params.yaml").write_text(yaml.safe_dump(values))


def metrics() -> dict[str, Any]:
    """What the stage counted; the data's quality is a file of its own, which is no metric."""
    found: dict[str, Any] = json.loads(Path("metrics/transform.json").read_text())
    assert found.pop("verdict") == "every threshold holds; the join can be trusted"
    return found | {"quality": json.loads(Path("metrics/quality.json").read_text())}


def hexes() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path("hexes").iterdir()}


def test_the_sample_bucket_joins_without_a_mismatch() -> None:
    make_bucket(Path("raw"), requests=5_000, tiles=0, seed=1)
    set_params(csv=True)
    transform.main()
    found = metrics()
    assert found["requests"] == 5_000
    assert found["reference"] == {
        "compared": 5_000, "matched": 5_000, "mismatched": 0, "mismatch_rate": 0.0,
        "only_in_requests": 0, "only_in_reference": 0,
    }  # fmt: skip
    theirs = pl.read_csv("raw/sr_hex.csv.gz", infer_schema=False)
    ours = pl.read_csv("hexes/sr_hex.csv.gz", infer_schema=False)
    assert_frame_equal(ours, theirs)
    table = pl.read_parquet("hexes/requests.parquet")
    statuses = dict(table["join_status"].cast(pl.String).value_counts().iter_rows())
    assert {name: statuses.get(name, 0) for name in STATUSES} == {
        name: found[name] for name in STATUSES
    }
    located = table.filter(
        pl.col("latitude").is_between(-90, 90) & pl.col("longitude").abs().le(180)
    )
    places = located.select("latitude", "longitude").iter_rows()
    assert located["h3_level8_index"].to_list() == [h3.latlng_to_cell(*at, 8) for at in places]
    counts = pl.read_parquet("hexes/counts.parquet")
    assert len(counts) == 3_832
    assert counts["requests"].sum() == found["joined"]
    joined = table.filter(pl.col("join_status") == "joined")
    by_hand = joined.group_by("h3_level8_index").agg(
        n=pl.len(),
        water=(pl.col("directorate") == "WATER AND SANITATION").sum(),
        days=(pl.col("completion_timestamp") - pl.col("creation_timestamp"))
        .dt.total_microseconds().clip(0).median() / 86_400e6,
    )  # fmt: skip
    both = counts.join(by_hand, left_on="index", right_on="h3_level8_index")
    assert len(both) == found["quality"]["hexagons_with_requests"]
    assert both["requests"].equals(both["n"].cast(pl.Int64))
    water = both["directorate: WATER AND SANITATION"]
    assert water.sum() > 0
    assert water.equals(both["water"].cast(pl.Int64))
    days = both.select("median_days_to_completion", "days")
    assert (days["median_days_to_completion"] - days["days"]).abs().max() < 1e-6  # type: ignore[operator]


@pytest.mark.parametrize("requests", [100, 3_000])
def test_a_small_sample_passes_the_pipelines_own_thresholds(requests: int) -> None:
    make_bucket(Path("raw"), requests=requests, tiles=0, seed=42)
    set_params()
    transform.main()
    assert metrics()["reference"]["matched"] == requests


def test_metrics_of_a_table_counted_by_hand() -> None:
    prepare([INSIDE] * 5 + [("", "")] * 3 + [OUTSIDE, ("x", "18.5")], error_threshold=0.3,
            missing_threshold=0.3, reference_threshold=0.1)  # fmt: skip
    transform.main()
    found = metrics()
    assert {key: found[key] for key in list(found)[:8]} == {
        "requests": 10,
        "joined": 5,
        "missing_coordinates": 3,
        "invalid_coordinates": 1,
        "outside_city": 1,
        "failure_rate": 0.28571429,
        "missing_rate": 0.3,
        "unreadable_rate": 0.0,
    }
    assert found["reference"]["mismatched"] == 1
    assert found["quality"]["reasons"] == {"not a number": 1, "unknown": 1}
    rejects = pl.read_parquet("hexes/rejects.parquet")
    assert rejects.columns == [
        *HEADER, "h3_level8_index", "join_status", "reason", "metres_to_nearest_hexagon",
        "unreadable",
    ]  # fmt: skip
    assert rejects["latitude"].to_list() == [OUTSIDE[0], "x"]
    assert sorted(hexes()) == ["counts.parquet", "rejects.parquet", "requests.parquet"]


def test_a_run_again_gives_the_same_bytes() -> None:
    make_bucket(Path("raw"), requests=60_000, tiles=0, seed=1)
    set_params(csv=True)
    transform.main()
    first, before = hexes(), Path("metrics/transform.json").read_bytes()
    transform.main()
    assert hexes() == first
    assert Path("metrics/transform.json").read_bytes() == before


@pytest.mark.parametrize(
    ("places", "params", "message"),
    [
        ([INSIDE] * 998 + [OUTSIDE] * 2, {},
         "0.2000% of the requests with coordinates failed to join (transform.error_threshold is "
         "0.1000%), look at logs/transform-rejects.parquet; hexes/ keeps the previous outputs"),
        ([INSIDE] * 90 + [INSIDE[::-1]] * 10, {"reference": None}, "10.0000% of the requests with"),
        ([INSIDE] * 7 + [("", "")] * 3, {},
         "30.0000% of the requests have no coordinates (transform.missing_threshold is "
         "25.0000%), look at raw/sr.csv.gz; hexes/"),
        ([INSIDE] * 9 + [("x", "y")], {"error_threshold": 0.1},
         "10.0000% of the requests disagree with the reference (transform.reference_threshold is "
         "0.0000%), look at logs/transform-mismatches.parquet; hexes/"),
    ],
)  # fmt: skip
def test_a_threshold_stops_the_stage_and_the_last_good_output_stays(
    places: list[tuple[str, str]], params: dict[str, Any], message: str
) -> None:
    prepare([INSIDE] * 10)
    transform.main()
    good, before = hexes(), Path("metrics/transform.json").read_bytes()
    prepare(places, **params)
    with pytest.raises(CapetownError) as error:
        transform.main()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    rejects = pl.read_parquet("logs/transform-rejects.parquet")
    assert len(rejects) == sum(place not in (INSIDE, ("", "")) for place in places)
    mismatches = Path("logs/transform-mismatches.parquet")
    assert mismatches.exists() == (params.get("reference", "") is not None)
    assert hexes() == good
    assert Path("metrics/transform.json").read_bytes() == before
    prepare([INSIDE] * 10)
    transform.main()
    assert not list(Path("logs").glob("*.parquet"))
    assert not list(Path("logs").glob("hexes-*/"))


@pytest.mark.parametrize("column", ["creation_timestamp", "completion_timestamp"])
def test_times_in_another_form_do_not_vanish(column: str) -> None:
    """An export that writes them otherwise stops the stage, and their text is there to see."""
    rows = [request(f"{n:012}") for n in range(1_000)]
    rows[7][column] = rows[8][column] = "07/10/2020 06:55"
    prepare_rows(rows)
    with pytest.raises(CapetownError) as error:
        transform.main()
    assert str(error.value) == (
        f"0.2000% of {column} cannot be read (transform.unreadable_threshold is "
        "0.1000%), look at logs/transform-rejects.parquet; hexes/ keeps the previous outputs"
    )
    rejects = pl.read_parquet("logs/transform-rejects.parquet")
    shown = rejects.select("notification_number", column, "join_status", "reason", "unreadable")
    assert shown.rows() == [
        ("000000000007", "07/10/2020 06:55", "joined", None, column),
        ("000000000008", "07/10/2020 06:55", "joined", None, column),
    ]


def test_one_time_in_a_thousand_may_be_unreadable_and_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = [request(f"{n:012}") for n in range(2_000)]
    rows[7] |= {"creation_timestamp": "yesterday", "completion_timestamp": "today"}
    rows[8]["completion_timestamp"] = "NULL"
    rows[9]["creation_timestamp"] = "2020-10-07T06:55:18"
    prepare_rows(rows)
    with caplog.at_level("INFO", "capetown"):
        transform.main()
    found = metrics()
    assert found["unreadable_rate"] == 0.00050025
    assert found["failure_rate"] == 0
    assert found["quality"]["reasons"] == {}
    both = {"creation_timestamp": 1, "completion_timestamp": 1}
    assert found["quality"]["unparsed"] == both
    assert found["quality"]["without_zone"] == both | {"completion_timestamp": 0}
    assert found["quality"]["empty"]["completion_timestamp"] == 1
    [reject] = pl.read_parquet("hexes/rejects.parquet").rows(named=True)
    assert reject["unreadable"] == "creation_timestamp, completion_timestamp"
    assert reject["creation_timestamp"] == "yesterday"
    for line in (
        "  creation_timestamp unreadable: 1, e.g. 'yesterday' of 000000000007",
        "  completion_timestamp unreadable: 1, e.g. 'today' of 000000000007",
        "  creation_timestamp without a zone, taken as Africa/Johannesburg: 1, e.g. 000000000009",
    ):
        assert line in caplog.messages


def test_times_that_should_be_there_and_are_not_stop_the_stage() -> None:
    rows = [request(f"{n:012}") for n in range(10)]
    rows[3]["creation_timestamp"] = ""
    prepare_rows(rows)
    with pytest.raises(CapetownError, match=r"^10\.0000% of creation_timestamp cannot be read"):
        transform.main()


def test_a_line_of_totals_is_no_request() -> None:
    prepare_rows([request("01"), request("Total", ("", ""))])
    with pytest.raises(CapetownError, match="row 2: notification_number 'Total' is not an ID"):
        transform.main()


def test_the_log_says_what_was_read_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    prepare([INSIDE] * 2)
    rows = text([request("000000000001"), request("000000000002")]).replace(",", ";")
    write_gzip(Path("raw/sr.csv.gz"), (rows + "\n\n").encode("utf-16"))
    with caplog.at_level("INFO", "capetown"):
        transform.main()
    assert [line for line in caplog.messages if line.startswith("raw/")] == [
        "raw/sr.csv.gz: text in UTF-16",
        "raw/sr.csv.gz: values separated by semicolons",
        "raw/sr.csv.gz: 2 blank lines, skipped",
    ]
    assert metrics()["reference"]["matched"] == 2


def test_a_stray_mark_in_the_same_rows_of_both_tables_is_refused() -> None:
    rows = [request(f"{n:012}") for n in range(20)]
    for n in (3, 17):
        rows[n]["directorate"] = '"WATER'
    prepare_rows(rows)
    with pytest.raises(CapetownError, match="row 4: a stray quotation mark in"):
        transform.main()
    assert not Path("hexes").exists()


def test_one_failure_in_a_thousand_is_still_within_the_threshold() -> None:
    prepare([INSIDE] * 999 + [OUTSIDE])
    transform.main()
    assert metrics()["failure_rate"] == 0.001


def test_without_a_reference_the_join_stands_alone() -> None:
    prepare([INSIDE], reference=None)
    Path("raw/sr_hex.csv.gz").unlink()
    transform.main()
    assert metrics()["reference"] is None


def test_a_reference_that_is_named_must_be_there() -> None:
    prepare([INSIDE])
    Path("raw/sr_hex.csv.gz").unlink()
    with pytest.raises(CapetownError, match=r"raw/sr_hex\.csv\.gz: no such file"):
        transform.main()
    assert not Path("hexes").exists()


def test_the_log_lets_a_reader_judge_the_join() -> None:
    prepare([INSIDE] * 1_999 + [OUTSIDE])
    done = subprocess.run(
        [sys.executable, "-m", "stages.transform"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, capture_output=True, check=True,
    )  # fmt: skip
    for line in (
        "requests: 2,000",
        "  joined                         1,999   99.9500%",
        "  outside_city                       1    0.0500%",
        f"  e.g. 000000002000 at {OUTSIDE[0]}, {OUTSIDE[1]}: outside_city, 20,",
        "reference: 2,000 compared, 2,000 matched, 0 mismatched",
        "verdict: every threshold holds; the join can be trusted: 2,000 rows read and written; "
        "IDs are complete and unique; 0.0500% of the given coordinates failed; "
        "0.0000% of creation_timestamp or completion_timestamp unreadable; "
        "2,000 of 2,000 match the reference",
    ):
        assert line in done.stderr
    assert Path("logs/transform.log").read_text() == done.stderr


def test_a_failure_is_one_line_and_a_status() -> None:
    prepare([INSIDE])
    Path("raw/sr.csv.gz").write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-m", "stages.transform"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "error: raw/sr.csv.gz: the file is empty; fetch the file again" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_tables_there_is_nothing_to_join_and_it_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    prepare([INSIDE] * 10)
    for file in Path("raw").iterdir():
        file.unlink()
    with caplog.at_level("WARNING", "capetown"):
        transform.main()
    assert "no tables in raw/: there are no requests to join" in caplog.messages
    assert Path("metrics/transform.json").read_text() == "{}\n"
    assert list(hexes()) == [".gitkeep"]


def test_what_cannot_be_put_in_place_leaves_the_last_good_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare([INSIDE] * 10)
    transform.main()
    good = hexes()
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if "made" in self.parts:
            raise PermissionError(13, "Permission denied", str(self))
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refused)
        with pytest.raises(CapetownError, match="cannot be written"):
            transform.main()
    assert hexes() == good


def test_what_a_killed_run_left_is_removed() -> None:
    prepare([INSIDE] * 10)
    Path("logs/.outs-hexes-killed/made").mkdir(parents=True)
    of_an_experiment = Path("logs/hexes-finer/transform.log")
    of_an_experiment.parent.mkdir()
    of_an_experiment.touch()
    transform.main()
    assert [path for path in Path("logs").iterdir() if path.is_dir()] == [of_an_experiment.parent]
    assert of_an_experiment.exists()


def test_what_a_killed_run_was_exchanging_comes_back_though_the_next_one_fails() -> None:
    prepare([INSIDE] * 10)
    transform.main()
    good, killed = hexes(), Path("logs/.outs-hexes-killed")
    for folder in ("made", "last"):
        (killed / folder).mkdir(parents=True)
    Path("hexes").rename(killed / "last" / "hexes")
    (killed / "made" / "hexes").mkdir()
    Path("raw/sr.csv.gz").write_bytes(b"")
    with pytest.raises(CapetownError):
        transform.main()
    assert hexes() == good


@pytest.mark.parametrize("name", ["sr.csv.gz", "city-hex-polygons-8.geojson", "sr_hex.csv.gz"])
def test_an_input_that_cannot_be_opened_is_not_called_damaged(name: str) -> None:
    prepare([INSIDE] * 10)
    (Path("raw") / name).unlink()
    (Path("raw") / name).mkdir()
    with pytest.raises(CapetownError, match=rf"^raw/{name}: cannot be read \(Is a directory\)"):
        transform.main()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_not_blamed_on_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare([INSIDE] * 10)
    write = pl.DataFrame.write_parquet
    monkeypatch.setattr(
        pl.DataFrame, "write_parquet", lambda table, path, **k: write(table, "/dev/full", **k)
    )
    with pytest.raises(CapetownError, match=r"^hexes/: cannot be written .*No space left"):
        transform.main()


def test_no_room_for_the_requests_is_not_blamed_on_the_input() -> None:
    make_bucket(Path("raw"), requests=5_000, tiles=0, seed=1)
    set_params()
    done = subprocess.run(
        [sys.executable, "-m", "stages.transform"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, capture_output=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "error: hexes/: cannot be written (parquet" in done.stderr
    assert done.stderr.endswith("File too large (os error 27))\n")
    assert not Path("hexes").exists()
    assert list(Path("logs").iterdir()) == [Path("logs/transform.log")]


def test_the_outputs_are_replaced_whole() -> None:
    prepare([INSIDE], csv=True)
    transform.main()
    set_params(csv=False)
    transform.main()
    assert not Path("hexes/sr_hex.csv.gz").exists()
    assert len(CELLS) == pl.read_parquet("hexes/counts.parquet").height


@pytest.mark.parametrize("spoilt", ["logs", "logs/transform.log"])
def test_a_log_that_cannot_be_written_is_one_line(spoilt: str) -> None:
    prepare([INSIDE])
    if spoilt == "logs":
        Path("logs").rmdir()
        Path("logs").touch()
    else:
        Path(spoilt).mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "stages.transform"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: logs/transform.log: cannot be written (")
    assert done.stderr.count("\n") == 1
