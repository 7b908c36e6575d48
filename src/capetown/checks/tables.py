"""Checks of tables by their first bytes, with the code of the stages that read them."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import h3
import numpy as np
import polars as pl

from capetown.city import (
    COORDINATES,
    HEXAGONS_FILE,
    REQUEST_ID,
    REQUESTS_TABLE,
    RESOLUTION,
)
from capetown.errors import CapetownError
from capetown.params import Transform
from capetown.requests.failure_reasons import with_reasons
from capetown.requests.hexagons import Hexagons, cells_of, read_hexagons
from capetown.requests.join import find_cells
from capetown.requests.reader import (
    CATEGORIES,
    FAILED,
    INVALID,
    MISSING,
    NAMES,
    PARSED,
    REASON,
    RESERVED,
    TIMED,
    UNREADABLE,
    RequestTable,
    Values,
    check_city,
    check_ids,
    read_values,
)
from capetown.requests.reference import open_reference

# Bytes of an object that are read: thousands of rows, in a second or two from a distant bucket.
START = 1 << 18
# By reason of a failed join: the same change helps all rows.
REMEDIES = {
    "decimal comma": "write decimal points",
    "swapped": "exchange LATITUDE and LONGITUDE in city.py",
    "zero, zero": "leave unknown coordinates empty",
}


@dataclass(frozen=True)
class Start:
    """The first bytes of an object.

    Attributes:
        where: what messages call the object.
        data: the bytes.
        whole: they are all bytes of the object.
    """

    where: str
    data: bytes
    whole: bool

    @contextmanager
    def as_file(self) -> Iterator[Path]:
        """Yield a temporary file with the bytes. Errors about it name the object instead."""
        with TemporaryDirectory() as folder:
            path = Path(folder, PurePosixPath(self.where).name)
            path.write_bytes(self.data)
            try:
                yield path
            except CapetownError as error:
                where = error.where.replace(str(path), self.where)
                raise CapetownError(error.what, where=where, fix=error.fix) from error


class Fault(NamedTuple):
    """A fault of `times` of the `given` values, first in `row`, which is counted from 0."""

    row: int
    what: str
    fix: str
    times: int
    given: int


def needed_tables(settings: Transform) -> dict[str, str]:
    """The keys that `transform` reads, and what to change where there is none."""
    needed = {
        REQUESTS_TABLE: "correct REQUESTS_TABLE in city.py",
        HEXAGONS_FILE: "correct HEXAGONS_FILE in city.py",
    }
    if settings.reference:
        needed[settings.reference] = "leave transform.reference empty"
    return needed


def check_tables(
    source: str, starts: Mapping[str, Start], chosen: list[str], settings: Transform
) -> Iterator[str]:
    """Check what `transform` reads, and yield a line for each table and each warning.

    Args:
        source: where the objects are, for messages.
        starts: by key, the first bytes of the tables.
        chosen: the keys of all objects that `download_requests` fetches.
        settings: thresholds, and the key of the reference.

    Raises:
        CapetownError: a table is missing or wrong, or too many of its first rows are.
    """
    check_city()
    for key, fix in needed_tables(settings).items():
        if key not in chosen:
            fix = f"add it to download.requests, or {fix}"
            raise CapetownError("is not fetched", where=f"{source}/{key}", fix=fix)
    hexagons, said = _read_hexagons(starts[HEXAGONS_FILE])
    yield from check_requests(starts[REQUESTS_TABLE], hexagons, settings)
    if settings.reference:
        start = starts[settings.reference]
        with start.as_file() as path:
            table = open_reference(path, part=not start.whole)
        yield _line(start, [f"{len(table.header)} columns", *table.notes()])
    yield said


def check_requests(start: Start, hexagons: Hexagons | None, settings: Transform) -> Iterator[str]:
    """Check the header and the first rows of the requests; see `check_tables`.

    Without `hexagons`, coordinates need only be degrees.
    """
    with start.as_file() as path:
        table = RequestTable(path, NAMES, RESERVED, part=not start.whole)
        frames = list(table.frames(CATEGORIES))
        text = pl.concat(frames) if frames else pl.DataFrame(schema=dict.fromkeys(NAMES, pl.String))
        check_ids(path, text[REQUEST_ID])
    values = read_values(text)
    faults = [
        *((fault, settings.unreadable_threshold) for fault in _unreadable(text, values)),
        *((fault, settings.error_threshold) for fault in _failed(text, values, hexagons)),
    ]
    for fault, threshold in faults:
        what = f"{fault.what} ({fault.times:,} of {fault.given:,} in the first rows)"
        error = CapetownError(what, where=f"{start.where}: row {fault.row + 1}", fix=fault.fix)
        # By chance, the first rows can have more faults than the others.
        if fault.times > fault.given * (threshold if start.whole else max(threshold, 0.5)):
            raise error
        yield f"table    warning: {error}"
    rows = f"{'all' if start.whole else 'the first'} {len(text):,} rows can be read"
    notes = [note.removeprefix(f"{path}: ") for note in table.notes()]
    yield _line(start, [f"{len(table.header)} columns", rows, *notes])


def _unreadable(text: pl.DataFrame, values: Values) -> Iterator[Fault]:
    """A fault for each column with unreadable values."""
    for name in PARSED:
        flags = values.unreadable[name]
        if flags.any():
            time, row = name in TIMED, flags.arg_max() or 0
            what = f"{text[name][row]!r} in {name} is not a {'time' if time else 'number'}"
            fix = "add its form to TIME_FORMATS in city.py" if time else "correct it"
            yield Fault(row, what, fix, int(flags.sum()), len(text) - values.missing[name])


def _failed(text: pl.DataFrame, values: Values, hexagons: Hexagons | None) -> Iterator[Fault]:
    """A fault if coordinates fail to join."""
    _, status = find_cells(values, hexagons or _cells_of_points(values))
    failed = status.is_in(FAILED)
    if not failed.any():
        return
    row = failed.arg_max() or 0
    point = [text[name][row] for name in COORDINATES]
    reason = "decimal comma" if "," in "".join(point) else None
    if hexagons:
        first = text[row].cast(pl.String)
        first = first.with_columns(status[[row]], pl.lit("").alias(UNREADABLE))
        reason = with_reasons(first, hexagons)[REASON].item()
    what, fix = "lie in no hexagon", f"correct them, or let {HEXAGONS_FILE} cover the whole city"
    if status[row] == INVALID:
        columns = " and ".join(COORDINATES)
        what, fix = "are not degrees", f"convert {columns} to WGS84, or correct them in city.py"
    what = f"{point[0]!r}, {point[1]!r} {what}{f', likely {reason}' if reason else ''}"
    given = int((status != MISSING).sum())
    yield Fault(row, what, REMEDIES.get(reason or "", fix), int(failed.sum()), given)


def _cells_of_points(values: Values) -> Hexagons:
    """The cells of all points that exist; at least one cell."""
    cells = cells_of(*(values.frame[name].to_numpy() for name in COORDINATES))
    names = [h3.int_to_str(cell) for cell in np.unique(cells).tolist() if cell]
    return Hexagons(pl.Series("index", names or [h3.latlng_to_cell(0, 0, RESOLUTION)]))


def _read_hexagons(start: Start) -> tuple[Hexagons | None, str]:
    """All hexagons, or None if only the first are here; and a line about them."""
    with start.as_file() as path:
        if not start.whole:
            path.write_text(json.dumps({"features": _first_features(start.data)}))
        hexagons = read_hexagons(path)
    count = len(hexagons.index)
    if start.whole:
        return hexagons, _line(start, [f"{count} hexagons"])
    return None, _line(start, [f"the first {count} hexagons can be read"])


def _first_features(data: bytes) -> list[Any]:
    """The whole features in the first bytes of a GeoJSON file."""
    text, features = data.decode(errors="ignore"), []
    found = re.search(r'"features"\s*:\s*\[\s*', text)
    with suppress(ValueError):
        while found:
            feature, end = json.JSONDecoder().raw_decode(text, found.end())
            features.append(feature)
            found = re.compile(r"\s*,\s*").match(text, end)
    return features


def _line(start: Start, facts: list[str]) -> str:
    return f"table    {start.where}: {'; '.join(facts)}"
