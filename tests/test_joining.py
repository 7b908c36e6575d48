"""`capetown join`: one export in a folder of its own, completely or not at all."""

import gzip
from pathlib import Path

import polars as pl
import pytest
import yaml
from PIL import Image

from capetown.cli import main
from tests import ROOT
from tests.tables import HEADER, INSIDE, INSIDE_CELL, OUTSIDE, request, text, write_hexagons
from tests.workbooks import read_sheets

FILES = {"requests.xlsx", "requests.parquet", "counts.parquet", "rejects.parquet", "map.png",
         "report.html"}  # fmt: skip
OUT, EXPORT, HEXAGONS = (
    Path("may"),
    Path("may.csv"),
    Path("raw/requests/city-hex-polygons-8.geojson"),
)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["transform"] |= {"missing_threshold": 0.5, "reference": "answers.csv.gz"}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    HEXAGONS.parent.mkdir(parents=True)
    write_hexagons(HEXAGONS)
    export([INSIDE, INSIDE, ("", "")])


def export(points: list[tuple[str, str]]) -> None:
    rows = [request(f"{n:012}", at, reference_number="=1") for n, at in enumerate(points, 1)]
    EXPORT.write_text(text(rows))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The error of a command that fails."""
    with pytest.raises(SystemExit) as error:
        main(["join", *arguments])
    capsys.readouterr()
    return str(error.value)


def test_an_export_has_a_workbook_tables_map_and_report(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["join", str(EXPORT), "--out", str(OUT)])
    assert capsys.readouterr().out.splitlines()[-9:] == [
        "verdict on may/:",
        "           3 requests",
        "           2 joined to a hexagon",
        "           1 without coordinates",
        "           0 outside the hexagons",
        "           0 with coordinates that do not exist",
        "           0 rejected: the last two, or a time or number that cannot be read",
        "every threshold of params.yaml held: 0.0000% of the requests with coordinates failed "
        "(transform.error_threshold is 0.1000%)",
        "open may/requests.xlsx",
    ]
    assert {path.name for path in OUT.iterdir()} == FILES
    sheets = read_sheets(OUT / "requests.xlsx")
    assert list(sheets) == ["requests", "counts", "rejects"]
    header, first, *_, last = sheets["requests"]
    created = "creation_timestamp (Africa/Johannesburg)"
    assert header[:3] == ["notification_number", "reference_number", created]
    assert first[:2] == ["000000000001", "=1"]
    assert (first[-2:], last[-2:]) == ([INSIDE_CELL, "joined"], ["0", "missing_coordinates"])
    assert [row[:2] for row in sheets["counts"][:2]] == [["index", "requests"], [INSIDE_CELL, 2]]
    assert pl.read_parquet(OUT / "requests.parquet")["join_status"].to_list()[1:] == [
        "joined", "missing_coordinates",
    ]  # fmt: skip
    with Image.open(OUT / "map.png") as image:
        assert image.width == 1400
    page = (OUT / "report.html").read_text()
    assert "The requests can be used as they are" in page
    for pipeline in ("dvc repro", "make repro", "hexes/", "raw/", "pool finder"):
        assert pipeline not in page.split("</main>")[0].rsplit("<main", 1)[1]
    assert set(Path().iterdir()) == {Path("params.yaml"), Path("raw"), EXPORT, OUT}
    # The report names the export. All else is the same bytes.
    made = {path.name: path.read_bytes() for path in OUT.iterdir()}
    moved = HEXAGONS.rename("cells.geojson")
    Path("may.csv.gz").write_bytes(gzip.compress(EXPORT.read_bytes()))
    main(["join", "may.csv.gz", "--hexagons", str(moved), "--out", str(OUT)])
    assert [name for name in made if made[name] != (OUT / name).read_bytes()] == ["report.html"]


def test_an_exceeded_threshold_fails_and_keeps_the_outputs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    export([INSIDE, OUTSIDE])
    said = refusal(capsys, str(EXPORT), "--out", str(OUT))
    assert "50.0000% of the requests with coordinates failed to join" in said
    assert said.endswith("look at the sheet `rejects` of may/requests.xlsx")
    assert {path.name for path in OUT.iterdir()} == FILES
    assert read_sheets(OUT / "requests.xlsx")["rejects"][1][0] == "000000000002"
    page = (OUT / "report.html").read_text()
    assert "should not be used before it is known why" in page
    assert "can be used as they are" not in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["june.csv", "--out", "may"], "june.csv: no such file; name the export"),
        ([str(EXPORT), "--hexagons", "8.geojson", "--out", "may"], "--hexagons"),
        ([str(EXPORT), "--out", "deep/may"], "deep/may/: cannot be written"),
        ([str(EXPORT), "--out", str(EXPORT)], "may.csv: is not a folder"),
        ([str(EXPORT), "--out", "raw"], "raw: has 'requests' in it"),
        ([str(EXPORT), "--out", "."], "has 'hexes' in it"),
        # Files of `transform`, whose names are also those of `join`.
        ([str(EXPORT), "--out", "hexes"], "hexes: has 'counts.parquet' in it"),
    ],
)
def test_nothing_else_is_overwritten(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    Path("hexes").mkdir()
    Path("hexes/counts.parquet").touch()
    before = sorted(Path().rglob("*"))
    assert said in refusal(capsys, *arguments)
    assert sorted(Path().rglob("*")) == before


def test_a_failed_run_leaves_the_folder_of_the_last_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["join", str(EXPORT), "--out", str(OUT)])
    before = {path: path.read_bytes() for path in OUT.iterdir()}
    EXPORT.write_text(",".join(HEADER) + "\n1,2\n")
    assert "values for 15 columns" in refusal(capsys, str(EXPORT), "--out", str(OUT))
    assert {path: path.read_bytes() for path in OUT.iterdir()} == before
    assert set(Path().iterdir()) == {Path("params.yaml"), Path("raw"), EXPORT, OUT}
    (OUT / "notes.txt").touch()
    assert "has 'notes.txt' in it" in refusal(capsys, str(EXPORT), "--out", str(OUT))


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["join", "--help"])
    assert capsys.readouterr().out.count("\n  capetown join ") == 2
