"""`python -m capetown.sample OUT`: make a bucket like the City's."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from capetown.errors import CapetownError
from capetown.sample import make_bucket


def main(argv: Sequence[str] | None = None) -> None:
    """Make a bucket; what is wrong becomes one line and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m capetown.sample", description=__doc__)
    parser.add_argument("out", type=Path, help="folder to make; must not exist or be empty")
    parser.add_argument("--requests", type=int, default=20_000, help="service requests")
    parser.add_argument("--tiles", type=int, default=320, help="aerial tiles")
    parser.add_argument("--seed", type=int, default=42, help="seed of everything random")
    given = parser.parse_args(argv)
    try:
        make_bucket(given.out, requests=given.requests, tiles=given.tiles, seed=given.seed)
    except CapetownError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
