"""Make a bucket like the City's, of any size, from a seed."""

from pathlib import Path
from tempfile import TemporaryDirectory

from capetown.errors import CapetownError
from tools.synthetic.hexagons import write_hexagons
from tools.synthetic.requests import write_requests
from tools.synthetic.tiles import SIDE, write_tiles

# Few enough for a test, enough for the requests that stand in every bucket.
FEWEST_REQUESTS = 100
# Twenty of the City's years. A year is drawn in memory: this many need 3 GB.
MOST_REQUESTS = 20_000_000


def make_bucket(
    out: Path,
    *,
    requests: int,
    tiles: int,
    seed: int,
    tile_side: int = SIDE,
    georeferenced: bool = False,
) -> None:
    """Write the City's keys in miniature, or at any size, under `out`.

    Two GeoJSON files of hexagons, three tables of `requests` service requests, and `tiles` aerial
    tiles of `tile_side` pixels under `images/`, which have places on Earth if `georeferenced`. The
    same arguments give the same bytes, given the same zlib, NumPy, H3 and Pillow. `out` appears
    when all is done.

    Raises:
        CapetownError: `out` holds something already or cannot be written, or a number is out of
            range.
    """
    if not FEWEST_REQUESTS <= requests <= MOST_REQUESTS or tiles < 0 or seed < 0:
        raise CapetownError(
            "out of range",
            where=f"{requests} requests, {tiles} tiles, seed {seed}",
            fix=f"use {FEWEST_REQUESTS} to {MOST_REQUESTS} requests, and no negative number",
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CapetownError("is not an empty folder", where=out, fix="name another one or empty it")
    target = out.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
            made = Path(folder) / "bucket"
            made.mkdir()
            write_hexagons(made)
            write_requests(made, requests, seed)
            if tiles:
                write_tiles(made, tiles, seed, tile_side, georeferenced=georeferenced)
            made.rename(target)
    except OSError as error:
        raise CapetownError(
            f"cannot be written ({error.strerror})", where=out, fix="name another folder"
        ) from error
