"""Fetch objects in parallel. Each is verified under a temporary name and then renamed."""

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, TextIO, TypeVar

from capetown.bucket.keys import TEMPORARY
from capetown.bucket.retention import RetentionPolicy, downsample, verify
from capetown.bucket.retrying import DamagedError, failures, reason, retry
from capetown.bucket.sources import Object, ObjectStore
from capetown.bucket.verification import Entry, File, is_md5, to_csv
from capetown.errors import CapetownError

log = logging.getLogger("capetown")
T = TypeVar("T")

# The run stops after this many failures in a row, or after one per worker if that is more.
MAX_FAILURES_IN_A_ROW = 10
# Larger objects are streamed to the disk. The City's tiles have about 4 MB.
LARGEST_IN_MEMORY = 8 << 20


@dataclass
class Fetcher:
    """Fetches objects into a folder. `done` has the entries of whole objects."""

    store: ObjectStore
    folder: Path
    tries: int
    policy: RetentionPolicy
    originals: Mapping[str, Path]  # the files of objects that are already here, unreduced
    journal: TextIO  # gets a line for each object as soon as it is whole
    bar: Any  # counts bytes
    done: list[Entry] = field(default_factory=list)

    async def fetch(self, item: Object) -> None:
        """Fetch an object, reduce it if asked, and add it to the journal."""
        path = self.folder / item.key
        temporary = path.with_name(f"{TEMPORARY}{id(item)}")
        try:
            entry = await retry(lambda: self._fetch_once(item, temporary), self.tries)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if entry.note:
            log.warning("%s: %s", entry.key, entry.note)
        self.done.append(entry)
        self.journal.write(to_csv([entry]))
        self.journal.flush()
        if item.key not in self.originals:
            self.bar.update(item.size)

    async def _fetch_once(self, item: Object, path: Path) -> Entry:
        in_memory = item.size <= LARGEST_IN_MEMORY or self.policy.side_of(item.key) is not None
        if original := self.originals.get(item.key):
            data = await asyncio.to_thread(original.read_bytes)
        elif in_memory:
            data = await self.store.read(item)
        else:
            await self.store.stream(item, path)
            with path.open("rb") as file:
                return await self._verify(item, file)
        entry = await self._verify(item, BytesIO(data))
        return await asyncio.to_thread(self._write, entry, data, path)

    def _write(self, entry: Entry, data: bytes, path: Path) -> Entry:
        entry, kept = downsample(entry, data, self.policy)
        path.write_bytes(kept)
        return entry

    async def _verify(self, item: Object, file: File) -> Entry:
        """Check an object. `DamagedError`: another try may help. `CapetownError`: it cannot."""
        entry, md5, fault = await asyncio.to_thread(verify, item, file)
        if self.policy.trusts(item.etag):
            if md5 != item.etag and await self.store.etag_is_md5(item):
                raise DamagedError(
                    f"its MD5 is {md5} and its ETag says {item.etag}; if all objects differ, the "
                    "server's ETags are not MD5s: set download.checksums to size"
                )
        elif not is_md5(item.etag) and not await self.store.is_unchanged(item):
            raise DamagedError("it changed while it was fetched")
        if fault:
            raise fault if md5 == item.etag else DamagedError(str(fault))
        return entry


async def for_each(
    items: Collection[T],
    action: Callable[[T], Awaitable[None]],
    workers: int,
    name: Callable[[T], str],
) -> None:
    """Do something with each item, several at a time. Failures do not stop the others.

    Raises:
        CapetownError: some items failed; it names each. A full disk is raised at once.
    """
    queue = iter(items)
    full: OSError | None = None
    failed: dict[str, str] = {}
    streak = 0

    async def work() -> None:
        nonlocal streak, full
        while streak < max(MAX_FAILURES_IN_A_ROW, workers) and full is None:
            try:
                item = next(queue)
            except StopIteration:
                return
            try:
                await action(item)
                streak = 0
            except failures() as error:
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    full = error
                    return
                streak += 1
                failed[name(item)] = reason(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(workers, len(items))):
            group.create_task(work())
    resume = "run the same command again to go on (whole files are kept)"
    if full is not None:
        where = full.filename or "the disk"
        raise CapetownError(str(full.strerror), where=where, fix=f"make room and {resume}")
    if failed:
        reasons = "; ".join(f"{key} ({failed[key]})" for key in sorted(failed))
        untried = len(list(queue))
        stopped = f", and {untried} were not tried after so many failures" if untried else ""
        raise CapetownError(
            f"{len(failed)} of {len(items)} objects could not be fetched{stopped}: {reasons}",
            fix=f"{resume}, or exclude an object by adding '!' and its key to download.requests or "
            "download.tiles",
        )
