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
from capetown.sample import make_bucket
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

CELL = {INSIDE: INSIDE_CELL, OUTSIDE: OUTSIDE_CELL, ("", ""): "0"}


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").mkdir()
    return tmp_path


def prepare(places: list[tuple[str, str]], **params: Any) -> None:
    """Tables of a request at each place, the City's answer to them, and params."""
    raw = Path("raw")
    raw.mkdir(exist_ok=True)
    rows = [request(f"{n:012}", place) for n, place in enumerate(places, 1)]
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
    set_params(csv=True, error_threshold=0.01)
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
    assert statuses == {
        "joined": found["joined"],
        "missing_coordinates": found["missing_coordinates"],
        "invalid_coordinates": found["invalid_coordinates"],
        "outside_city": found["outside_city"],
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


def test_metrics_of_a_table_counted_by_hand() -> None:
    prepare([INSIDE] * 5 + [("", "")] * 3 + [OUTSIDE, ("x", "18.5")], error_threshold=0.3,
            missing_threshold=0.3, reference_threshold=0.1)  # fmt: skip
    transform.main()
    found = metrics()
    assert {key: found[key] for key in list(found)[:7]} == {
        "requests": 10,
        "joined": 5,
        "missing_coordinates": 3,
        "invalid_coordinates": 1,
        "outside_city": 1,
        "failure_rate": 0.28571429,
        "missing_rate": 0.3,
    }
    assert found["reference"]["mismatched"] == 1
    assert found["quality"]["reasons"] == {"not a number": 1, "unknown": 1}
    rejects = pl.read_parquet("hexes/rejects.parquet")
    assert rejects.columns == [
        *HEADER, "h3_level8_index", "join_status", "reason", "metres_to_nearest_hexagon",
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
         "0.1000%), look at logs/transform-rejects.parquet. hexes/ is left as it was."),
        ([INSIDE] * 90 + [INSIDE[::-1]] * 10, {"reference": None}, "10.0000% of the requests with"),
        ([INSIDE] * 7 + [("", "")] * 3, {},
         "30.0000% of the requests have no coordinates (transform.missing_threshold is "
         "25.0000%), look at raw/sr.csv.gz. hexes/"),
        ([INSIDE] * 9 + [("x", "y")], {"error_threshold": 0.1},
         "10.0000% of the requests disagree with the reference (transform.reference_threshold is "
         "0.0000%), look at logs/transform-mismatches.parquet. hexes/"),
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
        "verdict: every threshold holds; the join can be trusted",
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
    assert "error: raw/sr.csv.gz: the file is empty; fetch it again" in done.stderr
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
        with pytest.raises(CapetownError, match="is left as it was"):
            transform.main()
    assert hexes() == good


def test_what_a_killed_run_left_is_removed() -> None:
    prepare([INSIDE] * 10)
    left = Path("logs/hexes-killed/made")
    left.mkdir(parents=True)
    transform.main()
    assert not list(Path("logs").glob("hexes-*/"))


@pytest.mark.parametrize("name", ["sr.csv.gz", "city-hex-polygons-8.geojson", "sr_hex.csv.gz"])
def test_an_input_that_cannot_be_opened_is_not_called_damaged(name: str) -> None:
    prepare([INSIDE] * 10)
    (Path("raw") / name).unlink()
    (Path("raw") / name).mkdir()
    with pytest.raises(CapetownError, match=rf"^raw/{name}: cannot be read \(Is a directory\)"):
        transform.main()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_not_blamed_on_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare([INSIDE] * 10)
    write = pl.DataFrame.write_parquet
    monkeypatch.setattr(
        pl.DataFrame, "write_parquet", lambda table, path, **k: write(table, "/dev/full", **k)
    )
    with pytest.raises(CapetownError, match=r"^hexes/ cannot be written .*No space left on device"):
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
    assert "error: raw/sr.csv.gz: every row can be read, but polars failed: " in done.stderr
    assert done.stderr.endswith("File too large (os error 27); is the disk full?\n")
    assert not Path("hexes").exists()
    assert list(Path("logs").iterdir()) == [Path("logs/transform.log")]


def test_the_outputs_are_replaced_whole() -> None:
    prepare([INSIDE], csv=True)
    transform.main()
    set_params(csv=False)
    transform.main()
    assert not Path("hexes/sr_hex.csv.gz").exists()
    assert len(CELLS) == pl.read_parquet("hexes/counts.parquet").height
