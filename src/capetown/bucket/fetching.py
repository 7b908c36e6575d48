"""Fetch objects, many at once, each verified under another name and then renamed."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO, TypeVar

from capetown.bucket.keys import TEMPORARY
from capetown.bucket.progress import Progress
from capetown.bucket.retrying import DamagedError, failures, reason, retry
from capetown.bucket.sources import RANGE, Object, Source
from capetown.bucket.verification import Entry, check_content, digest, is_md5, to_csv
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
        done: the objects that are in their places, by key.
    """

    source: Source
    folder: Path
    tries: int
    limit: asyncio.Semaphore
    journal: TextIO
    progress: Progress
    done: dict[str, Entry] = field(default_factory=dict)

    async def fetch(self, item: Object) -> None:
        """Fetch an object, put it in its place and write it into the journal.

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
            in_ranges = self.source.ranged and item.size > RANGE
            if in_ranges:
                await self._fetch_ranges(item, path, advance)
            else:
                async with self.limit:
                    await self.source.fetch(item, path, advance)
            entry = await self._verify(item, path)
            if in_ranges and not is_md5(item.etag) and not await self.source.is_current(item):
                raise DamagedError("it changed while it was fetched")  # noqa: TRY301
        except BaseException:
            self.progress.advance(-arrived)
            raise
        self.progress.advance(item.size - arrived)
        return entry

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

    async def _verify(self, item: Object, path: Path) -> Entry:
        """Check a fetched file, and say what it is.

        Raises:
            DamagedError: if it is not what the source holds, or may not be.
            CapetownError: if it is, and is not of the kind that its key says.
        """
        if item.size <= RANGE:  # a thread would take longer to wake than this does
            entry, md5, fault = _examine(item, path)
        else:
            entry, md5, fault = await asyncio.to_thread(_examine, item, path)
        if is_md5(item.etag) and md5 != item.etag and await self.source.has_md5(item):
            raise DamagedError(f"its MD5 is {md5} and its ETag says {item.etag}")
        if fault:
            raise fault if md5 == item.etag else DamagedError(str(fault))
        return entry


def already_whole(
    folder: Path, items: Iterable[Object], known: dict[str, Entry]
) -> dict[str, Entry]:
    """Which objects a folder already holds whole, by key.

    Args:
        folder: the mirror.
        items: the objects as their source describes them.
        known: what was whole by an earlier run's account. An object that it does not name counts
            as whole only if its ETag is an MD5 and that of the file.
    """
    entries = (_entry_if_whole(folder / item.key, item, known.get(item.key)) for item in items)
    return {entry.key: entry for entry in entries if entry}


async def for_each(
    items: Collection[T],
    action: Callable[[T], Awaitable[None]],
    workers: int,
    name: Callable[[T], str],
) -> None:
    """Do something with each item, several at a time, and go on when some of them fail.

    Raises:
        CapetownError: if it failed for some; names each of them.
    """
    queue = iter(items)
    failed: dict[str, str] = {}
    streak = 0

    async def work() -> None:
        nonlocal streak
        while streak < max(HOPELESS, workers):
            try:
                item = next(queue)
            except StopIteration:
                return
            try:
                await action(item)
                streak = 0
            except failures() as error:
                streak += 1
                failed[name(item)] = reason(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(workers, len(items))):
            group.create_task(work())
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


def _examine(item: Object, path: Path) -> tuple[Entry, str, CapetownError | None]:
    """What a file is, its MD5, and what is wrong with its content if something is."""
    if (size := path.stat().st_size) != item.size:
        raise DamagedError(f"{size} bytes came of {item.size}")
    entry, md5 = _hashes(item, path)
    try:
        check_content(item.key, path)
    except CapetownError as error:
        return entry, md5, error
    return entry, md5, None


def _hashes(item: Object, path: Path) -> tuple[Entry, str]:
    entry = Entry(item.key, item.size, item.etag, digest(path, "sha256"))
    return entry, digest(path, "md5")


def _entry_if_whole(path: Path, item: Object, known: Entry | None) -> Entry | None:
    if not path.is_file() or path.stat().st_size != item.size:
        return None
    if known and item.etag and (known.size, known.etag) == (item.size, item.etag):
        return known if digest(path, "sha256") == known.sha256 else None
    if is_md5(item.etag):
        entry, md5 = _hashes(item, path)
        return entry if md5 == item.etag else None
    return None
