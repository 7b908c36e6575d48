"""Mirror a source into a folder: every chosen object whole and verified, and nothing else.

An object is written beside its place and renamed when it is whole and verified. While a mirror is
incomplete, a journal lists what is whole and there is no inventory; an inventory stands for a
mirror that is complete. Either tells the next run what it need not fetch again. The files are
compared with their sha256, so that neither a crash nor an edit goes unnoticed.
"""

import asyncio
import logging
import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from capetown.bucket.fetching import Fetcher, for_each, keep, make_folders
from capetown.bucket.keys import (
    INVENTORY,
    MANIFESTS,
    TEMPORARY,
    check_keys,
    check_manifests,
    choose,
    some,
)
from capetown.bucket.progress import Progress
from capetown.bucket.retrying import ExhaustedError, failures, reason, retry
from capetown.bucket.sources import Access, Object, Source, open_source
from capetown.bucket.verification import Entry, read_inventory, write_inventory
from capetown.errors import CapetownError

log = logging.getLogger("capetown")

JOURNAL = f"{TEMPORARY}journal"


@dataclass(frozen=True)
class Selection:
    """What to mirror of a source; see `capetown.bucket.keys.choose`."""

    include: Sequence[str] = ("**",)
    max_tiles: int | None = None


def mirror(url: str, folder: Path, selection: Selection, access: Access, tries: int) -> list[Entry]:
    """Make a folder hold the chosen objects of a source, and an inventory of them.

    What is there and whole is kept; what is not chosen, or no longer in the source, is removed.

    Args:
        url: a folder, ``s3://bucket/prefix`` or ``https://host/path``.
        folder: the mirror; made if need be.
        selection: what to mirror.
        access: how to reach the source.
        tries: how often to try each request, at most.

    Returns:
        The inventory: an entry for each object, sorted by key.

    Raises:
        CapetownError: if the mirror cannot be made complete and verified. What is whole stays, and
            the next run goes on from there.
    """
    if "://" not in url:
        _check_apart(url, folder)
    try:
        return asyncio.run(_mirror(url, folder, selection, access, tries))
    except OSError as error:
        raise CapetownError(
            f"{error.filename or folder}: {error.strerror or reason(error)}."
        ) from error


async def _mirror(
    url: str, folder: Path, selection: Selection, access: Access, tries: int
) -> list[Entry]:
    async with open_source(url, access) as source:
        items = await _describe(source, url, selection, access.connections, tries)
        folder.mkdir(parents=True, exist_ok=True)
        known = read_inventory(folder / INVENTORY) | read_inventory(folder / JOURNAL)
        kept = await asyncio.to_thread(keep, folder, items, known)
        strays = _strays(folder, {item.key for item in items})
        if len(kept) == len(items) and not strays and (folder / INVENTORY).exists():
            _check_manifests(folder, items, selection)
            entries = list(kept.values())
        else:
            entries = await _complete(source, folder, selection, items, kept, access, tries)
            _remove(folder, strays)
            write_inventory(folder / INVENTORY, entries, folder / f"{JOURNAL}-new")
            (folder / JOURNAL).unlink()
    fetched = [item.size for item in items if item.key not in kept]
    log.info(
        "%d objects, %.1f MB; %d (%.1f MB) fetched, %d removed",
        *(len(items), sum(i.size for i in items) / 1e6),
        *(len(fetched), sum(fetched) / 1e6, len(strays)),
    )
    return sorted(entries)


async def _describe(
    source: Source, url: str, selection: Selection, connections: int, tries: int
) -> list[Object]:
    """The chosen objects, sorted by key."""
    try:
        everything = await retry(lambda: source.keys(selection.include), tries, _log_retry)
    except failures() as error:
        if isinstance(error, CapetownError) and not isinstance(error, ExhaustedError):
            raise
        hints: dict[type[Exception], str] = {
            PermissionError: "; it may want credentials: see download.credentials",
            FileNotFoundError: "; correct download.source",
        }
        hint = hints.get(type(error), "")
        raise CapetownError(f"{url}: cannot be listed: {reason(error)}{hint}.") from error
    keys = choose(everything, selection.include, selection.max_tiles)
    check_keys(keys)
    items: list[Object] = []

    async def describe(key: str) -> None:
        items.append(await retry(lambda: source.describe(key), tries, _log_retry))

    await for_each(keys, describe, connections, str)
    return sorted(items, key=lambda item: item.key)


async def _complete(
    source: Source,
    folder: Path,
    selection: Selection,
    items: Sequence[Object],
    kept: dict[str, Entry],
    access: Access,
    tries: int,
) -> list[Entry]:
    """Fetch what is not kept, manifests first, and return the entries of everything."""
    rest = [item for item in items if item.key not in kept]
    size = sum(item.size for item in rest)
    if size > (free := shutil.disk_usage(folder).free):
        raise CapetownError(
            f"{folder}: {size / 1e6:.0f} MB are to be fetched and {free / 1e6:.0f} MB are free; "
            "make room, or choose less with download.include or download.max_tiles."
        )
    write_inventory(folder / JOURNAL, kept.values(), folder / f"{JOURNAL}-new")
    (folder / INVENTORY).unlink(missing_ok=True)
    make_folders(folder, (item.key for item in rest))
    limit = asyncio.Semaphore(access.connections)
    with (
        (folder / JOURNAL).open("a", encoding="utf-8") as journal,
        Progress(len(rest), size) as progress,
    ):
        fetcher = Fetcher(source, folder, tries, limit, journal, progress)
        manifests = [item for item in rest if item.key in MANIFESTS]
        await for_each(manifests, fetcher.fetch, access.connections, _key)
        _check_manifests(folder, items, selection)
        # The largest first, so that none is left over when the others are done.
        others = sorted(set(rest) - set(manifests), key=lambda item: (-item.size, item.key))
        await for_each(others, fetcher.fetch, access.connections, _key)
    return [*kept.values(), *fetcher.done.values()]


def _check_manifests(folder: Path, items: Sequence[Object], selection: Selection) -> None:
    chosen = {item.key for item in items}
    manifests = {
        key: (folder / key).read_text(encoding="utf-8", errors="replace")
        for key in MANIFESTS
        if key in chosen
    }
    extra = check_manifests(chosen, manifests, selection.include, selection.max_tiles)
    if extra:
        log.warning("%d tiles that no manifest names: %s", len(extra), some(extra, 20))


def _strays(folder: Path, keys: Collection[str]) -> list[Path]:
    """Files of a mirror that are no object of it: what left the bucket, and what a run left."""
    own = {INVENTORY, JOURNAL}
    files = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return sorted(p for p in files if p.relative_to(folder).as_posix() not in {*own, *keys})


def _remove(folder: Path, strays: Sequence[Path]) -> None:
    """Remove files, and the folders that are empty then."""
    for path in strays:
        path.unlink()
    for root in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
        if not any(root.iterdir()):
            root.rmdir()


def _check_apart(url: str, folder: Path) -> None:
    source, target = Path(url).resolve(), folder.resolve()
    if source.is_relative_to(target) or target.is_relative_to(source):
        raise CapetownError(
            f"download.source: {url} and the mirror {folder} lie within each other; name another."
        )


def _log_retry() -> None:
    log.info("the source does not answer as it should; trying again")


def _key(item: Object) -> str:
    return item.key
