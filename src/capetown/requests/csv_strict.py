"""Whole rows of a CSV text, strictly as RFC 4180 has them, and a count of them.

A quotation mark opens a value only at its start, and closes it only before a separator, a line's
end or a second mark, which stands for one in the value. A line ends in LF or CRLF. Anything else
is refused: a reader that goes on would swallow rows or drop marks without a word. Blank lines are
taken out. NumPy looks at some megabytes at a time, so this costs a tenth of what parsing does.
"""

import codecs
import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from capetown.errors import CapetownError

LF, CR, MARK = b'\n\r"'
# Bytes that a row may have; more is what a quotation mark swallowed.
LONGEST = 1 << 26
# Characters of a value that a message shows.
SHOWN = 80

Positions = NDArray[np.intp]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Rows:
    """Some rows as they stand in a table, without blank lines.

    Attributes:
        text: the rows, each with its line end.
        count: how many.
        first: the number of the first one, from 1 under the header.
    """

    text: bytes
    count: int
    first: int


@dataclass
class Seen:
    """Oddities of a table that can be read all the same, but deserve a word.

    Attributes:
        blank: blank lines.
        broken: rows that go over several lines, as line breaks in quotes allow.
        longest: the most lines that one has, and its number.
    """

    blank: int = 0
    broken: int = 0
    longest: tuple[int, int] = field(default=(1, 0))

    def see_breaks(self, numbers: Positions) -> None:
        """Count line breaks in quotes, given the number of the row of each."""
        rows, times = np.unique(numbers, return_counts=True)
        self.broken += len(rows)
        if len(rows) and times.max() >= self.longest[0]:
            self.longest = int(times.max()) + 1, int(rows[times.argmax()])

    def notes(self) -> list[str]:
        """Lines for the log."""
        lines, row = self.longest
        found = []
        if self.blank:
            found.append(f"{self.blank:,} blank lines, skipped")
        if self.broken:
            found.append(
                f"{self.broken:,} rows with line breaks in quotes; row {row} has {lines:,} lines"
            )
        return found


def whole_rows(
    path: Path, blocks: Iterable[bytes], columns: int, separator: str, seen: Seen
) -> Iterator[Rows]:
    """Cut text into whole rows.

    Args:
        path: where it comes from, for messages.
        blocks: the text under the header, in UTF-8.
        columns: values that each row must have.
        separator: the character between two values.
        seen: counts what deserves a word.

    Raises:
        CapetownError: a row is not as RFC 4180 has it, or has more or fewer values; with its
            number and value.
    """
    rest, first = b"", 1
    for block, ended in _until_end(blocks):
        buffer = rest + block
        text = np.frombuffer(buffer, np.uint8)
        marks = np.flatnonzero(text == MARK)
        breaks = np.flatnonzero(text == LF)
        quoted = np.searchsorted(marks, breaks) % 2 == 1
        ends = breaks[~quoted]
        cut = int(ends[-1]) + 1 if len(ends) else 0
        if fault := _fault(buffer, marks, ends, separator.encode(), ended=ended):
            at, what = fault
            before = ends[ends < at]
            number = first + len(before) - int(_blank(text, before).sum())
            raise CapetownError(f"{path}: row {number}: {what}")
        rest = buffer[cut:]
        if not cut:
            continue
        blank = _blank(text, ends)
        rows = Rows(buffer[:cut], len(ends) - int(blank.sum()), first)
        if blank.any():
            seen.blank += int(blank.sum())
            rows = Rows(_without(rows.text, ends, blank), rows.count, first)
        if quoted.any():
            seen.see_breaks(np.searchsorted(ends[~blank], breaks[quoted & (breaks < cut)]) + first)
        found = int(np.count_nonzero(text[:cut] == ord(separator)))
        found -= _quoted(buffer, marks[marks < cut]).count(separator.encode())
        if found != rows.count * (columns - 1):
            check_widths(path, rows, columns, separator)
        if rows.count:
            yield rows
        first += rows.count


def check_widths(path: Path, rows: Rows, columns: int, separator: str) -> None:
    """Check, row by row, that there is a value for each column.

    Raises:
        CapetownError: a row has more or fewer.
    """
    lines = io.StringIO(rows.text.decode(errors="backslashreplace"), newline="")
    for number, values in enumerate(
        csv.reader(lines, delimiter=separator, strict=True), rows.first
    ):
        if len(values) != columns:
            fix = (
                "quote values that hold a separator"
                if len(values) > columns
                else "complete the row"
            )
            raise CapetownError(
                f"{path}: row {number}, from {values[0]!r} to {values[-1]!r}: {len(values)} values "
                f"for {columns} columns; {fix}"
            )


def locate(rows: Rows, at: int, separator: str) -> str:
    """The row and the value at a position of some rows' bytes, for a message."""
    found = np.frombuffer(rows.text, np.uint8)
    marks, breaks = np.flatnonzero(found == MARK), np.flatnonzero(found == LF)
    ends = breaks[np.searchsorted(marks, breaks) % 2 == 0]
    number = rows.first + int(np.searchsorted(ends, at))
    return f"row {number}: {_shown(_value(rows.text, at, separator.encode()))}"


def _until_end(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The blocks, with a line end after the last one if it has none, and True with the last."""
    last = b"\n"
    for block in blocks:
        yield block, False
        last = block[-1:] or last
    yield b"" if last == b"\n" else b"\n", True


def _fault(
    buffer: bytes, marks: Positions, ends: Positions, separator: bytes, *, ended: bool
) -> tuple[int, str] | None:
    """The first position where something stands that may not, and what to say of it."""
    text, faults = np.frombuffer(buffer, np.uint8), []
    cut = int(ends[-1]) + 1 if len(ends) else 0
    opening, closing = marks[0::2], marks[1::2]
    # A closing mark and the one after it are a double one, and the value goes on.
    goes_on = opening[1:] == closing[: len(opening) - 1] + 1
    starts = np.flatnonzero(np.concatenate([[True], ~goes_on])) if len(opening) else opening
    before = text[opening[starts] - 1]
    wrong = (before != ord(separator)) & (before != LF) & (opening[starts] > 0)
    if wrong.any():
        at = int(opening[starts[wrong.argmax()]])
        value = _shown(_value(buffer, at, separator))
        faults.append((at, f"a quotation mark in {value}; double or remove it"))
    inner = closing[closing + 1 < len(buffer)]
    wrong = ~np.isin(text[inner + 1], [ord(separator), LF, CR, MARK])
    if wrong.any():
        which = int(wrong.argmax())
        at = int(opening[starts[np.searchsorted(starts, which, side="right") - 1]])
        end = int(inner[which]) + 1
        faults.append((at, f"a quotation mark opens {_shown(buffer[at:end])} and closes it before "
                       f"{_shown(buffer[end : end + 10])}; double or remove it"))  # fmt: skip
    if b"\r" in buffer:
        returns = np.flatnonzero(text[:-1] == CR)
        outside = np.searchsorted(marks, returns) % 2 == 0
        lone = returns[outside & (text[returns + 1] != LF)]
        if len(lone):
            value = _shown(_value(buffer, int(lone[0]), separator))
            faults.append((int(lone[0]), f"a CR without LF in {value}; put the value in quotes"))
    begins = np.concatenate([[0], ends[: -1 if cut == len(buffer) else None] + 1])
    if len(buffer) > 2 and (text[begins] == codecs.BOM_UTF8[0]).any():
        marked = [at for at in begins.tolist() if buffer.startswith(codecs.BOM_UTF8, at)]
        faults += [(at, "begins with a byte order mark; are these two files in one?")
                   for at in marked[:1]]  # fmt: skip
    size = len(buffer) - cut
    if len(marks) % 2 and (ended or size > LONGEST):
        at = int(opening[starts[-1]])
        faults.append((at, f"is the quotation mark left open in {_shown(buffer[at:])}?"))
    elif size > LONGEST:
        faults.append((len(buffer) - size, f"longer than {LONGEST >> 20} MB; is this a table?"))
    return min(faults, default=None)


def _quoted(buffer: bytes, marks: Positions) -> bytes:
    """The bytes within quotes."""
    pairs = zip(marks[0::2].tolist(), marks[1::2].tolist(), strict=True)
    return b"".join(buffer[opening:closing] for opening, closing in pairs)


def _blank(text: Bytes, ends: Positions) -> NDArray[np.bool_]:
    """True for lines that hold nothing, by the line ends outside quotes."""
    length = np.diff(ends, prepend=-1) - 1
    blank: NDArray[np.bool_] = (length == 0) | ((length == 1) & (text[ends - 1] == CR))
    return blank


def _without(text: bytes, ends: Positions, blank: NDArray[np.bool_]) -> bytes:
    starts = np.concatenate([[0], ends[:-1] + 1])[~blank]
    pairs = zip(starts.tolist(), ends[~blank].tolist(), strict=True)
    return b"".join(text[start : end + 1] for start, end in pairs)


def _value(text: bytes, at: int, separator: bytes) -> bytes:
    """The value around a position that is not in quotes."""
    start = max(text.rfind(separator, 0, at), text.rfind(b"\n", 0, at)) + 1
    ends = [end for end in (text.find(separator, at), text.find(b"\n", at)) if end >= 0]
    return text[start : min(ends, default=len(text))]


def _shown(value: bytes) -> str:
    value = value.strip(b"\r\n")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return repr(value[:SHOWN])
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")
