"""Strict reading: Python's csv with strict=True as the oracle, and every odd table named."""

import csv
import gzip
import io
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capetown.city import REQUEST_ID
from capetown.errors import CapetownError
from capetown.requests import csv_strict
from capetown.requests.csv_strict import Seen, whole_rows
from capetown.requests.reader import Table

HEADER = [REQUEST_ID, "code", "cause"]
# Everything that could be mistaken for something else, and what is nothing special.
PIECES = ['"', '""', ",", "\n", "\r\n", "\r", "a", "é", " ", "\ufeff", '","', '"\n"', "NULL"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=4).map("".join)
BLOCKS = st.sampled_from([1, 2, 3, 7, 1 << 20])


def read(path: Path, text: str, block: int = 1 << 20, header: str = "") -> list[list[str]]:
    """A table's rows as `Table` reads them in blocks of so many bytes."""
    content = (header or ",".join(HEADER) + "\n") + text
    path.write_bytes(gzip.compress(content.encode(), compresslevel=1))
    with patch("capetown.requests.csv_header.BLOCK", block):
        table = Table(path, HEADER)
        found = [list(row) for frame in table.frames({"cause"}) for row in frame.iter_rows()]
    assert table.requests == len(found)
    return [[value or "" for value in row] for row in found]


def oracle(text: str, separator: str = ",") -> list[list[str]] | None:
    """The rows as csv reads them, without those that hold nothing; None where it refuses."""
    try:
        read = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error:
        return None
    if any(row and len(row) != len(HEADER) for row in read):
        return None
    return [row for row in read if any(row)]


@given(text=st.lists(st.sampled_from(PIECES), max_size=40).map("".join), block=BLOCKS)
@settings(max_examples=600, deadline=None)
def test_any_text_is_read_as_csv_reads_it_or_refused(
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
@settings(max_examples=300, deadline=None)
def test_what_csv_writes_is_read_and_not_refused(
    tmp_path_factory: pytest.TempPathFactory,
    table: list[list[str]], quoting: int, end: str, separator: str, block: int,
) -> None:  # fmt: skip
    table = [[value.lstrip("\ufeff") if n == 0 else value for n, value in enumerate(row)]
             for row in table]  # fmt: skip
    if any("\r" in value for row in table for value in row):
        quoting = csv.QUOTE_ALL  # csv forgets that a lone CR needs quotes
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    writer.writerows(table)
    header = separator.join(HEADER) + end
    found = read(tmp_path_factory.getbasetemp() / "own.csv.gz", file.getvalue(), block, header)
    assert found == [row for row in table if any(row)]


@given(
    table=st.lists(st.lists(st.sampled_from(PIECES), min_size=3, max_size=3), min_size=2),
    places=st.lists(
        st.tuples(st.integers(0, 500), st.sampled_from(PIECES)), min_size=1, max_size=3
    ),
    block=BLOCKS,
)
@settings(max_examples=300, deadline=None)
def test_a_good_table_with_something_put_anywhere(
    tmp_path_factory: pytest.TempPathFactory,
    table: list[list[str]], places: list[tuple[int, str]], block: int,
) -> None:  # fmt: skip
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(table)
    text = file.getvalue()
    for place, piece in places:
        at = place % (len(text) + 1)
        text = text[:at] + piece + text[at:]
    try:
        found = read(tmp_path_factory.getbasetemp() / "put.csv.gz", text, block)
    except CapetownError:
        return
    assert found == oracle(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('1,"WATER,x\n2,y,x\n3,"WATER,x\n',
         "row 1: a quotation mark opens '\"WATER,x\\n2,y,x\\n3,\"' and closes it before 'WATER,x'"),
        ('1,"Burst" Pipe,x\n',
         "row 1: a quotation mark opens '\"Burst\"' and closes it before ' Pipe,x'"),
        ('1,a,x\n2,5" pipe,x\n', "row 2: a quotation mark in '5\" pipe'; double or remove it"),
        ('1,a,x\n2, "b",x\n', "row 2: a quotation mark in ' \"b\"'; double or remove it"),
        ('1,a,x\n\n2,"b,x\n3,c,x\n', "row 2: is the quotation mark left open in '\"b,x\\n3,c,x'?"),
        ('1,"a""b"c,x\n', "row 1: a quotation mark opens '\"a\"\"b\"' and closes it before 'c,x'"),
        ("1,a\rb,x\n", "row 1: a CR without LF in 'a\\rb'; put the value in quotes"),
        ("1,a,x\n\ufeff2,b,x\n", "row 2: begins with a byte order mark; are these two files"),
        ("1,a,x\n2,b\n3,c,x,y\n", "row 2, from '2' to 'b': 2 values for 3 columns; complete"),
        ("1,a,x\n2,b,c,d\n", "row 2, from '2' to 'd': 4 values for 3 columns; quote values"),
        ('1,"a,\n",x\n2,"b\n,",x\n3,5",x\n', "row 3: a quotation mark in '5\"'"),
        ("1,a,x\nTotal,,2\n", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("block", [1, 8, 1 << 20])
def test_a_row_that_is_not_strict_csv(
    tmp_path: Path, text: str, message: str | None, block: int
) -> None:
    path = tmp_path / "sr.csv.gz"
    if message is None:
        assert read(path, text, block)[1] == ["Total", "", "2"]
        return
    with pytest.raises(CapetownError) as error:
        read(path, text, block)
    # A value that goes over two blocks is not shown whole.
    shown = message if block > len(text) else message.split("'")[0]
    assert str(error.value).startswith(f"{path}: {shown}")
    assert "\n" not in str(error.value)


def test_one_row_too_short_and_one_too_long_are_not_even(tmp_path: Path) -> None:
    with pytest.raises(CapetownError, match="row 2, from '2' to 'b': 2 values for 3 columns"):
        read(tmp_path / "sr.csv.gz", "1,a,x\n2,b\n3,c,x,y\n4,d,x\n")


def test_a_mark_left_open_in_a_large_table_is_found_before_memory_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(csv_strict, "LONGEST", 1000)
    blocks = iter([b"1,a,x\n", b'2,"b,x\n', *[b"3,c,x\n"] * 10_000])
    with pytest.raises(CapetownError, match="row 2: is the quotation mark left open in"):
        list(whole_rows(Path("sr.csv.gz"), blocks, 3, ",", Seen()))
    assert sum(1 for _ in blocks) > 9_000


def test_what_deserves_a_word_is_said(tmp_path: Path) -> None:
    path = tmp_path / "sr.csv.gz"
    text = '1,"a\nb",x\n\n2,b,x\r\n' + f"{','.join(HEADER)}\n" + '3,"c\n\n\nd","x\n"\n,,\n\r\n\n'
    assert [row[0] for row in read(path, text)] == ["1", "2", "3"]
    table = Table(path, HEADER)
    list(table.frames(set()))
    assert table.notes() == [
        f"{path}: 3 blank lines, skipped",
        f"{path}: 2 rows with line breaks in quotes; row 4 has 5 lines",
        f"{path}: 1 rows that repeat the header, skipped",
        f"{path}: 1 rows of empty values, skipped",
    ]
