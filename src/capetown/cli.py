"""The ``capetown`` command: what is not a stage of the pipeline."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from capetown.errors import CapetownError

Handler = Callable[[argparse.Namespace], None]


def check(arguments: argparse.Namespace) -> None:
    """Find what can be known to be wrong before work starts, and print what was looked at."""
    from capetown.check import check_all

    for line in check_all(arguments.params):
        print(line)


def sample(arguments: argparse.Namespace) -> None:
    """Make a bucket like the City's, of any size."""
    from capetown.sample import make_bucket

    make_bucket(
        arguments.out,
        requests=arguments.requests,
        tiles=arguments.tiles,
        seed=arguments.seed,
    )


def predict(arguments: argparse.Namespace) -> None:
    """Say of new tiles whether there is a pool in them, with a trained model."""
    import csv

    from capetown.devices import choose_device
    from capetown.modelfile import load_model
    from capetown.prediction import Prediction, find_new_tiles, predict_tiles

    model, card = load_model(arguments.model, choose_device("auto"))
    tiles = find_new_tiles(arguments.paths)
    part = arguments.out.with_name(f".{arguments.out.name}.part")
    try:
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(Prediction._fields)
            rows = list(predict_tiles(model, card, tiles))
            writer.writerows(rows)
        part.replace(arguments.out)
    except OSError as error:
        raise CapetownError(f"{arguments.out}: cannot be written ({error.strerror}).") from error
    finally:
        part.unlink(missing_ok=True)
    unread = sum(row.error is not None for row in rows)
    pools = sum(row.decision == "yes" for row in rows)
    print(f"{arguments.out}: {len(rows)} tiles, {pools} with a pool, {unread} that cannot be read")


def parser() -> argparse.ArgumentParser:
    """The command line's grammar; each command names its handler in ``handler``."""
    root = argparse.ArgumentParser(prog="capetown", description=__doc__)
    commands = root.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, handler: Handler) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=handler.__doc__, description=handler.__doc__)
        added.set_defaults(handler=handler)
        return added

    added = command("check", check)
    added.add_argument("--params", type=Path, default=Path("params.yaml"), help="the params file")

    added = command("sample", sample)
    added.add_argument("out", type=Path, help="folder to make; must not exist or be empty")
    added.add_argument("--requests", type=int, default=20_000, help="service requests")
    added.add_argument("--tiles", type=int, default=320, help="aerial tiles")
    added.add_argument("--seed", type=int, default=42, help="seed of everything random")

    added = command("predict", predict)
    added.add_argument(
        "paths", nargs="+", metavar="PATH", help="tile, folder or s3://bucket/prefix"
    )
    added.add_argument("--model", type=Path, default=Path("models"), help="the model's folder")
    added.add_argument("--out", type=Path, required=True, metavar="FILE.csv", help="file to write")
    return root


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; a `CapetownError` becomes one line and exit status 1."""
    arguments = parser().parse_args(argv)
    try:
        arguments.handler(arguments)
    except CapetownError as error:
        sys.exit(f"error: {error}")
