"""How a table is written: read where it is plain, else refused with what it looks like."""

import bz2
import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path

import polars as pl
import pytest

from capetown.city import REQUEST_COLUMNS
from capetown.errors import CapetownError
from capetown.requests.csv_header import read_layout
from capetown.requests.reader import NAMES, Table
from tests.tables import HEADER, request, text

PLAIN = text([request("01"), request("02", code="Ümlaut")])
PLAIN_ROWS = [list(request("01").values()), list(request("02", code="Ümlaut").values())]
LINES = PLAIN.splitlines()


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("sr.csv", content)
    return file.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content, mtime=0))
    return path


def rows(path: Path) -> tuple[list[list[str]], list[str]]:
    """A table's rows and what was said of it."""
    table = Table(path, NAMES)
    frames = [frame.select(NAMES) for frame in table.frames(set())]
    found = [[value or "" for value in row] for frame in frames for row in frame.iter_rows()]
    return found, [note.removeprefix(f"{path}: ") for note in table.notes()]


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        (b"\xef\xbb\xbf" + PLAIN.encode(), ["begins with a byte order mark, skipped"]),
        (PLAIN.encode("utf-16"), ["in UTF-16, read as such"]),
        (b"\xfe\xff" + PLAIN.encode("utf-16-be"), ["in UTF-16, read as such"]),
        (PLAIN.replace(",", ";").encode(), ["columns separated by ';', read as such"]),
        (PLAIN.replace(",", "\t").encode(), ["columns separated by a tab, read as such"]),
        ((PLAIN + "\n\n\r\n").encode(), ["3 blank lines, skipped"]),
        ((PLAIN + "," * 14 + "\n").encode(), ["1 rows of empty values, skipped"]),
        ((PLAIN + PLAIN.split("\n")[0] + "\n").encode(),
         ["1 rows that repeat the header, skipped"]),
        (PLAIN.replace("\n", "\r\n").encode(), []),
        (PLAIN.rstrip("\n").encode(), []),
        (PLAIN.replace("\n", ',"a ""b"""\n').replace('"a ""b"""', '"wa\nrd"', 1).encode(), []),
    ],
    ids=["BOM", "UTF-16", "UTF-16 BE", "semicolon", "tab", "blank lines", "empty rows",
         "header again", "CRLF", "no line end", "a header over two lines"],
)  # fmt: skip
def test_what_is_plain_is_read_and_said(tmp_path: Path, content: bytes, notes: list[str]) -> None:
    assert rows(write(tmp_path / "sr.csv.gz", content)) == (PLAIN_ROWS, notes)


def test_gzip_may_come_in_parts_and_end_in_zeros(tmp_path: Path) -> None:
    path = tmp_path / "sr.csv.gz"
    half = len(PLAIN) // 2
    parts = [PLAIN[:half].encode(), PLAIN[half:].encode()]
    path.write_bytes(b"".join(map(gzip.compress, parts)) + b"\0" * 1_000)
    assert rows(path) == (PLAIN_ROWS, [])


def test_a_column_over_two_lines_keeps_its_name(tmp_path: Path) -> None:
    content = PLAIN.replace("\n", ',"wa\nrd"\n', 1).replace("522488\n", "522488,7\n")
    [frame] = Table(write(tmp_path / "sr.csv.gz", content.encode()), NAMES).frames(set())
    assert frame.columns == [*HEADER, "wa\nrd"]
    assert frame["wa\nrd"].to_list() == ["7", "7"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(PLAIN.encode()), "a zip archive or an Excel workbook, not a gzipped table; gzip"),
        (bz2.compress(PLAIN.encode()), "compressed with bzip2, not a gzipped table"),
        (lzma.compress(PLAIN.encode()), "compressed with xz, not a gzipped table"),
        (b"\x28\xb5\x2f\xfd" + b"\0" * 9, "compressed with zstd, not a gzipped table"),
        (b"\n<!DOCTYPE html><title>403</title>", "a web page, perhaps an error or a login, not a"),
        (PLAIN.encode(), "not a gzip file (it starts with b'notifica'); compress it with gzip"),
        (gzip.compress(PLAIN.encode()) + b"more", "damaged gzip after line 3 ("),
    ],
)  # fmt: skip
def test_what_is_not_gzip(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "sr.csv.gz"
    path.write_bytes(content)
    with pytest.raises(CapetownError) as error:
        rows(path)
    assert str(error.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(PLAIN.encode()), "compressed with gzip twice; decompress it once"),
        (zipped(PLAIN.encode()), "a zip archive or an Excel workbook, gzipped; gzip the table"),
        (b"<html><body>Sign in</body></html>", "a web page or XML, gzipped, not a table; fetch"),
        (json.dumps([request("01")]).encode(), "JSON, gzipped, not a table; save it as CSV"),
        (PLAIN.encode("utf-16-le"), "in UTF-16 without a byte order mark, it seems"),
        (PLAIN.encode("utf-32"), "in UTF-32; save the file as UTF-8"),
        (PLAIN.encode("utf-16")[:-1], "damaged UTF-16 (truncated data); save it as UTF-8"),
        (b"\n" + PLAIN.encode(), "a blank line comes before the header; remove it"),
        (b"sep=;\n" + PLAIN.replace(",", ";").encode(), "its first line is 'sep=;', a hint"),
        (b"Service requests 2020\n\n" + PLAIN.encode(),
         "the header is in line 3; remove what stands above it"),
        (PLAIN.replace(",", "|").encode(), "columns separated by '|'; separate them by commas"),
        (PLAIN.replace("\n", ",Straße\n", 1).encode("latin-1"), "the header is not UTF-8 (b'noti"),
        (PLAIN.replace("code,", "code\r,", 1).replace("\n", "\r").encode(), "its lines end in CR"),
        ("\n".join(LINES[1:]).encode(),
         "column 'notification_number' is missing from the header; is its first line the header, "
         "in CSV? found: 01, , 2020-10-07 06:55:18+02:00"),
        (PLAIN.replace("creation_timestamp", '"Creation\ntimestamp"').encode(),
         "column 'creation_timestamp' is missing from the header; rename its column "
         "'Creation\\ntimestamp'; found: notification_number, reference_number"),
        (PLAIN.replace("latitude", "lat").encode(),
         "column 'latitude' is missing from the header; found: notification_number, reference"),
        (PLAIN.replace("notification", '"notification', 1).encode(), "the header does not end"),
        (PLAIN.replace('cause_code,', 'cause"code,', 1).encode(), "the header does not end"),
        (b"\xff\xd8\xff\xe0 a picture", "the header is not UTF-8 (b'\\xff\\xd8\\xff\\xe0 a pic"),
    ],
)  # fmt: skip
def test_what_is_no_table(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path / "sr.csv.gz", content)
    with pytest.raises(CapetownError) as error:
        rows(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


def test_a_very_wide_header_is_shown_in_part(tmp_path: Path) -> None:
    wide = ",".join(f"column {n}" for n in range(5_000)) + "\n"
    with pytest.raises(CapetownError) as error:
        read_layout(write(tmp_path / "sr.csv.gz", wide.encode()), ["code"])
    assert len(str(error.value)) < 600


def test_every_column_of_the_city_is_needed() -> None:
    assert tuple(column.name for column in REQUEST_COLUMNS) == NAMES == tuple(HEADER)
    assert pl.Series(NAMES).is_unique().all()
