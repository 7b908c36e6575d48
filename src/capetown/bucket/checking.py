"""What can be known to be wrong with a source before anything is fetched from it."""

from pathlib import Path

from capetown.bucket.access import WITHOUT_FILE, Access, check_url, identity
from capetown.bucket.keys import CLASS_FOLDERS, INVENTORY, check_keys, choose, is_tile, matches
from capetown.bucket.mirror import Selection, compare_manifests
from capetown.bucket.verification import check_content
from capetown.errors import CapetownError
from capetown.params import Download


def check_address(settings: Download, root: Path) -> None:
    """Check the address of a source, and that the credentials for it can be read.

    Raises:
        CapetownError: if not; without anything secret.
    """
    check_url(settings.source, "download.source")
    if settings.endpoint_url:
        check_url(settings.endpoint_url, "download.endpoint_url")
    known = settings.credentials in WITHOUT_FILE
    credentials = settings.credentials if known else str(root / settings.credentials)
    identity(Access(credentials=credentials, profile=settings.profile))


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
    keys = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    chosen = choose(keys - {INVENTORY}, settings.include, settings.max_tiles)
    check_keys(chosen)
    for table in tables:
        if matches(table, settings.include) and table not in chosen:
            raise CapetownError(f"{folder / table}: no such file; {fix}.")
    for place in CLASS_FOLDERS:
        asked = matches(f"{place}/A_1_1.tif", settings.include)
        if asked and not any(is_tile(key) and key.startswith(f"{place}/") for key in chosen):
            raise CapetownError(f"{folder / place}: no tiles (*.tif) in it; {fix}.")
    selection = Selection(settings.include, settings.max_tiles)
    compare_manifests(dict.fromkeys(chosen, folder), selection)
    for key in chosen:
        try:
            check_content(key, folder / key)
        except CapetownError as error:
            raise CapetownError(f"{folder / key}: {error}; {fix}.") from error
    return chosen
