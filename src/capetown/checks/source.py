"""Checks of a source before anything is fetched."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from pathlib import Path

from capetown.bucket.addresses import WITHOUT_FILE, check_url, s3_credentials
from capetown.bucket.fetching import for_each
from capetown.bucket.keys import (
    CLASS_FOLDERS,
    INVENTORY,
    WITHOUT,
    Choice,
    check_keys,
    choose,
    is_tile,
    matches,
)
from capetown.bucket.mirror import compare_manifests, list_objects
from capetown.bucket.retrying import retry
from capetown.bucket.sources import Object, check_regular, folder_keys, open_store
from capetown.bucket.verification import check_content, read_inventory
from capetown.checks.tables import START, Start
from capetown.city import HEXAGONS_FILE
from capetown.errors import CapetownError
from capetown.params import Download


def check_address(settings: Download, root: Path) -> Download:
    """Check the address of a source and read its credentials.

    Returns:
        The settings, with the path of the credentials below `root`.

    Raises:
        CapetownError: one is not valid. The error contains no secret.
    """
    check_url(settings.source, "download.bucket")
    if settings.endpoint_url:
        check_url(settings.endpoint_url, "download.endpoint_url")
    if settings.credentials not in WITHOUT_FILE:
        credentials = str(root / settings.credentials)
        settings = settings.model_copy(update={"credentials": credentials})
    s3_credentials(settings)
    return settings


def read_source(
    settings: Download, choice: Choice, tables: Collection[str]
) -> tuple[list[Object], dict[str, Start]]:
    """List the chosen objects of a source, and read the first bytes of `tables` among them.

    Args:
        settings: as `check_address` returns them.
        choice: the objects.
        tables: keys.

    Raises:
        NothingFoundError: the source has none of the objects.
        CapetownError: the source cannot be listed, or a table cannot be read.
    """
    starts: dict[str, Start] = {}

    async def look() -> list[Object]:
        async with open_store(settings.source, settings) as store:
            quick = settings.model_copy(update={"tries": 2})
            items = await list_objects(store, settings.source, quick, choice)

            async def read(item: Object) -> None:
                data = await retry(lambda: store.start(item, START), quick.tries)
                where = f"{settings.source}/{item.key}"
                starts[item.key] = Start(where, data, whole=item.size <= START)

            chosen = [item for item in items if item.key in tables]
            await for_each(chosen, read, settings.connections, attrgetter("key"))
            return items

    return asyncio.run(look()), starts


def compare_with_mirror(
    settings: Download, choice: Choice, items: Sequence[Object], raw: Path
) -> str:
    """Compare the chosen objects of a source with their mirror.

    Args:
        settings: as `check_address` returns them.
        choice: the objects.
        items: the objects, as `read_source` returns them.
        raw: has the mirrors. It need not exist.

    Returns:
        One line that counts the changes.
    """
    known = read_inventory(choice.mirror(raw) / choice.subfolder / INVENTORY)
    new = [item for item in items if item.key not in known]
    changed = [
        item
        for item in items
        if (entry := known.get(item.key)) and (entry.size, entry.etag) != (item.size, item.etag)
    ]
    gone = len(known.keys() - {item.key for item in items})
    if not (new or changed or gone):
        return f"{settings.source} has not changed since it was mirrored: {len(items)} objects"
    size = sum(item.size for item in (*new, *changed)) / 1e6
    return (
        f"{settings.source}: {len(new)} objects are new, {len(changed)} have changed ({size:.1f} "
        f"MB) and {gone} are gone since it was mirrored: "
        f"`dvc repro --force download_{choice.kind}` fetches them"
    )


def check_folder(folder: Path, choice: Choice, tables: Mapping[str, str]) -> list[str]:
    """Check that a folder has every file that a stage will read from it.

    Args:
        folder: the source.
        choice: the objects.
        tables: the tables that the stages need, and what to change where there is none.

    Returns:
        The chosen keys.

    Raises:
        NothingFoundError: the folder has none of them.
        CapetownError: a chosen table or tile is missing, or not a file.
    """
    fix = _remedy(folder, "set download.folder")
    if not folder.is_dir():
        raise CapetownError("no such folder", where=folder, fix=fix)
    keys = folder_keys(str(folder))
    for table in tables:
        if matches(table, choice) and table not in keys and any(matches(k, choice) for k in keys):
            fix = _remedy(folder, f"add it, or {tables[table]}")
            raise CapetownError("no such file", where=folder / table, fix=fix)
    chosen = choose(keys, choice, str(folder))
    check_keys(chosen, choice)
    for name in CLASS_FOLDERS:
        asked = choice.kind == "tiles" and matches(f"{name}/A_1_1.tif", choice)
        if asked and not any(is_tile(key) and key.startswith(f"{name}/") for key in chosen):
            fix = _remedy(folder, f"add some; {WITHOUT[choice.kind]}")
            raise CapetownError("no tiles (*.tif) in it", where=folder / name, fix=fix)
    compare_manifests(dict.fromkeys(chosen, folder), choice)
    for key in chosen:
        check_regular(folder / key)
    return chosen


def check_contents(folder: Path, choice: Choice, chosen: Sequence[str]) -> None:
    """Check that every chosen object of a folder has the content that its name promises.

    Raises:
        CapetownError: one has not.
    """
    for key in chosen:
        try:
            with (folder / key).open("rb") as file:
                check_content(key, file)
        except CapetownError as error:
            out = f", or {choice.excluding(key)}" if is_tile(key) else ""
            fix = error.fix or _remedy(folder, f"replace it{out}")
            raise CapetownError(error.what, where=folder / key, fix=fix) from error


def read_start(project: Path, source: str, key: str) -> Start:
    """The first bytes of a table in a folder. The hexagons are read as a whole."""
    path = project / source / key
    whole = key == HEXAGONS_FILE or path.stat().st_size <= START
    with path.open("rb") as file:
        return Start(f"{source}/{key}", file.read(-1 if whole else START), whole=whole)


def _remedy(folder: Path, otherwise: str) -> str:
    return "run `dvc pull data.dvc`" if folder.name == "data" else otherwise
