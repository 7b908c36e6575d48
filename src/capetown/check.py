"""What can be known to be wrong before work starts: params, data, weights and device."""

from collections.abc import Iterator
from pathlib import Path

from capetown.backbones import check_weights
from capetown.devices import choose_device
from capetown.errors import CapetownError
from capetown.params import load_params
from capetown.tiles import find_tiles

HEXAGONS = "city-hex-polygons-8.geojson"
REQUESTS = "sr.csv.gz"
TILES = "images/swimming-pool"


def check_all(params_path: Path) -> Iterator[str]:
    """Check everything, and yield a line for each thing that is as it should be.

    Args:
        params_path: the params file; a local source is relative to its folder.

    Raises:
        CapetownError: at the first thing that is not, with what to do about it.
    """
    params = load_params(params_path)
    yield f"params   {params_path} is valid"

    source = params.download.source
    if "://" in source:
        yield f"data     {source} is looked at when `download` runs"
    else:
        reference = [params.transform.reference] if params.transform.reference else []
        check_folder(params_path.parent / source, [REQUESTS, HEXAGONS, *reference])
        yield f"data     {source} has the tables and the tiles"

    check_weights(params.backbone, pretrained=params.pretrained)
    start = "at hand or within reach" if params.pretrained else "random"
    yield f"weights  those of {params.model} ({params.backbone.architecture}) are {start}"

    yield f"device   {choose_device(params.device)}"


def check_folder(folder: Path, tables: list[str]) -> None:
    """Check that a folder holds a bucket's tables and a tile of each class.

    Raises:
        CapetownError: if the folder, a table or a class is missing.
    """
    fix = "run `dvc pull data.dvc`" if folder.name == "data" else "set download.source"
    if not folder.is_dir():
        raise CapetownError(f"{folder}: no such folder; {fix}.")
    for table in tables:
        if not (folder / table).is_file():
            raise CapetownError(f"{folder / table}: no such file; {fix}.")
    try:
        find_tiles(folder / TILES, folder)
    except CapetownError as error:
        raise CapetownError(f"{str(error).rstrip('.')}; {fix}.") from error
