"""An output and its shards: resumable, whole or absent, and never mixed from different inputs.

``FILE.parts/`` holds ``provenance.json`` and one Parquet file per shard of the input. When all
shards exist they become ``FILE``, ``FILE.made-by.json`` describes it, and the folder is removed. So
the same command resumes an interrupted run, does nothing after a complete one, and refuses to mix.
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
from capetown.pools.model.manifest import MANIFEST_FILE, WEIGHTS_FILE
from capetown.pools.prediction.predictions import EMPTY, WRITERS
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

PROVENANCE = "provenance.json"
# Drifted tiles that a summary names.
EXAMPLES = 3


class Provenance(Section):
    """What predictions are made from: digests of the model and the inputs, and the version."""

    model: str
    inputs: str
    capetown: str


class Summary(Section):
    """Counts of predictions.

    Attributes:
        tiles: rows.
        pools: tiles with a pool, by the model's threshold.
        unreadable: tiles that cannot be read.
        drifted: tiles that differ from the training data.
        drift_examples: the first of these, each with how it differs.
        located: georeferenced tiles.
        location_errors: tiles with an unusable georeference.
        empty: windows without data, which have no row.
    """

    tiles: int = 0
    pools: int = 0
    unreadable: int = 0
    drifted: int = 0
    drift_examples: tuple[str, ...] = ()
    located: int = 0
    location_errors: int = 0
    empty: int = 0

    def plus(self, table: pa.Table) -> "Summary":
        """This summary with the rows of a shard added."""
        drifted = table.filter(table["drift"].is_valid())
        pairs = zip(drifted["path"].to_pylist(), drifted["drift"].to_pylist(), strict=True)
        examples = (*self.drift_examples, *(f"{path} ({drift})" for path, drift in pairs))
        return Summary(
            tiles=self.tiles + len(table),
            pools=self.pools + sum(value == "yes" for value in table["decision"].to_pylist()),
            unreadable=self.unreadable + _count(table, "error"),
            drifted=self.drifted + len(drifted),
            drift_examples=examples[:EXAMPLES],
            located=self.located + _count(table, "h3_index"),
            location_errors=self.location_errors + _count(table, "location_error"),
            empty=self.empty + int((table.schema.metadata or {}).get(EMPTY, 0)),
        )


class Manifest(Section):
    """What describes a complete output; the size is in bytes."""

    provenance: Provenance
    size: int
    summary: Summary


class CountingIterator:
    """Passes tables through and sums them up in `summary`."""

    def __init__(self, tables: Iterable[pa.Table]) -> None:
        self.summary = Summary()
        self._tables = tables

    def __iter__(self) -> Iterator[pa.Table]:
        for table in self._tables:
            self.summary = self.summary.plus(table)
            yield table


class Output:
    """An output, a ``.csv`` or ``.parquet`` path or URL, and the folder of its shards."""

    def __init__(self, out: str, provenance: Provenance, shards: int) -> None:
        self.out, self.provenance, self.shards = out, provenance, shards
        self.folder = f"{out}.parts"
        self.manifest_path = f"{out}.made-by.json"

    def completed(self) -> Summary | None:
        """The summary of a complete output; None if it has yet to be made.

        Raises:
            CapetownError: the file exists and was made from something else.
        """
        size = size_of(self.out)
        if size is None or _provenance_in(self.folder) == self.provenance:
            return None
        fix = "remove it, or name another --out"
        try:
            made = Manifest.model_validate_json(read_file(self.manifest_path))
        except (OSError, ValidationError):
            raise CapetownError("already exists", where=self.out, fix=fix) from None
        if made.provenance != self.provenance:
            how = _difference(made.provenance, self.provenance)
            raise CapetownError(f"already exists, made {how}", where=self.out, fix=fix)
        if made.size != size:
            raise CapetownError("was changed after it was made", where=self.out, fix=fix)
        return made.summary

    def start(self) -> set[int]:
        """Prepare the folder; the numbers of the shards it already has.

        Raises:
            CapetownError: it has shards made from something else, or cannot be written.
        """
        names = names_in(self.folder)
        there = {number for number in range(self.shards) if shard_name(number) in names}
        found = _provenance_in(self.folder)
        if found != self.provenance and (found or there):
            how = _difference(found, self.provenance) if found else "from unknown inputs"
            raise CapetownError(
                f"has shards of an interrupted run, made {how}", where=self.folder,
                fix="remove it to start again, or name another --out",
            )  # fmt: skip
        make_folder(self.folder)
        write_file(f"{self.folder}/{PROVENANCE}", _json(self.provenance))
        return there

    def finish(self, expected: int) -> Summary:
        """Join the shards, write the manifest and remove the folder.

        Args:
            expected: number of tiles, including windows without data.

        Raises:
            CapetownError: a shard cannot be read, or the output cannot be written.
        """
        counted = CountingIterator(read_shard(self.folder, n) for n in range(self.shards))
        fs, location = open_storage(self.out)
        try:
            with TemporaryDirectory() as scratch:
                here = Path(location) if is_local(fs) else Path(scratch, Path(location).name)
                with written_whole(here) as part, part.open("wb") as file:
                    WRITERS[Path(location).suffix](iter(counted), file)
                if not is_local(fs):
                    fs.put_file(str(here), location)
        except CapetownError:
            raise
        except Exception as error:  # each file system fails in its own way
            raise unwritable(self.out, error) from error
        summary = counted.summary
        if (found := summary.tiles + summary.empty) != expected:
            raise CapetownError(
                f"has {found} of {expected} tiles: a shard is damaged", where=self.out,
                fix=f"remove it and {self.folder}, then run the command again",
            )  # fmt: skip
        size = size_of(self.out) or 0
        made = Manifest(provenance=self.provenance, size=size, summary=summary)
        write_file(self.manifest_path, _json(made))
        remove_folder(self.folder)
        return summary


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"{number:06}.parquet"


def write_shard(folder: str, number: int, table: pa.Table) -> None:
    """Write a shard."""
    file = BytesIO()
    pq.write_table(table, file, compression="zstd")
    write_file(f"{folder}/{shard_name(number)}", file.getvalue())


def read_shard(folder: str, number: int) -> pa.Table:
    """Read a shard; a damaged or missing one is a `CapetownError`."""
    url = f"{folder}/{shard_name(number)}"
    try:
        return pq.read_table(BytesIO(read_file(url)))
    except (OSError, pa.ArrowException) as error:
        raise CapetownError(
            f"damaged or missing ({one_line(error)})", where=url,
            fix="remove it and run the command again",
        ) from error  # fmt: skip


def has_shard(folder: str, number: int) -> bool:
    """True if a shard exists."""
    return size_of(f"{folder}/{shard_name(number)}") is not None


def copy_model(model: str, folder: str) -> str:
    """Copy a local model's files into the folder of the shards, where remote workers find it."""
    copied = f"{folder}/model"
    make_folder(copied)
    for name in (WEIGHTS_FILE, MANIFEST_FILE):
        write_file(f"{copied}/{name}", Path(model, name).read_bytes())
    return copied


def _provenance_in(folder: str) -> Provenance | None:
    try:
        return Provenance.model_validate_json(read_file(f"{folder}/{PROVENANCE}"))
    except (OSError, ValidationError):
        return None


def _difference(found: Provenance, wanted: Provenance) -> str:
    if found.model != wanted.model:
        return "by another model"
    if found.capetown != wanted.capetown:
        return f"by capetown {found.capetown}, not {wanted.capetown}"
    return "from other inputs"


def _count(table: pa.Table, column: str) -> int:
    return len(table) - int(table[column].null_count)


def _json(value: Section) -> bytes:
    return (json.dumps(value.model_dump(), indent=2) + "\n").encode()
