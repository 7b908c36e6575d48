"""Make a synthetic bucket with the keys of the City's, of any size.

python -m tools.synthetic OUT --requests 20000 --tiles 320
"""

import argparse
import sys
from pathlib import Path

from capetown.errors import CapetownError
from tools.synthetic import make_bucket


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    root = argparse.ArgumentParser(prog="python -m tools.synthetic", description=__doc__)
    root.add_argument("out", type=Path, help="folder to make; must be missing or empty")
    root.add_argument("--requests", type=int, default=20_000, help="service requests")
    root.add_argument("--tiles", type=int, default=320, help="aerial tiles")
    root.add_argument(
        "--tile-side", type=int, default=256, metavar="PX", help="of a tile; the City's have 1250"
    )
    root.add_argument(
        "--georeferenced", action="store_true", help="write the tiles as GeoTIFFs with locations"
    )
    root.add_argument("--seed", type=int, default=42, help="seed of everything random")
    return root


def main(argv: list[str] | None = None) -> None:
    """Run the tool; a `CapetownError` becomes one line and exit status 1."""
    arguments = vars(parser().parse_args(argv))
    try:
        make_bucket(arguments.pop("out"), **arguments)
    except CapetownError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
