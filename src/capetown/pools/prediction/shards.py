"""Results in parts, beside the output that they become: whole or absent, and never made twice.

``FILE.parts/`` holds ``origin.json``, which says what the parts are made from, and a Parquet file a
piece of the input. When all are there they become ``FILE``, beside which ``FILE.made-by.json`` says
the same, and the folder goes. So the same command goes on where it was interrupted, does nothing
when all is done, and refuses to mix what differs.
"""

import json
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from capetown.errors import CapetownError, one_line
from capetown.params import Section
from capetown.pools.prediction.schema import EMPTY, write_csv, write_geoparquet
from capetown.storage import (
    is_local,
    make_folder,
    names_in,
    open_storage,
    read_file,
    remove_folder,
    size_of,
    unwritable,
    write_file,
    written_whole,
)

ORIGIN = "origin.json"
WRITERS = {".csv": write_csv, ".parquet": write_geoparquet}
# Tiles that are named of those that are unlike what the model learned from.
NAMED = 3


class Provenance(Section):
    """What predictions are made from: digests of the model and the inputs, and the package."""

    model: str
    inputs: str
    capetown: str


class Summary(Section):
    """Predictions counted.

    Attributes:
        tiles: rows.
        pools: tiles with a pool, by the model's threshold.
        unread: tiles that cannot be read.
        unlike: tiles unlike those that the model learned from.
        named: the first of these, each with how.
        placed: tiles with a place on Earth.
        misplaced: tiles whose place cannot be used.
        empty: windows without any data, which have no row.
    """

    tiles: int = 0
    pools: int = 0
    unread: int = 0
    unlike: int = 0
    named: tuple[str, ...] = ()
    placed: int = 0
    misplaced: int = 0
    empty: int = 0

    def plus(self, table: pa.Table) -> "Summary":
        """The same with the rows of a part."""
        unlike = table.filter(table["unlike"].is_valid())
        pairs = zip(unlike["path"].to_pylist(), unlike["unlike"].to_pylist(), strict=True)
        named = (*self.named, *(f"{path} ({how})" for path, how in pairs))[:NAMED]
        return Summary(
            tiles=self.tiles + len(table),
            pools=self.pools + sum(said == "yes" for said in table["decision"].to_pylist()),
            unread=self.unread + _count(table, "error"),
            unlike=self.unlike + len(unlike),
            named=named,
            placed=self.placed + _count(table, "h3_index"),
            misplaced=self.misplaced + _count(table, "place_error"),
            empty=self.empty + int((table.schema.metadata or {}).get(EMPTY, 0)),
        )


class Manifest(Section):
    """What a finished output was made from, its size in bytes and what is in it."""

    origin: Provenance
    size: int
    summary: Summary


def part_name(number: int) -> str:
    """The name of a part's file."""
    return f"{number:06}.parquet"


def finished(out: str, origin: Provenance) -> Summary | None:
    """What is in an output that is complete; None if it is still to be made.

    Raises:
        CapetownError: if what is there is made from something else.
    """
    size = size_of(out)
    if size is None or _origin_in(parts_of(out)) == origin:
        return None
    remedy = f"remove it or name another --out; the same command then makes {out} anew."
    try:
        made = Manifest.model_validate_json(read_file(made_by(out)))
    except (OSError, ValidationError):
        raise CapetownError(f"{out}: is there, and nothing says from what; {remedy}") from None
    if made.origin != origin:
        raise CapetownError(f"{out}: was made {_difference(made.origin, origin)}; {remedy}")
    if made.size != size:
        raise CapetownError(f"{out}: was changed since it was made; {remedy}")
    return made.summary


def start_parts(out: str, origin: Provenance, count: int) -> set[int]:
    """Make the folder of parts ready, and say which parts are there already.

    Args:
        out: the output.
        origin: what it is made from.
        count: how many parts there will be.

    Raises:
        CapetownError: if there are parts made from something else, or nothing can be written.
    """
    folder = parts_of(out)
    names = names_in(folder)
    there = {number for number in range(count) if part_name(number) in names}
    found = _origin_in(folder)
    if found != origin and (found or there):
        how = _difference(found, origin) if found else "from something that is not said"
        raise CapetownError(
            f"{folder}: holds parts of a run that was interrupted, made {how}; remove it to start "
            "anew, or name another --out."
        )
    try:
        make_folder(folder)
        write_file(f"{folder}/{ORIGIN}", _json(origin))
    except CapetownError as error:
        raise CapetownError(str(error).replace(folder, out, 1)) from error
    return there


def write_part(folder: str, number: int, table: pa.Table) -> None:
    """Write a part.

    Raises:
        CapetownError: it cannot be written.
    """
    file = BytesIO()
    pq.write_table(table, file, compression="zstd")
    write_file(f"{folder}/{part_name(number)}", file.getvalue())


def read_part(folder: str, number: int) -> pa.Table:
    """Read a part.

    Raises:
        CapetownError: it is damaged or gone.
    """
    url = f"{folder}/{part_name(number)}"
    try:
        return pq.read_table(BytesIO(read_file(url)))
    except (OSError, pa.ArrowException) as error:
        raise CapetownError(
            f"{url}: damaged or gone ({one_line(error)}); remove it and run the same command again."
        ) from error


def finish(out: str, origin: Provenance, count: int, expected: int) -> Summary:
    """Put the parts together to the output, and remove them.

    Args:
        out: the output.
        origin: what it is made from.
        count: how many parts there are.
        expected: how many tiles, and windows without data, they have.

    Raises:
        CapetownError: if a part cannot be read, or the output not be written.
    """
    folder = parts_of(out)
    counted = CountingIterator(read_part(folder, number) for number in range(count))
    fs, location = open_storage(out)
    try:
        with TemporaryDirectory() as scratch:
            here = Path(location) if is_local(fs) else Path(scratch, Path(location).name)
            with written_whole(here) as part, part.open("wb") as file:
                WRITERS[Path(location).suffix](iter(counted), file)
            if not is_local(fs):
                fs.put_file(str(here), location)
    except CapetownError:
        raise
    except Exception as error:  # every file system fails in its own way
        raise unwritable(out, error) from error
    summary = counted.summary
    if summary.tiles + summary.empty != expected:
        raise CapetownError(
            f"{out}: has {summary.tiles + summary.empty} of {expected} tiles, since a part in "
            f"{folder} is damaged; remove both and run the same command again."
        )
    made = Manifest(origin=origin, size=size_of(out) or 0, summary=summary)
    write_file(made_by(out), _json(made))
    remove_folder(folder)
    return summary


class CountingIterator:
    """Tables that pass through one after the other, counted when they have."""

    def __init__(self, tables: Iterable[pa.Table]) -> None:
        self.summary = Summary()
        self._tables = tables

    def __iter__(self) -> Iterator[pa.Table]:
        for table in self._tables:
            self.summary = self.summary.plus(table)
            yield table


def parts_of(out: str) -> str:
    """The folder of an output's parts."""
    return f"{out}.parts"


def made_by(out: str) -> str:
    """The file that says what an output was made from."""
    return f"{out}.made-by.json"


def _origin_in(folder: str) -> Provenance | None:
    try:
        return Provenance.model_validate_json(read_file(f"{folder}/{ORIGIN}"))
    except (OSError, ValidationError):
        return None


def _difference(found: Provenance, wanted: Provenance) -> str:
    if found.model != wanted.model:
        return "by another model"
    if found.capetown != wanted.capetown:
        return f"by capetown {found.capetown}, and this is {wanted.capetown}"
    return "from other inputs"


def _count(table: pa.Table, column: str) -> int:
    return len(table) - int(table[column].null_count)


def _json(value: Section) -> bytes:
    return (json.dumps(value.model_dump(), indent=2) + "\n").encode()
