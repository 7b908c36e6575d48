"""Mirror a source into a folder: every chosen object whole and verified, and nothing else.

Objects arrive in another folder, where a journal lists the whole ones. When all have arrived they
move into the mirror, which stays untouched until then. Its inventory exists only if the mirror is
complete. Journal and inventory tell the next run which files it need not fetch again. It compares
their sha256, so it notices both crashes and edits.
"""

import asyncio
import logging
import os
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path

from tqdm import tqdm

from capetown.bucket.fetching import Fetcher, for_each
from capetown.bucket.keys import (
    INVENTORY,
    MANIFESTS,
    TEMPORARY,
    Choice,
    check_keys,
    check_manifests,
    choose,
    is_credentials,
    some,
)
from capetown.bucket.retention import RetentionPolicy, find_existing
from capetown.bucket.retrying import ExhaustedError, failures, reason, retry
from capetown.bucket.sources import Object, ObjectStore, open_store
from capetown.bucket.verification import Entry, read_inventory, write_inventory
from capetown.errors import CapetownError
from capetown.params import Download

log = logging.getLogger("capetown")

JOURNAL = f"{TEMPORARY}journal"
_key = attrgetter("key")


def mirror(
    url: str,
    folder: Path,
    incoming: Path,
    settings: Download,
    choice: Choice,
    policy: RetentionPolicy | None = None,
) -> None:
    """Make a folder contain the chosen objects of a source, and an inventory of them.

    Whole files are kept. Files that are not chosen, or no longer in the source, are removed. Other
    subfolders than that of the choice are left alone. A choice without patterns empties its own.

    Args:
        url: a folder, ``s3://bucket/prefix`` or ``https://host/path``.
        folder: the mirror.
        incoming: where objects arrive, on the same disk. A failing run leaves it for the next one,
            a successful one removes it.
        settings: how to connect.
        choice: the objects.
        policy: how objects are verified and reduced. By default they are kept as they are.

    Raises:
        CapetownError: the mirror cannot be completed. It stays unchanged, and the next run
            continues from the objects that have arrived.
    """
    source, target = Path(url).resolve(), folder.resolve()
    if "://" not in url and (source.is_relative_to(target) or target.is_relative_to(source)):
        raise CapetownError(
            f"{url} and the mirror {folder} contain each other",
            where="download.folder",
            fix="choose another folder",
        )
    policy = policy or RetentionPolicy()
    if policy.checksums == "size":
        log.warning(
            "download.checksums is size: a change on the way goes unnoticed if the size is right "
            "and the file is readable"
        )
    try:
        asyncio.run(_mirror(url, folder, incoming, settings, choice, policy))
    except OSError as error:
        where = error.filename or folder
        raise CapetownError(error.strerror or reason(error), where=where) from error


async def _mirror(
    url: str,
    folder: Path,
    incoming: Path,
    settings: Download,
    choice: Choice,
    policy: RetentionPolicy,
) -> None:
    own = folder / choice.subfolder
    async with open_store(url, settings) as store:
        items = await list_objects(store, url, settings, choice)

        # What earlier runs left: in the mirror, and where objects arrive.
        journal = read_inventory(incoming / JOURNAL)
        listed = read_inventory(own / INVENTORY)
        # Earlier versions had one inventory for everything.
        known = listed or journal or read_inventory(folder / INVENTORY)
        kept, originals = await asyncio.to_thread(find_existing, folder, items, known, policy)
        rest = [item for item in items if item.key not in kept]
        arrived, unreduced = await asyncio.to_thread(find_existing, incoming, rest, journal, policy)
        originals |= unreduced
        extra = _other_files(own, {(folder / item.key).relative_to(own) for item in items})
        missing = [item for item in rest if item.key not in arrived]
        fetched = [item for item in missing if item.key not in originals]
        entries = [*kept.values(), *arrived.values()]
        folders = {item.key: folder if item.key in kept else incoming for item in items}

        incoming.mkdir(parents=True, exist_ok=True)
        _announce(items, missing, fetched, policy, incoming)
        _remove(incoming, _other_files(incoming, map(Path, [*arrived, *unreduced])))
        write_inventory(incoming / JOURNAL, entries)
        _make_folders(incoming, (item.key for item in missing))
        with (
            (incoming / JOURNAL).open("a", encoding="utf-8") as lines,
            tqdm(total=_bytes(fetched), unit="B", unit_scale=True, disable=None) as bar,
        ):
            fetcher = Fetcher(store, incoming, settings.tries, policy, originals, lines, bar)
            manifests = [item for item in missing if item.key in MANIFESTS]
            await for_each(manifests, fetcher.fetch, settings.connections, _key)
            compare_manifests(folders, choice)
            # The largest first, so that no single one is left at the end.
            others = sorted(set(missing) - set(manifests), key=lambda i: (-i.size, i.key))
            await for_each(others, fetcher.fetch, settings.connections, _key)
        entries = sorted([*entries, *fetcher.done])
        unlisted = not (own / INVENTORY).exists() or entries != list(listed.values())
        if rest or extra or unlisted:
            keys = [item.key for item in rest]
            _move_into_mirror(incoming, folder, own, keys, extra, entries)
        shutil.rmtree(incoming)
    log.info(
        "%d objects, %.1f MB, kept in %.1f MB; %d (%.1f MB) fetched, %d removed",
        *(len(entries), _bytes(items) / 1e6, sum(entry.kept_size for entry in entries) / 1e6),
        *(len(fetched), _bytes(fetched) / 1e6, len(extra)),
    )


async def list_objects(
    store: ObjectStore, url: str, settings: Download, choice: Choice
) -> list[Object]:
    """The chosen objects of a source, sorted by key.

    Raises:
        CapetownError: the source cannot be listed, or the choice is empty or unsafe.
    """
    if not choice.patterns:
        return []
    try:
        everything = await retry(lambda: store.keys(choice), settings.tries)
    except failures() as error:
        if isinstance(error, CapetownError) and not isinstance(error, ExhaustedError):
            raise
        denied = isinstance(error, PermissionError)
        fix = "see download.credentials" if denied else "check download.bucket"
        raise CapetownError(f"cannot be listed: {reason(error)}", where=url, fix=fix) from error
    keys = choose(everything, choice, url)
    check_keys(keys, choice)
    if secret := sorted(set(filter(is_credentials, everything)) - set(keys)):
        log.info("left out, as their names are those of credentials: %s", some(secret, 5))
    items: list[Object] = []

    async def describe(key: str) -> None:
        items.append(await retry(lambda: store.describe(key), settings.tries))

    await for_each(keys, describe, settings.connections, str)
    return sorted(items, key=_key)


def _announce(
    items: Collection[Object],
    missing: Collection[Object],
    fetched: Collection[Object],
    policy: RetentionPolicy,
    folder: Path,
) -> None:
    """Log what will be fetched, and refuse to start if the disk has too little space."""
    needed, free = sum(map(policy.expected_size, missing)), shutil.disk_usage(folder).free
    log.info(
        "%d objects, %.1f MB: %d (%.1f MB) to fetch, %d are here; about %.1f MB to write, "
        "%.0f MB free",
        *(len(items), _bytes(items) / 1e6, len(fetched), _bytes(fetched) / 1e6),
        *(len(items) - len(fetched), needed / 1e6, free / 1e6),
    )
    if needed > free:
        raise CapetownError(
            f"{needed / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free",
            where=folder,
            fix="make room, or choose less with download.requests, download.tiles, "
            "download.max_tiles or download.tile_side",
        )


def compare_manifests(folders: Mapping[str, Path], choice: Choice) -> None:
    """Check chosen keys against their manifests, and warn of tiles that no manifest names.

    `folders` has the folder of each chosen key. Errors are those of `check_manifests`.
    """
    manifests = {key: (folders[key] / key).read_bytes() for key in MANIFESTS if key in folders}
    extra = check_manifests(folders.keys(), manifests, choice)
    if extra:
        log.warning("%d tiles that no manifest names: %s", len(extra), some(extra, 20))


def _move_into_mirror(
    incoming: Path,
    folder: Path,
    own: Path,
    keys: Sequence[str],
    extra: Sequence[Path],
    entries: Sequence[Entry],
) -> None:
    """Move arrived objects into the mirror. Its `own` folder has no inventory meanwhile."""
    _make_folders(folder, [(own / INVENTORY).relative_to(folder).as_posix()])
    (own / INVENTORY).unlink(missing_ok=True)
    _remove(own, extra)
    _make_folders(folder, keys)
    for key in keys:
        (incoming / key).replace(folder / key)
    write_inventory(own / INVENTORY, entries)


def _make_folders(folder: Path, keys: Iterable[str]) -> None:
    """Make the folders of objects. Refuses links that lead out of the mirror."""
    for parent in sorted({(folder / key).parent for key in keys}):
        parent.mkdir(parents=True, exist_ok=True)
        if not parent.resolve().is_relative_to(folder.resolve()):
            raise CapetownError(f"a link that leads out of {folder}", where=parent, fix="remove it")


def _other_files(folder: Path, objects: Iterable[Path]) -> list[Path]:
    """The files of a folder that are not one of these objects, an inventory or a journal."""
    expected = {Path(INVENTORY), Path(JOURNAL), *objects}
    files = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return sorted(path for path in files if path.relative_to(folder) not in expected)


def _remove(folder: Path, files: Sequence[Path]) -> None:
    """Remove files, and then all empty folders."""
    for path in files:
        path.unlink()
    below = (path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())
    for path in sorted(below, reverse=True):
        if not any(path.iterdir()):
            path.rmdir()


def _bytes(items: Iterable[Object]) -> int:
    return sum(item.size for item in items)
