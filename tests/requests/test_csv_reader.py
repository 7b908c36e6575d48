"""CSV is read like with Python's strict csv module, or refused with its row."""

import csv
import gzip
import io
import json
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capetown.city import REQUEST_ID
from capetown.errors import CapetownError
from capetown.requests import csv_reader
from capetown.requests.reader import NAMES, RequestTable
from tests.tables import refused, request, write_gzip
from tests.tables import text as csv_text

HEADER = [REQUEST_ID, "code", "cause"]
# Pieces of syntax, lookalikes and plain text.
PIECES = ['"', '""', ",", "\n", "\r\n", "\r", "a", "é", " ", "\ufeff", '","', '"\n"', "NULL"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=4).map("".join)
ANY = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
BLOCKS = st.sampled_from([1, 2, 3, 7, 1 << 20])
PLAIN = csv_text([request("01"), request("02", code="Ümlaut")])
PLAIN_ROWS = [list(request("01").values()), list(request("02", code="Ümlaut").values())]


def read(path: Path, text: str, block: int = 1 << 20, header: str = "") -> list[list[str]]:
    """Write a table, and return its rows, read in blocks of this many bytes."""
    content = (header or ",".join(HEADER) + "\n") + text
    path.write_bytes(gzip.compress(content.encode(), compresslevel=1))
    with patch("capetown.requests.csv_reader.BLOCK", block):
        table = RequestTable(path, HEADER)
        found = [list(row) for frame in table.frames({"cause"}) for row in frame.iter_rows()]
    assert table.requests == len(found)
    return [[value or "" for value in row] for row in found]


def read_city(path: Path) -> tuple[list[list[str]], list[str]]:
    """Return the rows of a table with the City's columns, and its notes."""
    table = RequestTable(path, NAMES)
    frames = [frame.select(NAMES) for frame in table.frames()]
    found = [[value or "" for value in row] for frame in frames for row in frame.iter_rows()]
    return found, [note.removeprefix(f"{path}: ") for note in table.notes()]


def oracle(text: str, separator: str = ",") -> list[list[str]] | None:
    """Return the rows that the csv module reads and that are not empty, or None if it refuses."""
    try:
        read = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error:
        return None
    if any(row and len(row) != len(HEADER) for row in read):
        return None
    return [row for row in read if any(row)]


@st.composite
def damaged_tables(draw: st.DrawFn) -> str:
    """A table that the csv module wrote, with a few pieces inserted."""
    row = st.lists(st.sampled_from(PIECES), min_size=3, max_size=3)
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(draw(st.lists(row, min_size=2)))
    text = file.getvalue()
    for piece in draw(st.lists(st.sampled_from(PIECES), min_size=1, max_size=3)):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + piece + text[at:]
    return text


@given(text=ANY | damaged_tables(), block=BLOCKS)
@settings(max_examples=900)
def test_any_text_is_refused_or_read_like_the_csv_module(
    tmp_path_factory: pytest.TempPathFactory, text: str, block: int
) -> None:
    try:
        found = read(tmp_path_factory.getbasetemp() / "any.csv.gz", text, block)
    except CapetownError:
        return
    assert found == oracle(text)


@given(
    table=st.lists(st.lists(TEXTS, min_size=3, max_size=3), max_size=6),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    separator=st.sampled_from([",", ";", "\t"]),
    block=BLOCKS,
)
@settings(max_examples=300)
def test_all_that_the_csv_module_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    table: list[list[str]], quoting: int, end: str, separator: str, block: int,
) -> None:  # fmt: skip
    table = [[value.lstrip("\ufeff") if n == 0 else value for n, value in enumerate(row)]
             for row in table]  # fmt: skip
    if any("\r" in value for row in table for value in row):
        quoting = csv.QUOTE_ALL  # the csv module writes a lone CR without quotes
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    writer.writerows(table)
    header = separator.join(HEADER) + end
    found = read(tmp_path_factory.getbasetemp() / "own.csv.gz", file.getvalue(), block, header)
    assert found == [row for row in table if any(row)]


@pytest.mark.parametrize(
    ("text", "row", "what", "value"),
    [
        ('1,"WATER,x\n2,y,x\n3,"WATER,x\n', 1, "stray quotation mark", "WATER"),
        ('1,"Burst" Pipe,x\n', 1, "stray quotation mark", '"Burst" Pipe'),
        ('1,a,x\n2,5" pipe,x\n', 2, "stray quotation mark", '5" pipe'),
        ('1,a,x\n2, "b",x\n', 2, "stray quotation mark", ' "b"'),
        ('1,a,x\n\n2,"b,x\n3,c,x\n', 2, "not closed", '"b'),
        ('1,"a""b"c,x\n', 1, "stray quotation mark", '"a""b"c'),
        ("1,a\rb,x\n", 1, "CR without LF", r"a\rb"),
        ("1,a,x\n\ufeff2,b,x\n", 2, "byte order mark", "2"),
        ("1,a,x\n2,b\n3,c,x,y\n", 2, "2 values for 3 columns", "b"),
        ("1,a,x\n2,b\n3,c,x,y\n4,d,x\n", 2, "2 values for 3 columns", "b"),
        ("1,a,x\n2,b,c,d\n", 2, "4 values for 3 columns", "d"),
        ('1,"a,\n",x\n2,"b\n,",x\n3,5",x\n', 3, "stray quotation mark", '5"'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("block", [1, 8, 1 << 20])
def test_a_row_that_is_not_strict_csv(
    tmp_path: Path, text: str, row: int, what: str, value: str, block: int
) -> None:
    path = tmp_path / "sr.csv.gz"
    with refused(path, f"row {row}", what) as error:
        read(path, text, block)
    # A value in two blocks is not shown completely.
    assert value in error.value.what or block < len(text)


def test_an_open_quotation_mark_is_found_before_memory_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_reader, "MAX_ROW", 1000)
    path = tmp_path / "sr.csv.gz"
    with refused(path, "row 2", "not closed"):
        read(path, '1,a,x\n2,"b,x\n' + "3,c,x\n" * 10_000 + '",\n', block=50)


def test_oddities_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "sr.csv.gz"
    text = '1,"a\nb",x\n\n2,b,x\r\n' + f"{','.join(HEADER)}\n" + '3,"c\n\n\nd","x\n"\n,,\n\r\n\n'
    assert [row[0] for row in read(path, text)] == ["1", "2", "3"]
    table = RequestTable(path, HEADER)
    list(table.frames())
    assert table.notes() == [
        f"{path}: 3 blank lines, skipped",
        f"{path}: 5 line breaks in quotes",
        f"{path}: 1 rows that repeat the header, skipped",
        f"{path}: 1 rows of empty values, skipped",
    ]


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        (b"\xef\xbb\xbf" + PLAIN.encode(), ["a byte order mark, skipped"]),
        (PLAIN.encode("utf-16"), ["text in UTF-16"]),
        (b"\xfe\xff" + PLAIN.encode("utf-16-be"), ["text in UTF-16"]),
        (PLAIN.replace(",", ";").encode(), ["values separated by semicolons"]),
        (PLAIN.replace(",", "\t").encode(), ["values separated by tabs"]),
        (PLAIN.replace("\n", "\r\n").encode(), []),
        (PLAIN.rstrip("\n").encode(), []),
        (PLAIN.replace("\n", ',"a ""b"""\n').replace('"a ""b"""', '"wa\nrd"', 1).encode(),
         ["1 line breaks in quotes"]),
    ],
)  # fmt: skip
def test_unambiguous_variants_are_read_and_noted(
    tmp_path: Path, content: bytes, notes: list[str]
) -> None:
    assert read_city(write_gzip(tmp_path / "sr.csv.gz", content)) == (PLAIN_ROWS, notes)
    (tmp_path / "sr.csv").write_bytes(content)
    assert read_city(tmp_path / "sr.csv") == (PLAIN_ROWS, notes)
    zipped = write_gzip(tmp_path / "sr.csv", content)
    assert read_city(zipped) == (PLAIN_ROWS, ["gzip, which its name does not say", *notes])


def test_gzip_may_have_several_members_and_end_in_zeros(tmp_path: Path) -> None:
    path = tmp_path / "sr.csv.gz"
    half = len(PLAIN) // 2
    parts = [PLAIN[:half].encode(), PLAIN[half:].encode()]
    path.write_bytes(b"".join(map(gzip.compress, parts)) + b"\0" * 1_000)
    assert read_city(path) == (PLAIN_ROWS, [])


ZIP = b"PK\x03\x04 and more"
LONG = csv_text([request(f"{n:05}") for n in range(3_000)])
FILES = [
    (b"", "", "empty"),
    (ZIP, "", "not gzip but a zip archive or an Excel workbook"),
    (b"BZh9 and more", "", "not gzip but a bzip2 file"),
    (b"\n<!DOCTYPE html><title>403</title>", "", "not gzip but a web page"),
    (PLAIN.encode(), "", "not gzip but a file that starts with b'notifica'"),
    (gzip.compress(PLAIN.encode(), mtime=0) + b"more", "", "damaged gzip"),
    (gzip.compress(LONG.encode(), mtime=0)[:-4_000], "", "damaged gzip"),
    (gzip.compress(LONG.encode(), mtime=0)[:-4], "", "damaged gzip"),
    (gzip.compress(PLAIN.encode(), mtime=0)[:8], "", "damaged gzip"),
]
TEXTS_IN_GZIP = [
        (b"", "", "empty"),
        (gzip.compress(PLAIN.encode(), mtime=0), "", "contains a gzip file"),
        (ZIP, "", "contains a zip archive"),
        (b"<html><body>Sign in</body></html>", "", "contains a web page"),
        (json.dumps([request("01")]).encode(), "", "contains JSON"),
        (PLAIN.encode("utf-16-le"), "", "UTF-16 without a mark"),
        (PLAIN.encode("utf-32"), "", "is missing from the header"),
        (PLAIN.encode("utf-16")[:-1], "", "damaged UTF-16"),
        (b"\n" + PLAIN.encode(), "", "the header is in line 2"),
        (b"Service requests 2020\n\n" + PLAIN.encode(), "", "the header is in line 3"),
        (PLAIN.replace("\n", ",Maß\n", 1).encode("latin-1"), "column 'Ma\ufffd'", "not UTF-8"),
        (PLAIN.replace("\n", "\r").encode(), "header", "CR without LF"),
        (PLAIN.split("\n", 1)[1].encode(), "", "'notification_number' is missing"),
        (PLAIN.replace("notification", '"notification', 1).encode(), "", "is missing"),
        (PLAIN.replace('cause_code,', 'cause"code,', 1).encode(), "", "is missing"),
        (b"\xff\xd8\xff\xe0 a picture", "", "is missing"),
        (PLAIN.replace("\n", ",*\n").encode(), "column '*'", "pattern"),
        (PLAIN.replace("\n", ",^.*$\n").encode(), "column '^.*$'", "pattern"),
        (PLAIN.replace("\n", ",code\n").encode(), "column 'code'", "twice"),
        (PLAIN.replace("Ü", "U").replace("Uml", "\xdcml").encode("latin-1"), "row 2", "not UTF-8"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [*FILES, *((gzip.compress(text, mtime=0), *facts) for text, *facts in TEXTS_IN_GZIP)],
)
def test_files_without_a_table_are_refused(
    tmp_path: Path, content: bytes, where: str, what: str
) -> None:
    path = tmp_path / "sr.csv.gz"
    path.write_bytes(content)
    with refused(path, where, what):
        read_city(path)


def test_an_excel_workbook_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sr.csv"
    path.write_bytes(ZIP)
    with refused(path, "", "contains a zip archive or an Excel workbook"):
        read_city(path)


def test_a_similar_column_is_suggested(tmp_path: Path) -> None:
    path = write_gzip(tmp_path / "sr.csv.gz", PLAIN.replace("latitude", "LATITUDE "))
    with pytest.raises(CapetownError) as error:
        read_city(path)
    assert error.value.fix == "rename column 'LATITUDE '"
    with pytest.raises(CapetownError) as error:
        read_city(write_gzip(path, PLAIN.replace(",", "|")))
    assert "commas, semicolons or tabs" in error.value.fix


def test_a_very_wide_header_is_shortened(tmp_path: Path) -> None:
    wide = ",".join(f"column {n}" for n in range(5_000)) + "\n"
    with pytest.raises(CapetownError) as error:
        read_city(write_gzip(tmp_path / "sr.csv.gz", wide))
    assert len(str(error.value)) < 600


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(
        CapetownError, match=r"no such file; see download.requests, and the names in city.py$"
    ):
        read_city(tmp_path / "sr.csv.gz")
    with pytest.raises(CapetownError, match=r"cannot be read \(Is a directory\)$"):
        read_city(tmp_path)


@pytest.mark.parametrize("name", ["sr.csv", "sr.csv.gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_the_first_bytes_of_a_table_have_its_first_whole_rows(
    tmp_path: Path, encoding: str, name: str
) -> None:
    rows = [[str(n), f"é\n{n * n:x}", "x"] for n in range(300)]
    text = "".join(f'{n},"{code}",{cause}\n' for n, code, cause in rows)
    pack = gzip.compress if name.endswith(".gz") else bytes
    packed = b"".join(pack(part) for part in (
        (",".join(HEADER) + "\n").encode(encoding),
        text.encode("utf-16-le" if encoding == "utf-16" else encoding),
    ))  # fmt: skip
    counts = []
    for size in range(90, len(packed), 97):
        path = tmp_path / name
        path.write_bytes(packed[:size])
        table = RequestTable(path, HEADER, part=True)
        found = [list(row) for frame in table.frames() for row in frame.iter_rows()]
        assert found == rows[: len(found)]
        counts.append(len(found))
    assert counts == sorted(counts)
    assert counts[0] < 100 < 250 < counts[-1]
    path.write_bytes(gzip.compress((",".join(HEADER) + '\n1,5" pipe,x\n').encode()))
    with refused(path, "row 1", "a stray quotation mark"):
        [*RequestTable(path, HEADER, part=True).frames()]


def test_the_wording_of_an_error(tmp_path: Path) -> None:
    path = tmp_path / "sr.csv.gz"
    with pytest.raises(CapetownError) as error:
        read(path, '1,a,x\n2,5" pipe,x\n')
    assert str(error.value) == (
        f"{path}: row 2: a stray quotation mark in '5\" pipe'; double or remove it"
    )
