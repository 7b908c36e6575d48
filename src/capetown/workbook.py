"""Write tables as the sheets of an Excel workbook.

Texts stay texts, also numbers with leading zeros and what looks like a formula. Times are Excel's
dates in the time zone of their column, which the header names. Excel has no infinities and no dates
before March 1900 that other programs agree on: these become texts. The same tables give the same
bytes.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
from xlsxwriter import Workbook
from xlsxwriter.exceptions import FileCreateError

# Excel's limits: rows under the header, and UTF-16 units of a text.
MAX_ROWS, MAX_TEXT = 1_048_575, 32_767
# Excel's number of 1 January 1970, and the times that it knows.
EPOCH, MICROSECONDS_A_DAY = 25_569, 86_400_000_000
TIMES = datetime(1900, 3, 1), datetime(9999, 12, 31, 23, 59, 59)
# Rows whose values are Python objects at a time, and rows that a column's width follows.
ROWS, SHOWN = 10_000, 500
WIDEST = 60
TEXT, TIME, DATE = "@", "yyyy-mm-dd hh:mm:ss", "yyyy-mm-dd"

log = logging.getLogger("capetown")


def write_workbook(path: Path, sheets: Mapping[str, pl.DataFrame], elsewhere: str = "") -> None:
    """Write a workbook. A warning names each sheet with more rows than Excel takes, left out.

    Args:
        path: the file.
        sheets: tables by the names of their sheets. `NAME.parquet` beside the file has the same.
        elsewhere: words for that warning, after the name of the Parquet file.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        with (
            TemporaryDirectory(dir=path.parent, prefix=".workbook-") as folder,
            # Rows go to a file at once, so memory does not grow with them.
            Workbook(str(path), {"constant_memory": True, "tmpdir": folder}) as book,
        ):
            book.set_properties({"created": datetime(2000, 1, 1, tzinfo=UTC)})
            for name, frame in sheets.items():
                if len(frame) <= MAX_ROWS:
                    _write_sheet(book, name, frame, path)
                    continue
                log.warning(
                    "%s: the sheet %s is left out, since its %s rows are more than Excel's %s; "
                    "%s.parquet has them%s",
                    path.name, name, f"{len(frame):,}", f"{MAX_ROWS:,}", name, elsewhere,
                )  # fmt: skip
    except FileCreateError as error:
        raise error.args[0] from error


def _write_sheet(book: Any, name: str, frame: pl.DataFrame, path: Path) -> None:
    sheet = book.add_worksheet(name)
    heading, text = book.add_format({"bold": True, "num_format": TEXT}), _format(book, TEXT)
    formats = [_format(book, _number_format(kind)) for kind in frame.dtypes]
    shown = frame.head(SHOWN).select(pl.all().cast(pl.String, strict=False).str.len_chars().max())
    longest = shown.row(0) if len(frame) else [0] * frame.width
    names = [_header(column) for column in frame]
    for at, (header, long) in enumerate(zip(names, longest, strict=True)):
        sheet.set_column(at, at, min(max(len(header), long or 0) + 2, WIDEST))
        _write_text(sheet, 0, at, header, heading)
    sheet.freeze_panes(1, 0)
    sheet.autofilter(0, 0, len(frame), max(frame.width - 1, 0))
    # Otherwise Excel marks every identifier, and offers to take its zeros away.
    sheet.ignore_errors({"number_stored_as_text": "A1:XFD1048576"})
    number = cut = 0
    for part in frame.iter_slices(ROWS):
        for row in zip(*map(_cells, part), strict=True):
            number += 1
            for at, value in enumerate(row):
                if isinstance(value, str):
                    cut += _write_text(sheet, number, at, value, text)
                elif value is not None:
                    sheet.write_number(number, at, value, formats[at])
    if cut:
        log.warning(
            "%s: %s texts of the sheet %s are cut off after %s characters; %s.parquet has them",
            path.name, f"{cut:,}", name, f"{MAX_TEXT:,}", name,
        )  # fmt: skip


def _write_text(sheet: Any, row: int, column: int, text: str, form: Any) -> bool:
    """Write a text. True if it was too long and is cut off."""
    if text.startswith("<r>") and text.endswith("</r>"):
        # XlsxWriter takes a whole text of this form for XML. As parts it is taken for text.
        kept = text.encode("utf-16-le")[: 2 * MAX_TEXT].decode("utf-16-le", "ignore")
        sheet.write_rich_string(row, column, kept[0], kept[1:3], kept[3:], form)
        return kept != text
    return bool(sheet.write_string(row, column, text, form))


def _format(book: Any, form: str | None) -> Any:
    return book.add_format({"num_format": form}) if form else None


def _number_format(kind: pl.DataType) -> str | None:
    if isinstance(kind, pl.Datetime):
        return TIME
    return DATE if kind == pl.Date else None


def _header(column: pl.Series) -> str:
    zone = getattr(column.dtype, "time_zone", None)
    return f"{column.name} ({zone})" if zone else column.name


def _cells(column: pl.Series) -> list[Any]:
    """Numbers as Excel counts them, texts, and None."""
    kind = column.dtype
    if isinstance(kind, pl.Datetime) or kind == pl.Date:
        local = column.cast(pl.Datetime("us")) if kind == pl.Date else column
        local = local.dt.replace_time_zone(None).dt.cast_time_unit("us")
        numbers = local.to_physical() / MICROSECONDS_A_DAY + EPOCH
        fits, words = local.is_between(*TIMES), local.dt.to_string("%Y-%m-%d %H:%M:%S")
    elif kind.is_float():
        numbers, fits, words = column, column.is_finite(), column.cast(pl.String)
    elif kind.is_integer():
        return column.to_list()
    else:
        return column.cast(pl.String).to_list()
    cells: list[Any] = numbers.to_list()
    for row in (~fits).arg_true().to_list():
        cells[row] = words[row]
    return cells
