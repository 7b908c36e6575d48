"""An output and its shards: resumable, whole or absent, and never mixed from different inputs.

``FILE.parts/`` holds ``provenance.json`` and one Parquet file per shard of the input. When all
shards exist they become ``FILE``, ``FILE.made-by.json`` describes it, and the folder is removed. So
the same command resumes an interrupted run, does nothing after a complete one, and refuses to mix.

A run locks ``FILE.lock``, so that a second one with the same output stops at once. The system frees
the lock when the process ends, however it ends, and process numbers play no role. Buckets have no
locks: two runs into one at the same time are not noticed. Each writes the same shards, and the last
to finish may report a missing one.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from capetown.errors import CapetownError, one_line
from capetown.layers import write_layer
from capetown.params import Section
from capetown.pools.model.manifest import MANIFEST_FILE, WEIGHTS_FILE
from capetown.pools.prediction.predictions import EMPTY, LAYER, SCHEMA
from capetown.storage import (
    check_replaceable,
    is_local,
    make_folder,
    names_in,
    open_storage,
    read_file,
    remove_folder,
    size_of,
    unwritable,
    write_file,
)

PROVENANCE = "provenance.json"
# Drifted tiles that a summary names.
EXAMPLES = 3
S = TypeVar("S", bound=Section)


class Provenance(Section):
    """What predictions are made from: digests of the model and the inputs, and the version."""

    model: str
    inputs: str
    capetown: str


class Summary(Section):
    """Counts of tiles; `empty` counts the windows with little data, which have no row."""

    tiles: int = 0
    pools: int = 0
    unreadable: int = 0
    drifted: int = 0
    drift_examples: tuple[str, ...] = ()
    located: int = 0
    located_by_name: int = 0
    location_errors: int = 0
    empty: int = 0

    def plus(self, table: pa.Table) -> "Summary":
        """This summary with the rows of a shard added."""
        rows = table.filter(table["drift"].is_valid()).select(["path", "drift"]).to_pylist()
        drifted = [f"{row['path']} ({row['drift']})" for row in rows]

        def count(column: str) -> int:
            return len(table) - int(table[column].null_count)

        return Summary(
            tiles=self.tiles + len(table),
            pools=self.pools + table["decision"].to_pylist().count("yes"),
            unreadable=self.unreadable + count("error"),
            drifted=self.drifted + len(drifted),
            drift_examples=(*self.drift_examples, *drifted)[:EXAMPLES],
            located=self.located + count("h3_index"),
            located_by_name=self.located_by_name
            + table["location_source"].to_pylist().count("name"),
            location_errors=self.location_errors + count("location_error"),
            empty=self.empty + int((table.schema.metadata or {}).get(EMPTY, 0)),
        )


class Manifest(Section):
    """Describes a complete output; the size is in bytes."""

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
    """An output, a path or URL, and the folder of its shards."""

    def __init__(self, out: str, provenance: Provenance, shards: int) -> None:
        self.out, self.provenance, self.shards = out, provenance, shards
        self.folder = f"{out}.parts"
        self.manifest_path = f"{out}.made-by.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs away from a local output. Some network file systems have no locks.

        Raises:
            CapetownError: another run has this output, or its folder cannot be written.
        """
        fs, location = open_storage(f"{self.out}.lock")
        if not is_local(fs):
            yield
            return
        lock = Path(location)
        check_replaceable(lock)
        with ExitStack() as stack:
            while True:
                try:
                    file = stack.enter_context(lock.open("a+"))
                except OSError as error:
                    raise unwritable(self.out, error) from error
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    file.seek(0)
                    raise CapetownError(
                        f"another run is making it ({file.read().strip() or 'just started'})",
                        where=self.out, fix="wait for it, or name another --out",
                    ) from error  # fmt: skip
                except OSError:  # no locks here
                    break
                # A run that ended in between has removed the file, and a third may have made one.
                if lock.exists() and os.path.samestat(lock.stat(), os.fstat(file.fileno())):
                    break
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)

    def completed(self) -> Summary | None:
        """The summary of a complete output, None without one; `CapetownError` for another one."""
        size = size_of(self.out)
        if size is None or _read(Provenance, f"{self.folder}/{PROVENANCE}") == self.provenance:
            return None
        made = _read(Manifest, self.manifest_path)
        if made and made.provenance == self.provenance and made.size == size:
            return made.summary
        if not made:
            what = "already exists"
        elif made.provenance != self.provenance:
            what = f"already exists, made {_difference(made.provenance, self.provenance)}"
        else:
            what = "was changed after it was made"
        raise CapetownError(what, where=self.out, fix="remove it, or name another --out")

    def start(self) -> set[int]:
        """Prepare the folder; the numbers of its shards. `CapetownError` if they are others."""
        names = {f"{self.folder}/{name}" for name in names_in(self.folder)}
        there = {n for n in range(self.shards) if shard_path(self.folder, n) in names}
        found = _read(Provenance, f"{self.folder}/{PROVENANCE}")
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
        """Join the shards of so many tiles and windows, and remove their folder.

        Raises:
            CapetownError: a shard cannot be read, or the output cannot be written.
        """
        counted = CountingIterator(read_shard(self.folder, n) for n in range(self.shards))
        fs, location = open_storage(self.out)
        try:
            with TemporaryDirectory() as scratch:
                here = Path(location) if is_local(fs) else Path(scratch, Path(location).name)
                write_layer(counted, SCHEMA, here, LAYER)
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


def shard_path(folder: str, number: int) -> str:
    """The path or URL of a shard."""
    return f"{folder}/{number:06}.parquet"


def write_shard(folder: str, number: int, table: pa.Table) -> None:
    """Write a shard."""
    file = BytesIO()
    pq.write_table(table, file, compression="zstd")
    write_file(shard_path(folder, number), file.getvalue())


def read_shard(folder: str, number: int) -> pa.Table:
    """Read a shard; a damaged or missing one is a `CapetownError`."""
    url = shard_path(folder, number)
    try:
        return pq.read_table(BytesIO(read_file(url)))
    except (OSError, pa.ArrowException) as error:
        raise CapetownError(
            f"damaged or missing ({one_line(error)})", where=url,
            fix="remove it and run the command again",
        ) from error  # fmt: skip


def copy_model(model: str, folder: str) -> str:
    """Copy a local model's files into the folder of the shards, where remote workers find it."""
    copied = f"{folder}/model"
    make_folder(copied)
    for name in (WEIGHTS_FILE, MANIFEST_FILE):
        write_file(f"{copied}/{name}", Path(model, name).read_bytes())
    return copied


def _read(kind: type[S], url: str) -> S | None:
    try:
        return kind.model_validate_json(read_file(url))
    except (OSError, ValidationError):
        return None


def _difference(found: Provenance, wanted: Provenance) -> str:
    if found.model != wanted.model:
        return "by another model"
    if found.capetown != wanted.capetown:
        return f"by capetown {found.capetown}, not {wanted.capetown}"
    return "from other inputs"


def _json(value: Section) -> bytes:
    return (json.dumps(value.model_dump(), indent=2) + "\n").encode()
