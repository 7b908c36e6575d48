"""Reads CSV, gzipped or not, into frames of text, strictly by RFC 4180.

A quotation mark may only open and close a whole value, and is doubled inside it. A line ends in LF
or CRLF. Other text is refused with its row, because a lenient reader would lose rows silently.
Variants that cannot be misread are accepted and noted, such as UTF-16 or semicolons.
"""

import codecs
import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from isal import igzip, isal_zlib
from numpy.typing import NDArray

from capetown.errors import CapetownError, one_line

# Bytes that are read at a time, searched for the header, and searched at a time.
BLOCK, START, CACHED = 1 << 23, 1 << 20, 1 << 18
# Bytes per row. A longer row has an open quotation mark.
MAX_ROW = 1 << 26
# Records searched for the header, and characters of a value in a message.
MAX_RECORDS, MAX_SHOWN = 20, 80
SEPARATORS = (",", ";", "\t")
LF, CR, MARK = b'\n\r"'
GZIP = b"\x1f\x8b"
FORMATS = {
    GZIP: "a gzip file", b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\x28\xb5\x2f\xfd": "a zstd file", b"BZh": "a bzip2 file", b"\xfd7zXZ": "an xz file",
    b"PAR1": "a Parquet file", b"<": "a web page or XML", b"{": "JSON", b"[": "JSON",
}  # fmt: skip
NOTES = {
    "utf-8-sig": "a byte order mark, skipped", "utf-16": "text in UTF-16",
    ";": "values separated by semicolons", "\t": "values separated by tabs",
}  # fmt: skip
FETCH = "export or fetch it again"
SAVE = "save it as CSV in UTF-8, gzipped if its name ends in .gz"
NOT_FETCHED = "see download.requests, and the names in city.py"
csv.field_size_limit(2**31 - 1)

Bytes = NDArray[np.uint8]
Positions = NDArray[np.intp]


class CsvTable:
    """A CSV file, which is gzipped if its name ends in `.gz`.

    Attributes:
        path: the file.
        header: names of its columns.
        separator: of values.
    """

    def __init__(
        self, path: Path, required: Sequence[str], reserved: Collection[str] = (), *,
        part: bool = False,
    ) -> None:  # fmt: skip
        """Read the header, which must have `required` columns in any order, and no `reserved` one.

        Args:
            path: the file.
            required: names of columns.
            reserved: names that no column may have.
            part: the file has only the first bytes of a table. Its last row is left out.

        Raises:
            CapetownError: the file is not a CSV table, or its header does not fit.
        """
        self.path, self._part = path, part
        with _readable(path):
            self._encoding, start = _start(path, part)
            self._unsaid = _is_gzip(path) and path.suffix.lower() != ".gz"
        self.separator, self.header = _header(path, start, required)
        for position, name in enumerate(self.header):
            for wrong, what, fix in (
                ("\ufffd" in name, "is not UTF-8", SAVE),
                (re.fullmatch(r"\*|\^.*\$", name), "is a pattern for polars", "rename it"),
                (name in self.header[:position], "exists twice", "keep one"),
                (name in reserved, "would be overwritten", "rename it, or use the original table"),
            ):
                if wrong:
                    raise CapetownError(what, where=f"{path}: column {name!r}", fix=fix)
        self._blank = self._breaks = 0

    def frames(self, categories: Collection[str] = ()) -> Iterator[pl.DataFrame]:
        """Rows as text, some ten thousand per frame; empty values are null.

        Columns in `categories` are read as categories.

        Raises:
            CapetownError: the file is damaged or a row is not strict CSV in UTF-8.
        """
        types = {name: pl.Categorical() if name in categories else pl.String()
                 for name in self.header}  # fmt: skip
        first = 1
        for text, count in self._rows():
            where = f"{self.path}: rows {first} to {first + count - 1}"
            try:
                frame = pl.read_csv(
                    text, has_header=False, schema=types, null_values="", separator=self.separator
                )
            except pl.exceptions.PolarsError as error:
                try:
                    text.decode()
                except UnicodeDecodeError as found:
                    raise self._fault(text, found.start, first, "not UTF-8", SAVE) from error
                self._check_widths(text, first)
                raise CapetownError(f"cannot be read ({one_line(error)})", where=where) from error
            if len(frame) != count:
                what = f"{count:,} rows by their line ends, {len(frame):,} as polars reads them"
                raise CapetownError(what, where=where, fix="check the quotation marks there")
            yield frame
            first += count

    def notes(self) -> list[str]:
        """Notes on accepted oddities. Those about rows are complete once `frames` is exhausted."""
        counts = {"blank lines, skipped": self._blank, "line breaks in quotes": self._breaks}
        unsaid = "gzip, which its name does not say" if self._unsaid else None
        layout = [unsaid, NOTES.get(self._encoding), NOTES.get(self.separator)]
        return [*filter(None, layout), *(f"{n:,} {what}" for what, n in counts.items() if n)]

    def _rows(self) -> Iterator[tuple[bytes, int]]:
        """Whole rows below the header without blank lines, and their number."""
        self._blank = self._breaks = 0
        # One buffer for all blocks: the first access to new memory is slower than copying.
        separator, buffer, first = ord(self.separator), bytearray(), 0
        for block in chain(_blocks(self.path, self._encoding, BLOCK, self._part), [b""]):
            if not (buffer or block):
                break
            if not (block or self._part):
                buffer += b"\n"  # the last line may have no end
            buffer += block
            text = np.frombuffer(buffer, np.uint8)
            marks, breaks = _positions(text, MARK), _positions(text, LF)
            quoted = np.searchsorted(marks, breaks) % 2 == 1
            ends = breaks[~quoted]
            cut = int(ends[-1]) + 1 if len(ends) else 0
            self._check_syntax(buffer, marks, ends, first)
            rest = len(buffer) - cut
            if rest > MAX_ROW or (rest and not block and not self._part):
                at = int(marks[-1]) if len(marks) % 2 else cut
                what = "a quotation mark is not closed" if len(marks) % 2 else "no line end"
                raise self._fault(buffer, at, first, what, "close the value, or remove the mark")
            self._breaks += int(np.count_nonzero(breaks[quoted] < cut))
            length = np.diff(ends, prepend=-1) - 1
            blank = (length == 0) | ((length == 1) & (text[ends - 1] == CR))
            whole, count = bytes(memoryview(buffer)[:cut]), len(ends) - int(blank.sum())
            if blank.any():
                self._blank += int(blank.sum())
                starts = np.concatenate([[0], ends[:-1] + 1])[~blank].tolist()
                pairs = zip(starts, ends[~blank].tolist(), strict=True)
                whole = b"".join(whole[start : end + 1] for start, end in pairs)
            separators = np.count_nonzero(text[:cut] == separator)
            separators -= np.count_nonzero(_inside_quotes(text, marks[marks < cut]) == separator)
            if separators != count * (len(self.header) - 1):
                self._check_widths(whole, first)
            if first == 0 and count:
                whole, count, first = whole[ends[0] + 1 :], count - 1, 1
            if count:
                yield whole, count
            first += count
            del text, buffer[:cut]  # a buffer with a view cannot be resized

    def _check_syntax(
        self, buffer: bytearray, marks: Positions, ends: Positions, first: int
    ) -> None:
        """Refuse the first byte that RFC 4180 does not allow."""
        text = np.frombuffer(buffer, np.uint8)
        opening, closing = marks[0::2], marks[1::2]
        closing = closing[closing + 1 < len(buffer)]
        separator = ord(self.separator)
        # A mark next to a closing one is the second half of a double mark inside a value.
        opening = opening[(opening > 0) & ~np.isin(text[opening - 1], [separator, LF, MARK])]
        closing = closing[~np.isin(text[closing + 1], [separator, LF, CR, MARK])]
        faults = [(int(at), "a stray quotation mark", "double or remove it")
                  for at in (*opening[:1], *closing[:1])]  # fmt: skip
        if b"\r" in buffer:
            returns = np.flatnonzero(text[:-1] == CR)
            outside = np.searchsorted(marks, returns) % 2 == 0
            lone = returns[outside & (text[returns + 1] != LF)]
            faults += [(int(at), "a CR without LF", "end lines in LF") for at in lone[:1]]
        starts = np.concatenate([[0], ends[ends + 1 < len(buffer)] + 1])
        marked = starts[text[starts] == codecs.BOM_UTF8[0]]
        faults += [(at, "a byte order mark in the middle", "split the two files")
                   for at in marked.tolist() if buffer.startswith(codecs.BOM_UTF8, at)]  # fmt: skip
        if faults:
            at, what, fix = min(faults)
            raise self._fault(buffer, at, first, what, fix)

    def _check_widths(self, text: bytes, first: int) -> None:
        """Refuse the first row that has more or fewer values than the header."""
        lines = io.StringIO(text.decode(errors="backslashreplace"), newline="")
        rows = csv.reader(lines, delimiter=self.separator, strict=True)
        for number, values in enumerate(rows, first):
            if len(values) != len(self.header):
                more = len(values) > len(self.header)
                ends = f"from {_shown(values[0])} to {_shown(values[-1])}"
                raise CapetownError(
                    f"{len(values)} values for {len(self.header)} columns, {ends}",
                    where=f"{self.path}: row {number}",
                    fix="quote values that contain a separator" if more else "complete the row",
                )

    def _fault(
        self, text: bytes | bytearray, at: int, first: int, what: str, fix: str
    ) -> CapetownError:
        """An error about the value at a position. `first` is the number of the first row."""
        text = bytes(text)
        before = re.sub(rb'"[^"]*(?:"|\Z)', b"quoted", text[:at])
        number = first + sum(bool(line.strip(b"\r")) for line in before.split(b"\n")[:-1])
        start = max(text.rfind(mark, 0, at) for mark in (self.separator.encode(), b"\n")) + 1
        end = re.compile(rb"[\n%b]" % self.separator.encode()).search(text, at + 1)
        value = _shown(text[start : end.start() if end else None])
        where = f"{self.path}: {f'row {number}' if number else 'header'}"
        return CapetownError(f"{what} in {value}", where=where, fix=fix)


def _positions(text: Bytes, byte: int) -> Positions:
    """Positions of a byte, searched in pieces that stay in the processor's cache."""
    pieces = range(0, len(text), CACHED)
    return np.concatenate([np.flatnonzero(text[at : at + CACHED] == byte) + at for at in pieces])


def _inside_quotes(text: Bytes, marks: Positions) -> Bytes:
    """The bytes inside quotation marks, joined."""
    lengths = marks[1::2] - marks[0::2]
    at = np.arange(lengths.sum()) + np.repeat(marks[1::2] - lengths.cumsum(), lengths)
    inside: Bytes = text[at]
    return inside


def _shown(value: bytes | str) -> str:
    if isinstance(value, bytes):
        value = value.strip(b"\r\n").decode(errors="backslashreplace")
    return repr(value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]}…")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn errors of reading a file into a `CapetownError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise CapetownError("no such file", where=path, fix=NOT_FETCHED) from error
    except (EOFError, isal_zlib.error, igzip.BadGzipFile) as error:  # type: ignore[misc]
        raise CapetownError(f"damaged gzip ({error})", where=path, fix=FETCH) from error
    except UnicodeDecodeError as error:
        raise CapetownError(f"damaged UTF-16 ({error.reason})", where=path, fix=SAVE) from error
    except OSError as error:
        raise CapetownError(f"cannot be read ({error.strerror or error})", where=path) from error


def _blocks(path: Path, encoding: str, size: int, part: bool) -> Iterator[bytes | memoryview]:
    """The text as UTF-8 without a byte order mark. Each block is valid until the next one."""
    space = bytearray(size)
    decoder = codecs.getincrementaldecoder("utf-16")() if encoding == "utf-16" else None
    first = encoding == "utf-8-sig"
    with _readable(path), _open(path, part) as file:
        while count := file.readinto(space):
            block: bytes | memoryview = memoryview(space)[:count]
            if decoder:
                block = decoder.decode(block).encode("utf-8", "surrogatepass")
            elif first:
                block = bytes(block).removeprefix(codecs.BOM_UTF8)
            first = False
            if block:
                yield block
        if decoder and not part:
            decoder.decode(b"", final=True)


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(GZIP)) == GZIP


def _open(path: Path, part: bool) -> Any:
    """The text of a file. Its content decides whether it is gzipped; a part may end anywhere."""
    if not _is_gzip(path):
        return path.open("rb")
    if not part:
        return igzip.open(path)  # type: ignore[no-untyped-call]
    data, text = path.read_bytes(), io.BytesIO()
    while data.startswith(GZIP):
        member = isal_zlib.decompressobj(31)
        text.write(member.decompress(data))
        data = member.unused_data
    text.seek(0)
    return text


def _start(path: Path, part: bool) -> tuple[str, bytes]:
    """The encoding and the first megabyte of the text as UTF-8."""
    with path.open("rb") as file:
        raw = text = file.read(8)
    if raw and not raw.startswith(GZIP) and path.suffix == ".gz":
        what = f"not gzip but {_format(raw) or f'a file that starts with {raw!r}'}"
        raise CapetownError(what, where=path, fix=SAVE)
    if raw:
        with _open(path, part) as file:
            text = file.read(8)
    if not text:
        raise CapetownError("the file is empty", where=path, fix=FETCH)
    encoding = "utf-8-sig" if text.startswith(codecs.BOM_UTF8) else "utf-8"
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    found = _format(text) or (encoding == "utf-8" and b"\0" in text and "UTF-16 without a mark")
    if found:
        raise CapetownError(f"contains {found} instead of CSV", where=path, fix=SAVE)
    return encoding, bytes(next(_blocks(path, encoding, START, part)))


def _format(start: bytes) -> str | None:
    return next((name for mark, name in FORMATS.items() if start.lstrip().startswith(mark)), None)


def _header(path: Path, start: bytes, required: Sequence[str]) -> tuple[str, list[str]]:
    """The separator and the names in the first record."""
    text, header = start.decode(errors="replace"), [""]
    for separator in SEPARATORS:
        records = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        with suppress(csv.Error):
            for number, record in enumerate(islice(records, MAX_RECORDS)):
                if set(required) <= set(record):
                    if number == 0:
                        return separator, record
                    what = f"the header is in line {records.line_num}"
                    raise CapetownError(what, where=path, fix="remove the lines above it")
                header = max(header, record, key=len) if number == 0 else header
    missing = next((name for name in required if name not in header), required[0])
    similar = [name for name in header if _plain(name) == _plain(missing)]
    seen = f"the first line is {_shown(', '.join(header) or text[:MAX_SHOWN])}"
    fix = f"add it, or correct its name in city.py; {seen}"
    if similar:
        fix = f"rename column {similar[0]!r}"
    elif len(header) == 1 and missing in text.partition("\n")[0]:
        fix = f"separate values with commas, semicolons or tabs; {seen}"
    raise CapetownError(f"column {missing!r} is missing from the header", where=path, fix=fix)


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name.strip().lower())
