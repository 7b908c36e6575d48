"""Checks of a source before anything is fetched."""

import asyncio
from pathlib import Path

from capetown.bucket.addresses import WITHOUT_FILE, check_url, s3_credentials
from capetown.bucket.keys import (
    CLASS_FOLDERS,
    INVENTORY,
    Choice,
    check_keys,
    choose,
    is_tile,
    matches,
)
from capetown.bucket.mirror import compare_manifests, list_objects
from capetown.bucket.sources import Object, check_regular, folder_keys, open_store
from capetown.bucket.verification import check_content, read_inventory
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


def compare_with_mirror(settings: Download, choice: Choice, raw: Path) -> str:
    """Compare the chosen objects of a source with their mirror.

    Args:
        settings: as `check_address` returns them.
        choice: the objects.
        raw: has the mirrors. It need not exist.

    Returns:
        One line that counts the changes.

    Raises:
        NothingFoundError: the source has none of them.
        CapetownError: the source cannot be listed.
    """

    async def look() -> list[Object]:
        async with open_store(settings.source, settings) as store:
            quick = settings.model_copy(update={"tries": 2})
            return await list_objects(store, settings.source, quick, choice)

    items = asyncio.run(look())
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


def check_folder(folder: Path, choice: Choice, tables: list[str]) -> list[str]:
    """Check that a folder contains everything that a stage will read from it.

    Args:
        folder: the source.
        choice: the objects.
        tables: the tables that the stages need.

    Returns:
        The chosen keys.

    Raises:
        NothingFoundError: the folder has none of them.
        CapetownError: a chosen table or tile is missing, or an object has the wrong content.
    """
    fix = "run `dvc pull data.dvc`" if folder.name == "data" else "set download.folder"
    if not folder.is_dir():
        raise CapetownError("no such folder", where=folder, fix=fix)
    keys = folder_keys(str(folder))
    for table in tables:
        if matches(table, choice) and table not in keys and any(matches(k, choice) for k in keys):
            raise CapetownError("no such file", where=folder / table, fix=fix)
    chosen = choose(keys, choice, str(folder))
    check_keys(chosen, choice)
    for name in CLASS_FOLDERS:
        asked = matches(f"{name}/A_1_1.tif", choice)
        if asked and not any(is_tile(key) and key.startswith(f"{name}/") for key in chosen):
            raise CapetownError("no tiles (*.tif) in it", where=folder / name, fix=fix)
    compare_manifests(dict.fromkeys(chosen, folder), choice)
    for key in chosen:
        check_regular(folder / key)
        try:
            with (folder / key).open("rb") as file:
                check_content(key, file)
        except CapetownError as error:
            raise CapetownError(error.what, where=folder / key, fix=fix) from error
    return chosen
