"""`capetown check`: params, data, weights, device and one training step."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from capetown.bucket.keys import is_tile
from capetown.checks.preflight import check_model, is_shallow
from capetown.checks.source import (
    check_address,
    check_contents,
    check_folder,
    compare_with_mirror,
    read_source,
    read_start,
)
from capetown.checks.tables import check_tables, needed_tables
from capetown.city import TILES_FOLDER
from capetown.errors import CapetownError
from capetown.params import Params, load_params
from capetown.pools.dataset.groups import group_tiles, locate_tiles, read_groups
from capetown.pools.dataset.label_corrections import apply_corrections
from capetown.pools.dataset.listing import Tile, sheet_of
from capetown.pools.dataset.split import large_group, split_tiles


def check_all(params_path: Path, mirror: Path) -> Iterator[str]:
    """Check everything that can fail later, and yield a line for each check that passes.

    Args:
        params_path: the params file. A local source is relative to its folder.
        mirror: the folder that `download` wrote. It may be missing. A bucket is compared with it.

    Raises:
        CapetownError: at the first check that fails.
    """
    params = load_params(params_path)
    yield f"params   {params_path} is valid"
    yield from _limits(params_path.resolve().parent)

    project, source = params_path.parent, params.download.source
    tables = needed_tables(params.transform)
    if "://" in source:
        settings = check_address(params.download, project)
        items, starts = read_source(settings, tables)
        chosen = [item.key for item in items]
        yield f"data     {compare_with_mirror(settings, items, mirror)}"
        yield from check_tables(source, starts, chosen, params.transform)
    else:
        chosen = check_folder(project / source, params.download, tables)
        first = [key for key in tables if key in chosen]
        check_contents(project / source, first)
        starts = {key: read_start(project, source, key) for key in first}
        said = list(check_tables(source, starts, chosen, params.transform))
        check_contents(project / source, [key for key in chosen if key not in first])
        yield f"data     {source} is complete: {len(chosen)} objects are selected"
        yield from said
    if any(map(is_tile, chosen)):
        yield from _tiles(project, source, chosen, params)

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


def _tiles(project: Path, source: str, keys: Sequence[str], params: Params) -> Iterator[str]:
    """Check the tables about tiles, and say where groups come from, which keep neighbours together.

    For a bucket the latter is unknown, since its tiles may have georeferences.
    """
    settings, start = params.split, len(TILES_FOLDER) + 1
    tiles = [
        Tile(key, key[start:].split("/")[0], sheet_of(key)) for key in sorted(keys) if is_tile(key)
    ]
    tiles, _ = apply_corrections(tiles, project / settings.corrections)
    table = read_groups(project / settings.groups, tiles)
    if "://" in source:
        return
    folder = project / source
    grouping = group_tiles(tiles, table, locate_tiles(tiles, folder), settings)
    for note in grouping.notes:
        yield f"tiles    warning: {note}"
    groups = [tile.group for tile in grouping.tiles]
    try:  # equal images, which go into one fold, are not known yet
        split_tiles(grouping.tiles, [tile.path for tile in tiles], settings, params.seed)
    except CapetownError as error:
        yield f"tiles    warning: {error}"
    else:
        if (large := large_group(groups)) and settings.strategy != "random":
            yield f"tiles    warning: {large}: the folds may not have their sizes"
    if grouping.source == "none":
        return
    yield f"tiles    {len(tiles)} in {len(set(groups))} groups, which come from: {grouping.source}"


def _limits(project: Path) -> Iterator[str]:
    """What fails in DVC's temporary workspaces. Everything else works."""
    fails = "`dvc exp run` with --temp or --queue"
    if is_shallow(project):
        yield f"git      the clone is shallow: {fails} keeps nothing; run `git fetch --unshallow`"
    if not str(project).isascii():
        yield f"path     {project}: {fails} fails; move the project to a path in ASCII letters"
