"""`capetown check`: params, data, weights, device and one training step."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from capetown.bucket.keys import Choice, NothingFoundError, choices, is_tile
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
from capetown.params import Download, Params, load_params
from capetown.pools.dataset.groups import group_tiles, read_groups
from capetown.pools.dataset.label_corrections import apply_corrections
from capetown.pools.dataset.listing import Tile, sheet_of
from capetown.pools.dataset.locations import locate_tiles
from capetown.pools.dataset.split import large_group, split_tiles


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
            yield from _check_source(project, settings, choice, params, raw)
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


def _check_source(
    project: Path, settings: Download, choice: Choice, params: Params, raw: Path
) -> Iterator[str]:
    """Check the requests of a source, or its tiles."""
    source = settings.source
    tables = needed_tables(params.transform) if choice.kind == "requests" else {}
    if settings.bucket:
        items, starts = read_source(settings, choice, tables)
        chosen = [item.key for item in items]
        yield f"{choice.kind:<8} {compare_with_mirror(settings, choice, items, raw)}"
    else:
        chosen = check_folder(project / source, choice, tables)
        check_contents(project / source, choice, chosen)
        starts = {key: read_start(project, source, key) for key in tables if key in chosen}
        yield f"{choice.kind:<8} {source} is complete: {len(chosen)} objects are selected"
    if choice.kind == "requests":
        yield from check_tables(source, starts, chosen, params.transform)
    else:
        yield from _tiles(project, source, chosen, params)


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
    locations = locate_tiles(tiles, project / source)
    grouping = group_tiles(tiles, table, locations, settings)
    for note in (*locations.notes, *grouping.notes):
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
