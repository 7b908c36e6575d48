"""Workbooks: texts stay texts, times are local dates, and nothing is left out silently."""

import zipfile
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from capetown import workbook
from capetown.workbook import write_workbook
from tests.workbooks import read_sheets

# What Excel, and the library that writes it, would take for something else.
TEXTS = [
    "001015950287", "=1+1", "88e1", "{=1}", "https://a.b", "<r><t>&</r>", "<r></r>", " a ", "a\nb",
    "", None, "é😀",
]  # fmt: skip


def test_values_are_what_they_were(tmp_path: Path) -> None:
    zone = ZoneInfo("Africa/Johannesburg")
    times = [datetime(2020, 10, 7, 6, 55, 18, tzinfo=zone), datetime(1899, 1, 2, tzinfo=zone), None]
    frame = pl.DataFrame(
        {
            "=name": TEXTS,
            "created": pl.Series(times + [None] * 9, dtype=pl.Datetime("us", str(zone))),
            "day": [date(2020, 10, 7), *[None] * 11],
            "north": [-33.872839, float("nan"), float("-inf"), *[None] * 9],
            "kind": pl.Series(["=2", *[None] * 11], dtype=pl.Categorical()),
            "count": range(12),
        }
    )
    path = tmp_path / "a.xlsx"
    write_workbook(path, {"rows": frame, "none": frame.clear(), "narrow": pl.DataFrame()})
    sheets = read_sheets(path)
    assert list(sheets) == ["rows", "none", "narrow"]
    header, *rows = sheets["rows"]
    names = ["=name", "created (Africa/Johannesburg)", "day", "north", "kind", "count"]
    assert header == names
    assert sheets["none"] == [names]
    assert [row[0] for row in rows] == TEXTS
    assert [row[5] for row in rows] == list(range(12))
    # 7 October 2020 is day 44,111 of Excel.
    seconds = 6 * 3600 + 55 * 60 + 18
    assert rows[0][1] == pytest.approx(44_111 + seconds / 86_400, abs=1e-9)
    assert [row[1] for row in rows[1:3]] == ["1899-01-02 00:00:00", None]
    assert rows[0][2] == 44_111
    assert [row[3] for row in rows[:4]] == [-33.872839, "NaN", "-inf", None]
    assert rows[0][4] == "=2"
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_tables_give_the_same_bytes(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": ["1"], "at": [datetime(2020, 1, 1, tzinfo=UTC)]})
    for name in "ab":
        write_workbook(tmp_path / name, {"rows": frame})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with zipfile.ZipFile(tmp_path / "a") as file:
        assert file.read("docProps/core.xml").count(b"2000-01-01T00:00:00Z") == 2


def test_what_exceeds_a_sheet_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workbook, "MAX_ROWS", 3)
    long = "<r>" + "x" * 32_761 + "</r>"
    frames = {"few": pl.DataFrame({"a": ["x" * 32_768, long, long[:-4]]}),
              "many": pl.DataFrame({"a": [1] * 4})}  # fmt: skip
    write_workbook(tmp_path / "a.xlsx", frames, ", and many.csv")
    assert read_sheets(tmp_path / "a.xlsx") == {
        "few": [["a"], ["x" * 32_767], [long[:32_767]], [long[:-4]]]
    }
    assert [message.split("; ")[1] for message in caplog.messages] == [
        "few.parquet has them", "many.parquet has them, and many.csv",
    ]  # fmt: skip
    assert "2 texts of the sheet few" in caplog.messages[0]
    assert "4 rows are more than Excel's 3" in caplog.messages[1]
