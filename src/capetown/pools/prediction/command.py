"""``capetown predict``, from the arguments of the command line to what it prints."""

import sys
from argparse import Namespace
from functools import partial
from pathlib import Path

from capetown.errors import CapetownError
from capetown.imagery.georeference import GeoreferenceError, check_crs
from capetown.imagery.windows import Tiling
from capetown.pools.prediction.executors import cluster, processes, this_process
from capetown.pools.prediction.run import STANDARD_OUTPUT, predict
from capetown.pools.prediction.shards import WRITERS, Summary

MOST_OVERLAP = 0.9


def run(arguments: Namespace) -> None:
    """Predict and print what came out.

    Args:
        arguments: those of `capetown.cli.parser`.

    Raises:
        CapetownError: if an argument cannot be used, `predict` fails, or no tile could be read.
    """
    out = arguments.out
    machines = this_process
    if arguments.cluster:
        machines = partial(cluster, arguments.cluster)
    elif arguments.workers:
        machines = partial(processes, arguments.workers)
    _check(arguments)
    summary = predict(
        arguments.paths,
        out,
        model=arguments.model,
        device=arguments.device,
        cutting=Tiling(
            arguments.tile_metres, arguments.tile_pixels, arguments.overlap, arguments.crs
        ),
        machines=machines,
        with_evidence=arguments.evidence,
    )
    for line in describe(summary, out):
        print(line, file=sys.stderr if out == STANDARD_OUTPUT else sys.stdout)
    if summary.tiles and summary.unread == summary.tiles:
        raise CapetownError(f"no tile could be read; {out} says why, tile by tile.")


def describe(summary: Summary, out: str) -> list[str]:
    """A summary in lines."""
    lines = []
    if summary.unlike:
        lines.append(
            f"{summary.unlike} tiles are unlike those that the model learned from, such as "
            + "; ".join(summary.named)
        )
    if summary.empty:
        lines.append(f"{summary.empty} windows without any data are left out")
    if summary.misplaced:
        lines.append(
            f"{summary.misplaced} tiles have no place that can be used; place_error says why"
        )
    if not summary.placed:
        lines.append("no tile says where it lies, so the columns of places are empty")
    lines.append(
        f"{out}: {summary.tiles} tiles, {summary.pools} with a pool, {summary.unread} that cannot "
        "be read"
    )
    return lines


def _check(arguments: Namespace) -> None:
    out = arguments.out
    if out != STANDARD_OUTPUT and Path(out).suffix not in WRITERS:
        raise CapetownError(f"--out {out}: ends in neither .csv nor .parquet, and is not -.")
    if arguments.cluster and out == STANDARD_OUTPUT:
        raise CapetownError("--out -: a cluster writes to a shared folder or bucket; name a file.")
    if arguments.cluster and arguments.workers:
        raise CapetownError("--cluster and --workers: choose one.")
    if arguments.workers is not None and arguments.workers < 1:
        raise CapetownError(f"--workers {arguments.workers}: ask for one or more.")
    if not 0 <= arguments.overlap <= MOST_OVERLAP:
        raise CapetownError(
            f"--overlap {arguments.overlap}: give a share from 0 to {MOST_OVERLAP}."
        )
    if min(arguments.tile_metres, arguments.tile_pixels) < 0:
        raise CapetownError("--tile-metres, --tile-pixels: give a number above 0.")
    if arguments.overlap and not (arguments.tile_metres or arguments.tile_pixels):
        raise CapetownError("--overlap: is of windows; give --tile-metres or --tile-pixels, too.")
    if arguments.crs:
        try:
            check_crs(arguments.crs)
        except GeoreferenceError as error:
            raise CapetownError(f"--crs {arguments.crs}: {error}") from error
