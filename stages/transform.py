"""Put every service request in its hexagon, check it against the City's answer, and say why not.

All is written in a folder of its own under logs/ and put in place when it is known to be good, so
that a run that fails leaves the last good output as it was.
"""

import json
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from capetown.city import HEXAGONS_FILE, REQUESTS_TABLE
from capetown.errors import CapetownError
from capetown.files import replace_folder
from capetown.hexes.hexagons import count, read_hexagons, write_geoparquet
from capetown.hexes.joining import JOINED, compare_with_reference, join, read_reference
from capetown.hexes.summary import Metrics, exceeded_thresholds, log_lines, summarise
from capetown.params import Transform, load_params
from stages import run, step

RAW, OUT, METRICS = Path("raw"), Path("hexes"), Path("metrics/transform.json")
LOGS, PREFIX = Path("logs"), "transform-"
REJECTS = LOGS / f"{PREFIX}rejects.parquet"
MISMATCHES = LOGS / f"{PREFIX}mismatches.parquet"
# Where a person looks when a threshold is exceeded.
LOOK = {
    "error_threshold": REJECTS,
    "missing_threshold": RAW / REQUESTS_TABLE,
    "reference_threshold": MISMATCHES,
}
log = logging.getLogger("capetown")


def main() -> None:
    """Run the stage."""
    params = load_params(Path("params.yaml"))
    for earlier in (REJECTS, MISMATCHES):
        earlier.unlink(missing_ok=True)
    for killed in LOGS.glob(f"{PREFIX}*/"):
        shutil.rmtree(killed, ignore_errors=True)
    try:
        with TemporaryDirectory(dir=LOGS, prefix=PREFIX, ignore_cleanup_errors=True) as folder:
            made = Path(folder) / OUT.name
            made.mkdir()
            metrics = make(made, params.transform)
            replace_folder(made, OUT, Path(folder) / "last")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CapetownError(f"{OUT}/ cannot be written ({error}) and is left as it was") from error
    METRICS.parent.mkdir(exist_ok=True)
    METRICS.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    log.info("verdict: every threshold holds; the join can be trusted")


def make(folder: Path, settings: Transform) -> Metrics:
    """Make everything in an empty folder, and return the metrics of a join to be trusted.

    Raises:
        CapetownError: an input cannot be used, or a threshold is exceeded.
    """
    with ThreadPoolExecutor(1) as beside, step("read, check, join and write"):
        expected = (
            beside.submit(read_reference, RAW / settings.reference) if settings.reference else None
        )
        hexagons = read_hexagons(RAW / HEXAGONS_FILE)
        csv = folder / "sr_hex.csv.gz" if settings.csv else None
        joined = join(RAW / REQUESTS_TABLE, hexagons, folder / "requests.parquet", csv)
        joined.rejects.write_parquet(folder / "rejects.parquet")
    with step("compare with the reference"):
        theirs = compare_with_reference(joined.rows, expected.result()) if expected else None
    with step("count by hexagon"):
        counts = count(hexagons, joined.rows.lazy().filter(pl.col("status") == JOINED))
        write_geoparquet(hexagons, counts, folder / "counts.parquet")
    metrics = summarise(joined, theirs, hexagons, counts)
    for line in log_lines(metrics, joined, theirs):
        log.info("%s", line)
    faults = exceeded_thresholds(
        metrics,
        error=settings.error_threshold,
        missing=settings.missing_threshold,
        reference=settings.reference_threshold,
    )
    if faults:
        joined.rejects.write_parquet(REJECTS)
        if theirs:
            theirs.mismatches.write_parquet(MISMATCHES)
        said = [f"{fault}, look at {LOOK[name]}" for name, fault in faults.items()]
        raise CapetownError(f"{'; '.join(said)}. {OUT}/ is left as it was.")
    return metrics


if __name__ == "__main__":
    run(main)
