"""Checks of a source before anything is fetched from it."""

import asyncio
from pathlib import Path

from capetown.bucket.access import WITHOUT_FILE, check_url, identity
from capetown.bucket.keys import CLASS_FOLDERS, INVENTORY, check_keys, choose, is_tile, matches
from capetown.bucket.mirror import compare_manifests, describe
from capetown.bucket.sources import Object, check_regular, folder_keys, open_source
from capetown.bucket.verification import check_content, read_inventory
from capetown.errors import CapetownError
from capetown.params import Download


def check_address(settings: Download, root: Path) -> Download:
    """Check the address of a source, and that the credentials for it can be read.

    Returns:
        The settings, with the file of credentials where it lies.

    Raises:
        CapetownError: if not; without anything secret.
    """
    check_url(settings.source, "download.source")
    if settings.endpoint_url:
        check_url(settings.endpoint_url, "download.endpoint_url")
    if settings.credentials not in WITHOUT_FILE:
        credentials = str(root / settings.credentials)
        settings = settings.model_copy(update={"credentials": credentials})
    identity(settings)
    return settings


def compare_with_mirror(settings: Download, folder: Path) -> str:
    """Compare a source with its mirror, and say in a line what changed.

    Args:
        settings: as `check_address` gives them.
        folder: the mirror; there may be none yet.

    Raises:
        CapetownError: if the source cannot be listed.
    """

    async def look() -> list[Object]:
        async with open_source(settings.source, settings) as source:
            return await describe(source, settings.source, settings.model_copy(update={"tries": 2}))

    items = asyncio.run(look())
    known = read_inventory(folder / INVENTORY)
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
        f"MB) and {gone} are gone since it was mirrored: `dvc repro --force download` fetches them"
    )


def check_folder(folder: Path, settings: Download, tables: list[str]) -> list[str]:
    """Check that a folder holds what `download` is to take of it, each object of its kind.

    Args:
        folder: a bucket's objects.
        settings: which of them are chosen.
        tables: those that the stages need.

    Returns:
        The chosen keys.

    Raises:
        CapetownError: if a table, a class's tiles or a tile that a manifest names is missing though
            asked for, or an object is not what its key says.
    """
    fix = "run `dvc pull data.dvc`" if folder.name == "data" else "set download.source"
    if not folder.is_dir():
        raise CapetownError(f"{folder}: no such folder; {fix}.")
    keys = folder_keys(str(folder))
    for table in tables:
        if matches(table, settings.include) and table not in keys:
            raise CapetownError(f"{folder / table}: no such file; {fix}.")
    chosen = choose(keys, settings.include, settings.max_tiles)
    check_keys(chosen)
    for place in CLASS_FOLDERS:
        asked = matches(f"{place}/A_1_1.tif", settings.include)
        if asked and not any(is_tile(key) and key.startswith(f"{place}/") for key in chosen):
            raise CapetownError(f"{folder / place}: no tiles (*.tif) in it; {fix}.")
    compare_manifests(dict.fromkeys(chosen, folder), settings)
    for key in chosen:
        check_regular(folder / key)
        try:
            with (folder / key).open("rb") as file:
                check_content(key, file)
        except CapetownError as error:
            raise CapetownError(f"{folder / key}: {error}; {fix}.") from error
    return chosen
