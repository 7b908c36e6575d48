"""`capetown join`: the requests of one export on hexagons, in a folder of its own.

The folder gets

- `requests.xlsx`: the sheets `requests`, `counts` and `rejects`;
- `requests.parquet`, `counts.parquet` and `rejects.parquet`, as the stage `transform` writes them,
  and `requests.csv` if `transform.csv` is true;
- `map.png`, and `report.html`, the report's part on requests.
"""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import polars as pl

from capetown.errors import CapetownError
from capetown.params import Transform
from capetown.report.facts import Facts
from capetown.report.render import markdown_and_images, page
from capetown.report.request_statistics import request_tables
from capetown.requests.pipeline import read_sheets, write_outputs
from capetown.requests.quality_report import exceeded_thresholds, log_lines
from capetown.requests.reader import FAILED, INVALID, JOINED, MISSING, OUTSIDE, STATUS
from capetown.storage import folder_written_whole, unwritable
from capetown.timing import step
from capetown.workbook import write_workbook

WORKBOOK, MAP, REPORT = "requests.xlsx", "map.png", "report.html"
TABLES = ("requests", "counts", "rejects")
CSV = "requests.csv"


def join_export(export: Path, hexagons: Path, out: Path, settings: Transform) -> Iterator[str]:
    """Write the folder, and yield lines for people, the verdict last.

    Args:
        export: a table of requests in the columns of `city.py`.
        hexagons: the City's hexagons.
        out: the folder; see `storage.folder_written_whole`.
        settings: the thresholds; the reference is not used.

    Raises:
        CapetownError: an input cannot be used or the folder cannot be written, which is left as it
            was; or a threshold is exceeded, after the folder is written.
    """
    for path, fix in ((export, "name the export"), (hexagons, "name the file with --hexagons")):
        if not path.is_file():
            raise CapetownError("no such file", where=path, fix=fix)
    others = (*(f"{name}.parquet" for name in TABLES), CSV, MAP, REPORT)
    try:
        with folder_written_whole(out, WORKBOOK, *others) as folder:
            metrics, joined, _ = write_outputs(
                export, hexagons, folder, reference=None, csv=settings.csv
            )
            exceeded = exceeded_thresholds(metrics, settings)
            with step("workbook"):
                csv = f", and so has {CSV}" if settings.csv else "; `transform.csv: true` adds CSV"
                write_workbook(folder / WORKBOOK, read_sheets(folder, *TABLES), csv)
            with step("map and report"):
                facts = _facts(export, folder, metrics, settings, exceeded)
                _, images = markdown_and_images(facts)
                (folder / MAP).write_bytes(images[MAP]())
                (folder / REPORT).write_text(page(facts), encoding="utf-8")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise unwritable(f"{out}/", error) from error
    yield from log_lines(metrics, joined, None)
    yield ""
    yield from verdict(metrics, len(joined.rejects), out)
    if exceeded:
        raise CapetownError(
            "; ".join(exceeded.values()), where="do not use the result yet",
            fix=f"look at the sheet `rejects` of {out / WORKBOOK}",
        )  # fmt: skip
    yield (
        f"every threshold of params.yaml held: {metrics['failure_rate']:.4%} of the requests with "
        f"coordinates failed (transform.error_threshold is {settings.error_threshold:.4%})"
    )
    yield f"open {out / WORKBOOK}"


def verdict(metrics: Mapping[str, Any], rejects: int, out: Path) -> list[str]:
    """The numbers that an analyst looks for."""
    found = (
        (metrics["requests"], "requests"),
        (metrics[JOINED], "joined to a hexagon"),
        (metrics[MISSING], "without coordinates"),
        (metrics[OUTSIDE], "outside the hexagons"),
        (metrics[INVALID], "with coordinates that do not exist"),
        (rejects, "rejected: the last two, or a time or number that cannot be read"),
    )
    return [f"verdict on {out}/:", *(f"{count:>12,} {what}" for count, what in found)]


def _facts(
    export: Path, folder: Path, metrics: Mapping[str, Any], settings: Transform,
    exceeded: Mapping[str, str],
) -> Facts:  # fmt: skip
    rejects = pd.read_parquet(folder / "rejects.parquet")
    nothing = pd.DataFrame()
    return Facts(
        transform=metrics,
        hexagons=gpd.read_parquet(folder / "counts.parquet"),
        tables=request_tables(pl.scan_parquet(folder / "requests.parquet")),
        rejects=rejects[rejects[STATUS].isin(FAILED)],
        split={}, evaluate={}, model={}, history=nothing, predictions=nothing, sheets=nothing,
        curves={}, samples=nothing, mistakes=nothing, tiles=nothing, evaluation=folder,
        inventory=pd.DataFrame({"size": [export.stat().st_size]}),
        fingerprint=sha256(export.read_bytes()).hexdigest()[:16],
        settings={"download": {"source": export.name}, "transform": settings.model_dump()},
        is_export=True, exceeded=list(exceeded.values()),
    )  # fmt: skip
