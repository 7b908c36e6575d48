"""`capetown check`: params, data, weights, device and one training step."""

from collections.abc import Collection, Iterator
from pathlib import Path

from capetown.bucket.keys import Choice, NothingFoundError, choices
from capetown.checks.preflight import check_model, is_shallow
from capetown.checks.source import check_address, check_folder, compare_with_mirror
from capetown.city import HEXAGONS_FILE, INDEX, REQUEST_ID, REQUESTS_TABLE, TILES_FOLDER
from capetown.params import Params, Split, load_params
from capetown.pools.dataset.groups import group_tiles, read_groups
from capetown.pools.dataset.listing import find_tiles
from capetown.pools.dataset.locations import locate_tiles
from capetown.pools.dataset.split import large_group
from capetown.requests.csv_reader import CsvTable
from capetown.requests.hexagons import read_hexagons
from capetown.requests.reader import NAMES


def check_all(params_path: Path, raw: Path) -> Iterator[str]:
    """Check everything that can fail later, and yield a line for each check that passes.

    Args:
        params_path: the params file. A local source is relative to its folder.
        raw: the folder with the mirrors. It may be missing. A bucket is compared with it.

    Raises:
        CapetownError: at the first check that fails.
    """
    params = load_params(params_path)
    yield f"params   {params_path} is valid"
    yield from _limits(params_path.resolve().parent)

    settings, project = params.download, params_path.parent
    if settings.bucket:
        settings = check_address(settings, project)
    wanted, absent = [choice for choice in choices(settings) if choice.patterns], 0
    for choice in wanted:
        try:
            if settings.bucket:
                yield f"{choice.kind:<8} {compare_with_mirror(settings, choice, raw)}"
            else:
                yield from _check_folder(project, choice, params)
        except NothingFoundError as error:
            # A source may have one kind alone.
            absent += 1
            if absent == len(wanted):
                raise
            yield f"{choice.kind:<8} warning: {error.what}; {error.fix}"

    backbone, device = params.backbone, params.device
    check_model(backbone, pretrained=params.pretrained, device=device)
    start = "are available" if params.pretrained else "are random"
    yield f"weights  those of {params.model} ({backbone.architecture}) {start}"

    # Imported here: torch takes seconds, and the checks above do not need it.
    from capetown.checks.smoke_test import run_in_subprocess
    from capetown.pools.model.devices import choose_device
    from capetown.pools.model.pretrained import weights_available
    from capetown.pools.training.fit_one import TrainingConfig

    yield f"device   {choose_device(device)}"

    available = params.pretrained and weights_available(backbone.architecture)
    run_in_subprocess(
        TrainingConfig(
            backbone=backbone,
            settings=params.train,
            pretrained=available,
            seed=params.seed,
            threads=params.threads,
            device=device,
        )
    )
    yield f"model    {params.model} trains, saves, loads and explains two made-up tiles"


def _check_folder(project: Path, choice: Choice, params: Params) -> Iterator[str]:
    """Check the requests of a folder, or its tiles."""
    source = params.download.folder
    folder = project / source
    reference = [params.transform.reference] if params.transform.reference else []
    chosen = check_folder(folder, choice, [REQUESTS_TABLE, HEXAGONS_FILE, *reference])
    yield f"{choice.kind:<8} {source} is complete: {len(chosen)} objects are selected"
    if choice.kind == "tiles":
        yield from _groups(folder, chosen, project, params.split)
        return
    for table in (key for key in chosen if key in (REQUESTS_TABLE, *reference)):
        columns = NAMES if table == REQUESTS_TABLE else (REQUEST_ID, INDEX)
        found = CsvTable(folder / table, columns)
        said = "; ".join([f"{len(found.header)} columns", *found.notes()])
        yield f"table    {source}/{table}: {said}"
    if HEXAGONS_FILE in chosen:
        hexagons = read_hexagons(folder / HEXAGONS_FILE)
        yield f"table    {source}/{HEXAGONS_FILE}: {len(hexagons.index)} hexagons"


def _groups(folder: Path, keys: Collection[str], project: Path, settings: Split) -> Iterator[str]:
    """Where the groups come from that keep neighbouring tiles in one fold."""
    found = set(keys)
    tiles = [tile for tile in find_tiles(folder / TILES_FOLDER, folder) if tile.path in found]
    table = read_groups(project / settings.groups, tiles)
    locations = locate_tiles(tiles, folder)
    grouping = group_tiles(tiles, table, locations, settings)
    for note in (*locations.notes, *grouping.notes):
        yield f"tiles    warning: {note}"
    if grouping.source == "none":
        return
    groups = [tile.group for tile in grouping.tiles]
    if large := large_group(groups):
        yield f"tiles    warning: {large}"
    yield f"tiles    {len(tiles)} in {len(set(groups))} groups, which come from: {grouping.source}"


def _limits(project: Path) -> Iterator[str]:
    """What fails in DVC's temporary workspaces. Everything else works."""
    fails = "`dvc exp run` with --temp or --queue"
    if is_shallow(project):
        yield f"git      the clone is shallow: {fails} keeps nothing; run `git fetch --unshallow`"
    if not str(project).isascii():
        yield f"path     {project}: {fails} fails; move the project to a path in ASCII letters"
