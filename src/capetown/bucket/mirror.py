"""Mirror a source into a folder: every chosen object whole and verified, and nothing else.

Objects arrive in another folder, each under another name until it is whole and verified, and a
journal there lists them. When all are there they are moved into the mirror, which until then is as
it was, and an inventory stands for a mirror that is complete. Journal and inventory tell the
next run what it need not fetch again. The files are compared with their sha256, so that neither a
crash nor an edit goes unnoticed.
"""

import asyncio
import logging
import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from capetown.bucket.fetching import Fetcher, for_each, make_folders
from capetown.bucket.keys import (
    INVENTORY,
    MANIFESTS,
    TEMPORARY,
    check_keys,
    check_manifests,
    choose,
    is_credentials,
    some,
)
from capetown.bucket.planning import Plan
from capetown.bucket.progress import Progress
from capetown.bucket.retention import RetentionPolicy, find_existing
from capetown.bucket.retrying import ExhaustedError, failures, reason, retry
from capetown.bucket.sources import Object, ObjectStore, open_source
from capetown.bucket.verification import Entry, read_inventory, write_inventory
from capetown.errors import CapetownError
from capetown.params import Download

log = logging.getLogger("capetown")

JOURNAL = f"{TEMPORARY}journal"


def mirror(
    url: str,
    folder: Path,
    incoming: Path,
    settings: Download,
    keeping: RetentionPolicy | None = None,
) -> list[Entry]:
    """Make a folder hold the chosen objects of a source, and an inventory of them.

    What is there and whole is kept; what is not chosen, or no longer in the source, is removed.

    Args:
        url: a folder, ``s3://bucket/prefix`` or ``https://host/path``.
        folder: the mirror; made if need be.
        incoming: where objects arrive, on the same disk. It outlives a run that fails, and is
            removed by one that succeeds.
        settings: what to mirror, how to reach the source, and how often to try each request.
        keeping: how tiles are reduced, and what is compared; by default everything, as it comes.

    Returns:
        The inventory: an entry for each object, sorted by key.

    Raises:
        CapetownError: if the mirror cannot be made complete and verified. It stays as it was, and
            the next run goes on from what has arrived.
    """
    if "://" not in url:
        _check_apart(url, folder)
    keeping = keeping or RetentionPolicy()
    if keeping.checksums == "size":
        log.warning(
            "download.checksums is size: bytes that changed on the way go unnoticed where the "
            "size is right and the file can still be read"
        )
    try:
        return asyncio.run(_mirror(url, folder, incoming, settings, keeping))
    except OSError as error:
        raise CapetownError(
            f"{error.filename or folder}: {error.strerror or reason(error)}."
        ) from error


async def _mirror(
    url: str,
    folder: Path,
    incoming: Path,
    settings: Download,
    keeping: RetentionPolicy,
) -> list[Entry]:
    async with open_source(url, settings) as source:
        items = await describe(source, url, settings)
        journal = read_inventory(incoming / JOURNAL)
        known = read_inventory(folder / INVENTORY) or journal
        kept, originals = await asyncio.to_thread(find_existing, folder, items, known, keeping)
        rest = [item for item in items if item.key not in kept]
        strays = _strays(folder, {item.key for item in items})
        places = {item.key: folder if item.key in kept else incoming for item in items}
        arrived, waiting = await asyncio.to_thread(find_existing, incoming, rest, journal, keeping)
        missing = [item for item in rest if item.key not in arrived]
        entries = [*kept.values(), *arrived.values()]
        plan = Plan(items, missing, originals | waiting, known | journal, keeping)
        if rest or strays or not (folder / INVENTORY).exists():
            _prepare(incoming, plan, entries, [*arrived, *waiting])
            entries += await _fetch(source, incoming, plan, places, settings)
            _settle(incoming, folder, [item.key for item in rest], strays, entries)
        else:
            compare_manifests(places, settings)
            shutil.rmtree(incoming, ignore_errors=True)
            if entries != list(known.values()):
                write_inventory(folder / INVENTORY, entries, folder / f"{TEMPORARY}inventory")
    log.info(
        "%d objects, %.1f MB, kept in %.1f MB; %d (%.1f MB) fetched, %d removed",
        *(len(entries), plan.size(items) / 1e6, sum(entry.kept_size for entry in entries) / 1e6),
        *(len(plan.fetched), plan.size(plan.fetched) / 1e6, len(strays)),
    )
    return sorted(entries, key=lambda entry: entry.key)


async def describe(source: ObjectStore, url: str, settings: Download) -> list[Object]:
    """The chosen objects of a source, sorted by key.

    Raises:
        CapetownError: if it cannot be listed, or nothing or something unsafe is chosen.
    """
    try:
        everything = await retry(lambda: source.keys(settings.include), settings.tries, _log_retry)
    except failures() as error:
        if isinstance(error, CapetownError) and not isinstance(error, ExhaustedError):
            raise
        hints: dict[type[Exception], str] = {
            PermissionError: "; it may want credentials: see download.credentials",
            FileNotFoundError: "; correct download.source",
        }
        hint = hints.get(type(error), "")
        raise CapetownError(f"{url}: cannot be listed: {reason(error)}{hint}.") from error
    keys = choose(everything, settings.include, settings.max_tiles)
    check_keys(keys)
    if secret := sorted(set(filter(is_credentials, everything)) - set(keys)):
        log.info("left out, as credentials by their names: %s", some(secret, 5))
    items: list[Object] = []

    async def look(key: str) -> None:
        items.append(await retry(lambda: source.describe(key), settings.tries, _log_retry))

    await for_each(keys, look, settings.connections, str)
    return sorted(items, key=lambda item: item.key)


def _prepare(incoming: Path, plan: Plan, whole: Sequence[Entry], arrived: Collection[str]) -> None:
    """Make the folder where what is missing arrives, and the journal of what is whole."""
    incoming.mkdir(parents=True, exist_ok=True)
    plan.announce(incoming)
    _remove(incoming, _strays(incoming, arrived))
    write_inventory(incoming / JOURNAL, whole, incoming / f"{JOURNAL}-new")
    make_folders(incoming, (item.key for item in plan.missing))


async def _fetch(
    source: ObjectStore,
    incoming: Path,
    plan: Plan,
    places: dict[str, Path],
    settings: Download,
) -> list[Entry]:
    """Fetch objects, manifests first, and return their entries."""
    limit = asyncio.Semaphore(settings.connections)
    with (
        (incoming / JOURNAL).open("a", encoding="utf-8") as journal,
        Progress(len(plan.missing), plan.size(plan.fetched)) as progress,
    ):
        fetcher = Fetcher(
            source, incoming, settings.tries, limit, journal, progress, plan.keeping, plan.originals
        )
        manifests = [item for item in plan.missing if item.key in MANIFESTS]
        await for_each(manifests, fetcher.fetch, settings.connections, _key)
        compare_manifests(places, settings)
        # The largest first, so that none is left over when the others are done.
        others = sorted(set(plan.missing) - set(manifests), key=lambda item: (-item.size, item.key))
        await for_each(others, fetcher.fetch, settings.connections, _key)
    return list(fetcher.done.values())


def _settle(
    incoming: Path,
    folder: Path,
    keys: Sequence[str],
    strays: Sequence[Path],
    entries: Sequence[Entry],
) -> None:
    """Move what arrived into the mirror. The inventory goes first and comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INVENTORY).unlink(missing_ok=True)
    _remove(folder, strays)
    make_folders(folder, keys)
    for key in keys:
        (incoming / key).replace(folder / key)
    write_inventory(folder / INVENTORY, entries, folder / f"{TEMPORARY}inventory")
    shutil.rmtree(incoming)


def compare_manifests(places: dict[str, Path], settings: Download) -> None:
    """Check chosen keys against their manifests, and warn of tiles that these do not name.

    Args:
        places: the folder that holds each key.
        settings: how they were chosen.

    Raises:
        CapetownError: see `capetown.bucket.keys.check_manifests`.
    """
    manifests = {key: (places[key] / key).read_bytes() for key in MANIFESTS if key in places}
    extra = check_manifests(places.keys(), manifests, settings.include, settings.max_tiles)
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
    for root in sorted(
        (p for p in folder.rglob("*") if p.is_dir() and not p.is_symlink()), reverse=True
    ):
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
