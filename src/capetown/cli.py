"""Check the setup, join an export, predict pools in new tiles, and compare experiments."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from capetown.city import HEXAGONS_FILE
from capetown.errors import CapetownError
from capetown.storage import check_replaceable, write_file

Handler = Callable[[argparse.Namespace], None]

# What `predict` and `pools` write, by the suffix of --out.
FORMATS = ".parquet (GeoParquet), .gpkg (GeoPackage), .geojson, .csv"
# Written by the stage `transform`.
REQUESTS = Path("hexes/counts.parquet")
JOIN_EXAMPLES = f"""examples:
  capetown join september.csv --out september
  capetown join export.csv.gz --hexagons {HEXAGONS_FILE} --out 2026-09
"""


def check(arguments: argparse.Namespace) -> None:
    """Check params, data, weights and device before a run."""
    from capetown.checks.everything import check_all

    for line in check_all(arguments.params, Path("raw")):
        print(line)


def join(arguments: argparse.Namespace) -> None:
    """Join one export of requests to hexagons, for a spreadsheet. No output of DVC changes."""
    import logging

    from capetown.joining import join_export
    from capetown.params import load_params

    logging.basicConfig(format="%(message)s")
    logging.getLogger("capetown").setLevel(logging.INFO)
    settings = load_params(Path("params.yaml")).transform
    for line in join_export(arguments.export, arguments.hexagons, arguments.out, settings):
        print(line)


def predict(arguments: argparse.Namespace) -> None:
    """Predict pools in new tiles or orthophotos."""
    import logging

    from capetown.pools.prediction.command import run

    logging.basicConfig(format="%(message)s")
    logging.getLogger("capetown").setLevel(logging.INFO)
    if "://" not in arguments.out:
        check_replaceable(Path(arguments.out))
    run(arguments)


def pools(arguments: argparse.Namespace) -> None:
    """Count tiles with a pool per hexagon, from the output of `predict`."""
    from capetown.pools.prediction.per_hexagon import write_pools

    check_replaceable(arguments.out)
    for line in write_pools(arguments.predictions, arguments.hexagons, REQUESTS, arguments.out):
        print(line)


def export(arguments: argparse.Namespace) -> None:
    """Export the model as ONNX, for QGIS and other runtimes."""
    import torch

    from capetown.pools.model.manifest import load_model
    from capetown.pools.prediction.export import as_deepness, as_onnx

    metres = arguments.deepness
    if metres is not None and not 0 < metres < float("inf"):
        raise CapetownError("not above 0", where=f"--deepness {metres}")
    check_replaceable(arguments.out)
    model, card = load_model(arguments.model, torch.device("cpu"))
    data = as_onnx(model, card) if metres is None else as_deepness(model, card, metres)
    write_file(arguments.out, data)
    print(
        f"{arguments.out}: {card.architecture}, {card.image_size} pixels, {len(data) / 1e6:.1f} MB"
    )


def compare(arguments: argparse.Namespace) -> None:
    """Compare experiments on the same test tiles, with significance tests."""
    from capetown.params import load_params
    from capetown.pools.evaluation import compare as comparing
    from capetown.pools.evaluation.revisions import read_experiment
    from capetown.report.comparison_page import as_page, as_text

    params = load_params(Path("params.yaml"))
    resamples = params.evaluate.bootstrap
    experiments = [
        read_experiment(
            rev,
            predictions="metrics/predictions.csv",
            metrics="metrics/evaluate.json",
            params="params.yaml",
        )
        for rev in arguments.revisions
    ]
    found = comparing.compare(experiments, resamples=resamples, seed=params.seed)
    if arguments.markdown:
        print(as_text(found, resamples=resamples, escape=True), end="")
        return
    print(as_text(found, resamples=resamples))
    write_page(
        arguments.out, as_page(found, resamples=resamples, tiles=Path("raw"), rule=params.tiles)
    )


def labels(arguments: argparse.Namespace) -> None:
    """List labels that may be wrong, by out-of-fold predictions."""
    import logging

    from capetown.params import load_params
    from capetown.pools.dataset.pixel_cache import cache_folder
    from capetown.pools.evaluation.label_audit import (
        cross_validation,
        doubtful_labels,
        out_of_fold,
    )
    from capetown.report.label_audit_page import as_page

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    params = load_params(Path("params.yaml"))
    predicted = out_of_fold(
        params, table=Path("splits/tiles.csv"), root=Path("raw"), cache=cache_folder(),
        checkpoints=Path("checkpoints"), parts=arguments.parts,
    )  # fmt: skip
    found = doubtful_labels(predicted.tiles, predicted.probabilities)
    page = as_page(found, arguments.show, params.split.corrections, Path("raw"), params.tiles)
    write_page(arguments.out, page)
    print(cross_validation(predicted, resamples=params.evaluate.bootstrap, seed=params.seed))
    print(f"{found['suspect'].sum()} of {len(found)} labels may be wrong")


def plots(arguments: argparse.Namespace) -> None:
    """Make the page of `dvc plots` work offline."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    from capetown.report.pages import plots_template

    try:
        with Repo() as repo, repo.config.edit("local") as config:
            page = Path(repo.tmp_dir or "", "plots.html")
            page.write_text(plots_template(), encoding="utf-8")
            config["plots"] |= {"html_template": str(page.relative_to(repo.dvc_dir))}
    except (DvcException, OSError) as error:
        raise CapetownError(
            f"cannot be written ({error})", where="the page of `dvc plots`"
        ) from error


def sample(arguments: argparse.Namespace) -> None:
    """Moved: python -m tools.synthetic, in the repository."""
    raise CapetownError("moved", fix="run `python -m tools.synthetic OUT` in the repository")


def backbones(arguments: argparse.Namespace) -> None:
    """Moved: python -m tools.timm_catalogue, in the repository."""
    raise CapetownError("moved", fix="run `python -m tools.timm_catalogue` in the repository")


def write_page(path: Path, page: str) -> None:
    """Write a page and print its path."""
    write_file(path, page.encode())
    print(f"Page: {path}")


def ending_in(suffix: str) -> Callable[[str], Path]:
    """Return an argument type for a file to write, so that no other kind is overwritten."""

    def take(name: str) -> Path:
        if not name.lower().endswith(suffix):
            raise argparse.ArgumentTypeError(f"{name!r} must end in {suffix}")
        return Path(name)

    return take


def parser() -> argparse.ArgumentParser:
    """Return the parser. Each command has its function in ``handler``."""
    root = argparse.ArgumentParser(prog="capetown", description=__doc__)
    commands = root.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, handler: Handler) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=handler.__doc__, description=handler.__doc__)
        added.set_defaults(handler=handler)
        return added

    added = command("check", check)
    added.add_argument("--params", type=Path, default=Path("params.yaml"), help="the params file")

    added = command("join", join)
    added.formatter_class, added.epilog = argparse.RawDescriptionHelpFormatter, JOIN_EXAMPLES
    added.add_argument(
        "export", type=Path, metavar="EXPORT", help="requests, .csv or .csv.gz, as the City's table"
    )
    added.add_argument(
        "--hexagons", type=Path, default=Path("raw/requests", HEXAGONS_FILE),
        metavar="FILE.geojson", help="the City's hexagons",
    )  # fmt: skip
    added.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER",
        help="new or empty folder, or one of an earlier `join`: workbook, tables, map and report",
    )  # fmt: skip

    added = command("predict", predict)
    added.add_argument(
        "paths", nargs="+", metavar="PATH",
        help="tile, folder, glob, s3://bucket/prefix, or @list.txt with one file per line",
    )  # fmt: skip
    added.add_argument("--model", type=Path, default=Path("models"), help="the model's folder")
    added.add_argument(
        "--out", required=True, metavar="FILE",
        help=f"file to write, local or in a bucket: {FORMATS} or - (stdout, as CSV)",
    )  # fmt: skip
    added.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto")
    added.add_argument("--crs", default="", help="CRS for tiles without one, such as EPSG:32734")
    added.add_argument(
        "--tile-metres", type=float, metavar="M",
        help="cut images into windows with sides of M metres",
    )  # fmt: skip
    added.add_argument(
        "--tile-pixels", type=int, metavar="PX",
        help="cut images without a scale into windows with sides of PX pixels",
    )  # fmt: skip
    added.add_argument(
        "--overlap", type=float, default=0, metavar="SHARE",
        help="overlap of neighbouring windows, 0 to 0.9",
    )  # fmt: skip
    added.add_argument(
        "--saliency", action="store_true",
        help="add the most influential point of each tile predicted to have a pool",
    )  # fmt: skip
    added.add_argument("--cluster", metavar="ADDRESS", help="compute on this Dask scheduler")

    added = command("pools", pools)
    added.add_argument("predictions", type=Path, metavar="PREDICTIONS", help="output of `predict`")
    added.add_argument(
        "--hexagons", type=Path, default=Path("raw/requests", HEXAGONS_FILE),
        metavar="FILE.geojson", help="the City's hexagons",
    )  # fmt: skip
    added.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help=f"file to write: {FORMATS}"
    )

    added = command("export", export)
    added.add_argument("--model", type=Path, default=Path("models"), help="the model's folder")
    added.add_argument(
        "--out", type=ending_in(".onnx"), required=True, metavar="FILE.onnx", help="file to write"
    )
    added.add_argument(
        "--deepness", type=float, metavar="METRES",
        help="export for QGIS's Deepness: the side of a training tile on the ground",
    )  # fmt: skip

    added = command("compare", compare)
    added.add_argument(
        "revisions", nargs="+", metavar="REV",
        help="Git revision, name of an experiment, or 'workspace'; the first is the baseline",
    )  # fmt: skip
    added.add_argument(
        "--markdown", action="store_true", help="print Markdown for a pull request, write no page"
    )
    added.add_argument(
        "--out", type=ending_in(".html"), default=Path("compare.html"), metavar="FILE.html",
        help="page to write",
    )  # fmt: skip

    added = command("labels", labels)
    added.add_argument(
        "--parts", type=int, default=5, choices=range(3, 21), metavar="N", help="models to train"
    )
    added.add_argument("--show", type=int, default=100, metavar="N", help="tiles on the page")
    added.add_argument(
        "--out", type=ending_in(".html"), default=Path("labels.html"), metavar="FILE.html",
        help="page to write",
    )  # fmt: skip

    command("plots", plots)

    for name, moved in (("sample", sample), ("backbones", backbones)):
        command(name, moved).add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return root


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command.

    A `CapetownError` becomes one line and exit status 1. Ctrl-C is 130. A closed pipe is 141.
    """
    arguments = parser().parse_args(argv)
    try:
        arguments.handler(arguments)
        sys.stdout.flush()
    except CapetownError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:
        # Python would report the closed pipe again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)
