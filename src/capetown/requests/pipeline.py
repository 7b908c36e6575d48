"""Writes the outputs of the join of requests to hexagons, and summarises them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

from capetown.geoparquet import GEOMETRY, write_frame
from capetown.requests.counts import count
from capetown.requests.hexagons import read_hexagons
from capetown.requests.join import Join, join
from capetown.requests.quality_report import Metrics, summarise
from capetown.requests.reader import JOINED
from capetown.requests.reference import ReferenceComparison, compare_with_reference, read_reference
from capetown.timing import step


def write_outputs(
    requests: Path, hexagons_file: Path, folder: Path, *, reference: Path | None, csv: bool
) -> tuple[Metrics, Join, ReferenceComparison | None]:
    """Join requests to hexagons, compare with the reference, and count per hexagon.

    Args:
        requests: the City's `sr.csv.gz`.
        hexagons_file: the City's hexagons.
        folder: an empty folder, for `requests.parquet`, `rejects.parquet`, `counts.parquet` and
            `requests.csv`.
        reference: the join that the City published; may be None.
        csv: whether to write `requests.csv`.

    Returns:
        Metrics, the join and the comparison, which is None without a reference.

    Raises:
        CapetownError: an input cannot be used.
        OSError, polars.exceptions.PolarsError: a file cannot be written.
    """
    with ThreadPoolExecutor(1) as beside, step("read, check, join and write"):
        expected = beside.submit(read_reference, reference) if reference else None
        hexagons = read_hexagons(hexagons_file)
        text = folder / "requests.csv" if csv else None
        joined = join(requests, hexagons, folder / "requests.parquet", text)
        joined.rejects.write_parquet(folder / "rejects.parquet")
    with step("compare with the reference"):
        theirs = compare_with_reference(joined.rows, expected.result()) if expected else None
    with step("count by hexagon"):
        counts = count(hexagons, joined.rows.lazy().filter(pl.col("status") == JOINED))
        write_frame(counts, hexagons.rings, folder / "counts.parquet")
    return summarise(joined, theirs, hexagons, counts), joined, theirs


def read_sheets(folder: Path, *names: str) -> dict[str, pl.DataFrame]:
    """Outputs of `write_outputs` for a workbook, so without polygons, by their names."""
    return {
        name: pl.read_parquet(folder / f"{name}.parquet").drop(GEOMETRY, strict=False)
        for name in names
    }
