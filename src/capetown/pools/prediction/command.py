"""``capetown predict``: check the arguments, run, and summarise."""

import sys
from argparse import Namespace
from functools import partial
from math import inf

from capetown.errors import CapetownError
from capetown.imagery.georeference import GeoreferenceError, check_crs
from capetown.imagery.windows import Tiling
from capetown.layers import check_suffix
from capetown.pools.dataset.appearance import is_unlike
from capetown.pools.prediction.executors import cluster, this_process
from capetown.pools.prediction.run import STANDARD_OUTPUT, predict
from capetown.pools.prediction.shards import Summary

MAX_OVERLAP = 0.9


def run(arguments: Namespace) -> None:
    """Predict with the arguments of `capetown.cli.parser`, and print a summary.

    Raises:
        CapetownError: an argument is invalid, `predict` fails, or no tile is readable.
    """
    _check(arguments)
    out = arguments.out
    summary = predict(
        arguments.paths, out, model=arguments.model, device=arguments.device,
        tiling=Tiling(
            arguments.tile_metres or 0, arguments.tile_pixels or 0, arguments.overlap,
            arguments.crs,
        ),
        backend=partial(cluster, arguments.cluster) if arguments.cluster else this_process,
        saliency=arguments.saliency,
    )  # fmt: skip
    for line in describe(summary, out):
        print(line, file=sys.stderr if out == STANDARD_OUTPUT else sys.stdout)
    if summary.tiles and summary.unreadable == summary.tiles:
        raise CapetownError(
            "no tile could be read", where=out, fix="its column `error` has each tile's reason"
        )


def describe(summary: Summary, out: str) -> list[str]:
    """The lines to print about a run."""
    lines = []
    if summary.drifted:
        lines.append(
            f"{summary.drifted} tiles differ from the training data, such as "
            + "; ".join(summary.drift_examples)
        )
    if summary.empty:
        lines.append(
            f"{summary.empty} windows with data in less than half of their area are left out"
        )
    if summary.location_errors:
        lines.append(
            f"{summary.location_errors} tiles have an unusable location: see `location_error`"
        )
    if summary.located_by_name:
        lines.append(f"{summary.located_by_name} tiles are located by their names alone")
    if not summary.located:
        lines.append("no tile is located, so the location columns are empty")
    lines.append(
        f"{out}: {summary.tiles} tiles, {summary.pools} with a pool, {summary.unreadable} "
        "unreadable"
    )
    if is_unlike(summary.drifted, summary.tiles - summary.unreadable):
        lines.append(
            "most of these tiles do not look like the training tiles: do not trust the predictions "
            "before you have checked some by eye"
        )
    return lines


def _check(arguments: Namespace) -> None:
    out, overlap = arguments.out, arguments.overlap
    sides = {"--tile-metres": arguments.tile_metres, "--tile-pixels": arguments.tile_pixels}
    to_stdout = out == STANDARD_OUTPUT
    if not to_stdout:
        check_suffix(out)
    for invalid, where, what, fix in (
        (to_stdout and arguments.cluster, "--out -", "a cluster cannot write to standard output",
         "name a file in a bucket or shared folder"),
        (not 0 <= overlap <= MAX_OVERLAP, f"--overlap {overlap}",
         f"not between 0 and {MAX_OVERLAP}", ""),
        *((side is not None and not 0 < side < inf, f"{option} {side}", "not a length above 0", "")
          for option, side in sides.items()),
        (overlap and not any(sides.values()), "--overlap", "only windows overlap",
         "add --tile-metres or --tile-pixels"),
    ):  # fmt: skip
        if invalid:
            raise CapetownError(what, where=where, fix=fix)
    if arguments.crs:
        try:
            check_crs(arguments.crs)
        except GeoreferenceError as error:
            raise CapetownError(str(error), where=f"--crs {arguments.crs}") from error
