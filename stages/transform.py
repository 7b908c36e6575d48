"""Join every service request to its hexagon, and check the result against the reference.

Outs are replaced only if every check passes. A run that fails leaves the previous ones.
"""

import json
import logging
import sys
from pathlib import Path

import polars as pl

from capetown.city import HEXAGONS_FILE, REQUESTS_TABLE
from capetown.errors import CapetownError
from capetown.params import Transform, load_params
from capetown.requests import quality_report
from capetown.requests.pipeline import read_sheets, write_outputs
from capetown.timing import step
from capetown.workbook import write_workbook
from stages import log_folder, run
from stages.outs import keep_results, put_in_place, write_empty

RAW, OUT = Path("raw/requests"), Path("hexes")
WORKBOOK = "counts-and-rejects.xlsx"
METRICS, QUALITY = Path("metrics/transform.json"), Path("metrics/quality.json")
REJECTS = log_folder() / "transform-rejects.parquet"
MISMATCHES = log_folder() / "transform-mismatches.parquet"
# The file that shows why a threshold is exceeded.
DETAILS = {
    "error_threshold": REJECTS,
    "missing_threshold": RAW / REQUESTS_TABLE,
    "unreadable_threshold": REJECTS,
    "reference_threshold": MISMATCHES,
}
VERDICT = "every threshold holds; the join can be trusted"
log = logging.getLogger("capetown")


def main() -> None:
    """Write hexes/, metrics/transform.json and metrics/quality.json."""
    # The search for cells holds the interpreter, while reading waits for it at each step.
    sys.setswitchinterval(0.0005)
    params = load_params(Path("params.yaml"))
    for earlier in (REJECTS, MISMATCHES):
        earlier.unlink(missing_ok=True)
    if not any((RAW / name).exists() for name in (REQUESTS_TABLE, HEXAGONS_FILE)):
        keep_results("requests")
        write_empty(OUT, METRICS, QUALITY)
        return
    try:
        with put_in_place(OUT, METRICS, QUALITY) as made:
            (made / OUT).mkdir()
            metrics = {"verdict": VERDICT, **make(made / OUT, params.transform)}
            quality = metrics.pop("quality")
            for path, found in ((METRICS, metrics), (QUALITY, quality)):
                (made / path).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CapetownError(f"cannot be written ({error})", where=f"{OUT}/") from error
    log.info("verdict: %s: %s", VERDICT, quality_report.verdict_details(metrics))


def make(folder: Path, settings: Transform) -> quality_report.Metrics:
    """Write the tables to an empty folder. Return the metrics if no threshold is exceeded."""
    reference = RAW / settings.reference if settings.reference else None
    if reference and not reference.exists():
        fix = "add it to download.requests, or leave transform.reference empty"
        raise CapetownError("no such file", where=reference, fix=fix)
    metrics, joined, theirs = write_outputs(
        RAW / REQUESTS_TABLE, RAW / HEXAGONS_FILE, folder, reference=reference, csv=settings.csv
    )
    log.info("%s", "\n".join(quality_report.log_lines(metrics, joined, theirs)))
    if faults := quality_report.exceeded_thresholds(metrics, settings):
        joined.rejects.write_parquet(REJECTS)
        if theirs:
            theirs.mismatches.write_parquet(MISMATCHES)
        what = "; ".join(f"{fault}, see {DETAILS[name]}" for name, fault in faults.items())
        raise CapetownError(what, fix=f"{OUT}/ keeps the previous outputs")
    with step("workbook"):
        write_workbook(folder / WORKBOOK, read_sheets(folder, "counts", "rejects"))
    return metrics


if __name__ == "__main__":
    run(main)
