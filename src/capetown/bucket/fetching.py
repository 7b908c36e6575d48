"""Fetch objects, many at once, each verified under another name and then renamed."""

import asyncio
import errno
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TextIO, TypeVar

from capetown.bucket.keys import TEMPORARY
from capetown.bucket.progress import Progress
from capetown.bucket.retention import RetentionPolicy, downsampled, verify
from capetown.bucket.retrying import DamagedError, failures, reason, retry
from capetown.bucket.sources import RANGE, Object, ObjectStore
from capetown.bucket.verification import Entry, is_md5, to_csv
from capetown.errors import CapetownError

log = logging.getLogger("capetown")
T = TypeVar("T")

# So many failures in a row, or as many as workers, mean that the rest would fail as well.
HOPELESS = 10


@dataclass
class Fetcher:
    """Fetches objects of a source into a folder.

    Attributes:
        source: where they come from.
        folder: where they arrive.
        tries: how often to try each request, at most.
        limit: of how many transfers run at once.
        journal: gets a line for each object as soon as it is in its place.
        progress: gets told.
        keeping: what is kept of them.
        originals: files of those that are at hand as they came, and only have to be reduced.
        done: the objects that are in their places, by key.
    """

    source: ObjectStore
    folder: Path
    tries: int
    limit: asyncio.Semaphore
    journal: TextIO
    progress: Progress
    keeping: RetentionPolicy
    originals: Mapping[str, Path]
    done: dict[str, Entry] = field(default_factory=dict)

    async def fetch(self, item: Object) -> None:
        """Fetch an object, put what is kept of it in its place and write it into the journal.

        Raises:
            CapetownError: if it does not arrive whole in `tries` tries, or is not of its kind.
            OSError: if it cannot be had or written.
        """
        path = self.folder / item.key
        temporary = path.with_name(f"{TEMPORARY}{id(item)}")
        try:
            entry = await retry(
                lambda: self._fetch_once(item, temporary), self.tries, self.progress.retried
            )
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if entry.note:
            log.warning("%s: %s", entry.key, entry.note)
        self.done[item.key] = entry
        self.journal.write(to_csv([entry]))
        self.journal.flush()
        self.progress.finish()

    async def _fetch_once(self, item: Object, path: Path) -> Entry:
        arrived = 0

        def advance(size: int) -> None:
            nonlocal arrived
            arrived += size
            self.progress.advance(size)

        try:
            if original := self.originals.get(item.key):
                data = await asyncio.to_thread(original.read_bytes)
                return await self._keep(item, data, path)
            if item.size <= RANGE:
                async with self.limit:
                    data = await self.source.read(item)
                advance(len(data))
                return await self._keep(item, data, path)
            if self.source.ranged:
                await self._fetch_ranges(item, path, advance)
            else:
                async with self.limit:
                    await self.source.fetch(item, path, advance)
            entry = await self._keep_file(item, path)
            if self.source.ranged and not is_md5(item.etag):
                await self._check_current(item)
        except BaseException:
            self.progress.advance(-arrived)
            raise
        return entry

    async def _check_current(self, item: Object) -> None:
        """Check that the ranges of an object were all of the version that was described."""
        if not await self.source.is_current(item):
            raise DamagedError("it changed while it was fetched")

    async def _keep(self, item: Object, data: bytes, path: Path) -> Entry:
        """Verify an object's bytes and write what is kept of them."""
        entry, md5, fault = await asyncio.to_thread(verify, item, BytesIO(data))
        await self._verify(item, md5, fault)
        return await asyncio.to_thread(self._write, entry, data, path)

    async def _keep_file(self, item: Object, path: Path) -> Entry:
        """Verify a large object's file, and replace it by what is kept of it."""
        with path.open("rb") as file:
            entry, md5, fault = await asyncio.to_thread(verify, item, file)
        await self._verify(item, md5, fault)
        if self.keeping.side_of(item.key) is None:
            return entry
        return await asyncio.to_thread(lambda: self._write(entry, path.read_bytes(), path))

    def _write(self, entry: Entry, data: bytes, path: Path) -> Entry:
        entry, kept = downsampled(entry, data, self.keeping)
        path.write_bytes(kept)
        return entry

    async def _verify(self, item: Object, md5: str, fault: CapetownError | None) -> None:
        """Check what came against its ETag, and its content.

        Raises:
            DamagedError: if it is not what the source holds, or may not be.
            CapetownError: if it is, and is not of the kind that its key says.
        """
        if self.keeping.has_md5(item.etag) and md5 != item.etag and await self.source.has_md5(item):
            raise DamagedError(
                f"its MD5 is {md5} and its ETag says {item.etag}; if that is so of all objects, "
                "this server's ETags are no MD5s: set download.checksums to size"
            )
        if fault:
            raise fault if md5 == item.etag else DamagedError(str(fault))

    async def _fetch_ranges(self, item: Object, path: Path, advance: Callable[[int], None]) -> None:
        with path.open("wb") as file:

            async def fetch(start: int) -> None:
                data = await retry(
                    lambda: self._fetch_range(item, start), self.tries, self.progress.retried
                )
                os.pwrite(file.fileno(), data, start)
                advance(len(data))

            tasks = [asyncio.create_task(fetch(start)) for start in range(0, item.size, RANGE)]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch_range(self, item: Object, start: int) -> bytes:
        async with self.limit:
            return await self.source.fetch_range(item, start, min(start + RANGE, item.size))


async def for_each(
    items: Collection[T],
    action: Callable[[T], Awaitable[None]],
    workers: int,
    name: Callable[[T], str],
) -> None:
    """Do something with each item, several at a time, and go on when some of them fail.

    Raises:
        CapetownError: if it failed for some; names each of them. At once if the disk is full.
    """
    queue = iter(items)
    full: OSError | None = None
    failed: dict[str, str] = {}
    streak = 0

    async def work() -> None:
        nonlocal streak, full
        while streak < max(HOPELESS, workers) and full is None:
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
    if full is not None:
        raise CapetownError(
            f"{full.filename or 'the disk'}: {full.strerror}; make room and run the same command "
            "again to go on: what is whole stays."
        )
    if failed:
        lines = [f"{key} ({failed[key]})" for key in sorted(failed)]
        untried = len(list(queue))
        stopped = f" and {untried} were not tried after so many failures" if untried else ""
        raise CapetownError(
            f"{len(failed)} of {len(items)} objects could not be fetched{stopped}: "
            f"{'; '.join(lines)}. What is whole stays: run the same command again to go on, or "
            "leave an object out by adding '!' and its key to download.include."
        )


def make_folders(folder: Path, keys: Iterable[str]) -> None:
    """Make the folders in which objects have their places.

    Raises:
        CapetownError: if one is a link that leads out of the mirror.
    """
    for parent in sorted({(folder / key).parent for key in keys}):
        parent.mkdir(parents=True, exist_ok=True)
        if not parent.resolve().is_relative_to(folder.resolve()):
            raise CapetownError(f"{parent} is a link that leads out of {folder}; remove it.")
