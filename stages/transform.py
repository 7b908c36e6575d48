"""Join every service request to its hexagon, and check the result against the reference.

Outputs are replaced only if every check passes. A run that fails leaves the previous ones.
"""

import json
import logging
from pathlib import Path

import polars as pl

from capetown.city import HEXAGONS_FILE, REQUESTS_TABLE
from capetown.errors import CapetownError
from capetown.params import Transform, load_params
from capetown.requests.pipeline import write_outputs
from capetown.requests.quality_report import (
    Metrics,
    exceeded_thresholds,
    log_lines,
    verdict_details,
)
from stages import log_folder, run
from stages.outs import put_in_place, write_empty

RAW, OUT, METRICS = Path("raw"), Path("hexes"), Path("metrics/transform.json")
QUALITY = Path("metrics/quality.json")
REJECTS = log_folder() / "transform-rejects.parquet"
MISMATCHES = log_folder() / "transform-mismatches.parquet"
# The file to look at if a threshold is exceeded.
DETAILS = {
    "error_threshold": REJECTS,
    "missing_threshold": RAW / REQUESTS_TABLE,
    "unreadable_threshold": REJECTS,
    "reference_threshold": MISMATCHES,
}
VERDICT = "every threshold holds; the join can be trusted"
log = logging.getLogger("capetown")


def main() -> None:
    """Run the stage."""
    params = load_params(Path("params.yaml"))
    for earlier in (REJECTS, MISMATCHES):
        earlier.unlink(missing_ok=True)
    if not any((RAW / name).exists() for name in (REQUESTS_TABLE, HEXAGONS_FILE)):
        log.warning("no tables in %s/: there are no requests to join", RAW)
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
    log.info("verdict: %s: %s", VERDICT, verdict_details(metrics))


def make(folder: Path, settings: Transform) -> Metrics:
    """Write all outputs into an empty folder, and return the metrics.

    Raises:
        CapetownError: an input cannot be used, or a threshold is exceeded.
    """
    metrics, joined, theirs = write_outputs(
        RAW / REQUESTS_TABLE, RAW / HEXAGONS_FILE, folder,
        reference=RAW / settings.reference if settings.reference else None, csv=settings.csv,
    )  # fmt: skip
    for line in log_lines(metrics, joined, theirs):
        log.info("%s", line)
    faults = exceeded_thresholds(metrics, settings)
    if faults:
        joined.rejects.write_parquet(REJECTS)
        if theirs:
            theirs.mismatches.write_parquet(MISMATCHES)
        said = [f"{fault}, look at {DETAILS[name]}" for name, fault in faults.items()]
        raise CapetownError("; ".join(said), fix=f"{OUT}/ keeps the previous outputs")
    return metrics


if __name__ == "__main__":
    run(main)
