"""``capetown pools``, from the files that it is given to what it writes and says."""

from pathlib import Path

from capetown.errors import CapetownError, one_line
from capetown.geoparquet import write_frame
from capetown.pools.prediction.per_hexagon import count_pools, notes, read_requests
from capetown.pools.prediction.predictions import read_predictions
from capetown.requests.hexagons import read_hexagons
from capetown.storage import written_whole


def run(predictions: Path, hexagons: Path, requests: Path, out: Path) -> list[str]:
    """Write the tiles with a pool by hexagon as GeoParquet.

    Args:
        predictions: what `capetown predict` wrote.
        hexagons: the City's.
        requests: `hexes/counts.parquet`, which may be missing.
        out: the file to write; nothing or a regular file is there.

    Returns:
        Lines to print.

    Raises:
        CapetownError: an input cannot be used, or the file not written.
    """
    if out.suffix != ".parquet":
        raise CapetownError(f"--out {out}: hexagons are written as GeoParquet; name a .parquet.")
    for given in (predictions, hexagons, requests):
        if out.exists() and given.exists() and out.samefile(given):
            raise CapetownError(f"--out {out}: would replace what it is made from; name another.")
    cells = read_hexagons(hexagons)
    tiles = read_predictions(predictions)
    known = read_requests(requests)
    table = count_pools(cells, tiles, known)
    try:
        with written_whole(out) as part:
            write_frame(table, cells.rings, part)
    except OSError as error:
        raise CapetownError(f"{out}: cannot be written ({one_line(error)}).") from error
    lines = notes(tiles, table)
    if known is None:
        lines.append(f"{requests} is not there: the hexagons have no requests beside them")
    lines.append(
        f"{out}: {table['tiles'].sum():,} tiles in {(table['tiles'] > 0).sum():,} of "
        f"{len(table):,} hexagons, {table['pools_expected'].sum():,.1f} of them with a pool by "
        f"their probabilities, {table['called'].sum():,} called"
    )
    return lines
