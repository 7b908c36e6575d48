"""Checks before work starts: params, data, weights and device."""

from collections.abc import Iterator
from pathlib import Path

from capetown.checks.source import check_address, check_folder, compare_with_mirror
from capetown.city import HEXAGONS_FILE, INDEX, REQUEST_ID, REQUESTS_TABLE
from capetown.params import load_params
from capetown.requests.csv_header import read_layout
from capetown.requests.hexagons import read_hexagons
from capetown.requests.reader import NAMES


def check_all(params_path: Path, mirror: Path) -> Iterator[str]:
    """Check everything, and yield a line for each thing that is as it should be.

    Args:
        params_path: the params file; a local source is relative to its folder.
        mirror: what `download` made of a bucket, to say what has changed there; may be missing.

    Raises:
        CapetownError: at the first thing that is not, with what to do about it.
    """
    params = load_params(params_path)
    yield f"params   {params_path} is valid"

    source = params.download.source
    if "://" in source:
        settings = check_address(params.download, params_path.parent)
        yield f"data     {compare_with_mirror(settings, mirror)}"
    else:
        reference = [params.transform.reference] if params.transform.reference else []
        tables = [REQUESTS_TABLE, HEXAGONS_FILE, *reference]
        chosen = check_folder(params_path.parent / source, params.download, tables)
        yield f"data     {source} is whole: {len(chosen)} objects are chosen"
        for table in (key for key in chosen if key in (REQUESTS_TABLE, *reference)):
            columns = NAMES if table == REQUESTS_TABLE else (REQUEST_ID, INDEX)
            layout = read_layout(params_path.parent / source / table, columns)
            said = "; ".join([f"{len(layout.header)} columns", *layout.notes])
            yield f"table    {source}/{table}: {said}"
        if HEXAGONS_FILE in chosen:
            hexagons = read_hexagons(params_path.parent / source / HEXAGONS_FILE)
            yield f"table    {source}/{HEXAGONS_FILE}: {len(hexagons.index)} hexagons"

    # Imported here, because torch takes seconds to load and a fault above is known without it.
    from capetown.checks.smoke_test import run_in_subprocess
    from capetown.pools.model.devices import choose_device
    from capetown.pools.model.pretrained import check_weights, weights_available
    from capetown.pools.training.fit_one import TrainingConfig

    check_weights(params.backbone, pretrained=params.pretrained)
    start = "at hand or within reach" if params.pretrained else "random"
    yield f"weights  those of {params.model} ({params.backbone.architecture}) are {start}"

    yield f"device   {choose_device(params.device)}"

    at_hand = params.pretrained and weights_available(params.backbone.architecture)
    run_in_subprocess(
        TrainingConfig(
            backbone=params.backbone,
            settings=params.train,
            pretrained=at_hand,
            seed=params.seed,
            threads=params.threads,
            device=params.device,
        )
    )
    yield f"model    {params.model} trains a step of each phase, is saved, loaded and explained"
