"""Layout of a table: wrapping, encoding, separator and header, found before its rows are read.

Expected is gzipped CSV in UTF-8 with a header. What can be read otherwise without a guess is read,
and `Layout.notes` says so: a byte order mark, UTF-16 with one, a `;` or a tab between the columns.
Everything else is refused with what it looks like.
"""

import codecs
import csv
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from isal import igzip, isal_zlib

from capetown.errors import CapetownError

# Bytes of text that are read at a time.
BLOCK = 1 << 23
# Bytes in which the header must end, and lines in which it is looked for.
START, LINES = 1 << 20, 20
SEPARATORS = {",": "','", ";": "';'", "\t": "a tab"}
# Separators that are recognised but not read.
UNUSUAL = "|: "
NOTES = {
    "utf-8-sig": "begins with a byte order mark, skipped",
    "utf-16": "in UTF-16, read as such",
}
GZIP = b"\x1f\x8b"
FORMATS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"PAR1": "a Parquet file",
}
DAMAGED: tuple[type[Exception], ...] = (
    EOFError,
    zlib.error,
    isal_zlib.error,  # type: ignore[assignment]
    igzip.BadGzipFile,
)
# A value may be as long as it likes.
csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True)
class Layout:
    """Wrapping, encoding, separator and header of a table.

    Attributes:
        header: the columns' names.
        separator: the character between values.
        encoding: `utf-8`, or with a byte order mark `utf-8-sig` or `utf-16`.
        size: of the header in bytes of UTF-8, its line end included.
        notes: what is unusual and was read all the same, for the log.
    """

    header: list[str]
    separator: str
    encoding: str
    size: int
    notes: list[str]


def read_layout(path: Path, needed: Sequence[str], added: Sequence[str] = ()) -> Layout:
    """Look at a table's start.

    Args:
        path: a `.csv.gz` file.
        needed: columns that must be there, in any order; others come along.
        added: columns that must not be there.

    Raises:
        CapetownError: the file is missing, empty or not a gzipped table, or its header is not as
            needed; with what it looks like.
    """
    with readable(path):
        _check_wrapping(path)
        encoding = _encoding(path)
        start = b""
        for block in _blocks(path, encoding, START):
            start += block
            if len(start) >= START:
                break
    if not start:
        raise CapetownError(f"{path}: the file is empty; fetch it again")
    _check_start(path, start)
    size = _header_size(path, start)
    try:
        text = start[:size].decode()
    except UnicodeDecodeError as error:
        raise CapetownError(
            f"{path}: the header is not UTF-8 ({start[:size].strip()[:80]!r}); save the file as "
            "UTF-8"
        ) from error
    headers = {separator: _split(text, separator) for separator in SEPARATORS}
    fitting = [name for name, header in headers.items() if set(needed) <= set(header)]
    if not fitting:
        raise CapetownError(f"{path}: {_unfit(start, headers, needed)}")
    header = headers[fitting[0]]
    for position, name in enumerate(header):
        if name == "*" or (name.startswith("^") and name.endswith("$")):
            raise CapetownError(f"{path}: column {name!r} in the header is a pattern; rename it")
        if name in header[:position]:
            raise CapetownError(f"{path}: column {name!r} is there twice; keep one")
        if name in added:
            raise CapetownError(
                f"{path}: column {name!r} is there already and would be overwritten; rename it, "
                "or is this the City's joined table?"
            )
    notes = [NOTES[encoding]] if encoding in NOTES else []
    if fitting[0] != ",":
        notes.append(f"columns separated by {SEPARATORS[fitting[0]]}, read as such")
    return Layout(header, fitting[0], encoding, size, notes)


def text_blocks(path: Path, layout: Layout) -> Iterator[bytes]:
    """The text under the header as UTF-8, some megabytes at a time.

    Raises:
        CapetownError: the file is damaged.
    """
    header = layout.size
    with readable(path):
        for block in _blocks(path, layout.encoding, BLOCK):
            yield block[header:]
            header = max(header - len(block), 0)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn errors of reading a gzipped file into a `CapetownError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise CapetownError(f"{path}: no such file; run the download stage") from error
    except DAMAGED as error:
        raise CapetownError(
            f"{path}: damaged gzip after line {_whole_lines(path)} ({error}); fetch the file again"
        ) from error
    except UnicodeDecodeError as error:
        raise CapetownError(f"{path}: damaged UTF-16 ({error.reason}); save it as UTF-8") from error
    except OSError as error:
        raise CapetownError(f"{path}: cannot be read ({error.strerror or error})") from error


def _blocks(path: Path, encoding: str, size: int) -> Iterator[bytes]:
    """The text as UTF-8 without a byte order mark."""
    decoder = codecs.getincrementaldecoder("utf-16")() if encoding == "utf-16" else None
    first = True
    with _opened(path) as file:
        while block := file.read(size):
            if decoder:
                block = decoder.decode(block).encode("utf-8", "surrogatepass")
            elif first and encoding == "utf-8-sig":
                block = block.removeprefix(codecs.BOM_UTF8)
            first = False
            yield block
    if decoder:
        decoder.decode(b"", final=True)


def _opened(path: Path) -> IO[bytes]:
    file: IO[bytes] = igzip.open(path)  # type: ignore[no-untyped-call]
    return file


def _check_wrapping(path: Path) -> None:
    with path.open("rb") as file:
        raw = file.read(8)
    if not raw:
        raise CapetownError(f"{path}: the file is empty; fetch it again")
    if raw.startswith(GZIP):
        return
    name = _format(raw) or (_markup(raw) and "a web page, perhaps an error or a login")
    if name:
        raise CapetownError(f"{path}: {name}, not a gzipped table; gzip the table itself")
    raise CapetownError(f"{path}: not a gzip file (it starts with {raw!r}); compress it with gzip")


def _encoding(path: Path) -> str:
    with _opened(path) as file:
        start = file.read(8)
    if start.startswith(GZIP):
        raise CapetownError(f"{path}: compressed with gzip twice; decompress it once")
    if name := _format(start):
        raise CapetownError(f"{path}: {name}, gzipped; gzip the table itself")
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise CapetownError(f"{path}: in UTF-32; save the file as UTF-8")
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in start:
        raise CapetownError(
            f"{path}: in UTF-16 without a byte order mark, it seems (it starts with {start!r}); "
            "save the file as UTF-8"
        )
    return "utf-8-sig" if start.startswith(codecs.BOM_UTF8) else "utf-8"


def _format(start: bytes) -> str | None:
    return next((name for mark, name in FORMATS.items() if start.startswith(mark)), None)


def _markup(start: bytes) -> bool:
    return start.lstrip().startswith(b"<")


def _check_start(path: Path, start: bytes) -> None:
    """Refuse what comes instead of a header."""
    if _markup(start):
        raise CapetownError(f"{path}: a web page or XML, gzipped, not a table; fetch it again")
    if start.lstrip().startswith((b"{", b"[")):
        raise CapetownError(f"{path}: JSON, gzipped, not a table; save it as CSV")
    if not start.splitlines()[0].strip():
        raise CapetownError(f"{path}: a blank line comes before the header; remove it")
    if start[:4].lower() == b"sep=":
        raise CapetownError(
            f"{path}: its first line is {start.splitlines()[0].decode(errors='replace')!r}, a hint "
            "for Excel; remove it"
        )


def _header_size(path: Path, start: bytes) -> int:
    end = re.match(rb'(?:[^"\n]|"[^"]*")*+(?:\n|\Z)', start)
    first = start[: end.end() if end else None].rstrip(b"\r\n")
    if b"\r" in re.sub(rb'"[^"]*"', b"", first):
        raise CapetownError(f"{path}: its lines end in CR alone; convert them to LF")
    if not end or (end.end() == len(start) >= START and start[-1:] != b"\n"):
        raise CapetownError(
            f"{path}: the header does not end within a megabyte; is a quotation mark left open?"
        )
    return end.end()


def _split(line: str, separator: str) -> list[str]:
    """A header's names; none where the line cannot be read as CSV."""
    try:
        return next(csv.reader([line], delimiter=separator, strict=True), [])
    except csv.Error:
        return []


def _unfit(start: bytes, headers: dict[str, list[str]], needed: Sequence[str]) -> str:
    """The reason that a header lacks columns that are needed, and the remedy."""
    separator = max(headers, key=lambda name: len(headers[name]))
    header = headers[separator]
    lines = start.decode(errors="replace").splitlines()[:LINES]
    for number, line in enumerate(lines[1:], 2):
        if any(set(needed) <= set(_split(line, name)) for name in SEPARATORS):
            return f"the header is in line {number}; remove what stands above it"
    for name in UNUSUAL:
        if set(needed) <= set(_split(lines[0], name)):
            return f"columns separated by {name!r}; separate them by commas"
    found = f"found: {' '.join(', '.join(header).split())}"[:300]
    missing = next((name for name in needed if name not in header), None)
    if missing is None or not set(needed) & set(header):
        fix = "is its first line the header, in CSV?"
        return f"column {missing or needed[0]!r} is missing from the header; {fix} {found}"
    like = [other for other in header if _plain(other) == _plain(missing)]
    hint = f"; rename its column {like[0]!r}" if like else ""
    return f"column {missing!r} is missing from the header{hint}; {found}"


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name.strip().lower())


def _whole_lines(path: Path) -> int:
    """Lines before the place where a gzip file is damaged."""
    lines, stream = 0, zlib.decompressobj(wbits=31)
    with path.open("rb") as file:
        while block := file.read(1 << 12):
            try:
                lines += stream.decompress(block).count(b"\n")
            except zlib.error:
                break
            if stream.eof:
                break
    return lines
