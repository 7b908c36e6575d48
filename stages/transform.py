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

from capetown.errors import CapetownError
from capetown.hexagons import count, read_hexagons, write_geoparquet
from capetown.joining import JOINED, compare, join, read_reference
from capetown.params import load_params
from capetown.summary import broken, lines, summarise
from stages import run, step

RAW, OUT, METRICS = Path("raw"), Path("hexes"), Path("metrics/transform.json")
REJECTS = Path("logs/transform-rejects.parquet")
MISMATCHES = Path("logs/transform-mismatches.parquet")
# Where a person looks when a threshold is exceeded.
LOOK = {
    "error_threshold": REJECTS,
    "missing_threshold": RAW / "sr.csv.gz",
    "reference_threshold": MISMATCHES,
}
log = logging.getLogger("capetown")


def main() -> None:
    """Run the stage."""
    params = load_params(Path("params.yaml"))
    for earlier in (REJECTS, MISMATCHES):
        earlier.unlink(missing_ok=True)
    with TemporaryDirectory(dir="logs", prefix="transform-") as folder:
        made = Path(folder) / OUT.name
        made.mkdir()
        with ThreadPoolExecutor(1) as beside, step("read, check, join and write"):
            reference = params.transform.reference
            expected = beside.submit(read_reference, RAW / reference) if reference else None
            hexagons = read_hexagons(RAW / "city-hex-polygons-8.geojson")
            csv = made / "sr_hex.csv.gz" if params.transform.csv else None
            joined = join(RAW / "sr.csv.gz", hexagons, made / "requests.parquet", csv)
            joined.rejects.write_parquet(made / "rejects.parquet")
        with step("compare with the reference"):
            theirs = compare(joined.rows, expected.result()) if expected else None
        with step("count by hexagon"):
            counts = count(hexagons, joined.rows.lazy().filter(pl.col("status") == JOINED))
            write_geoparquet(hexagons, counts, made / "counts.parquet")
        metrics = summarise(joined, theirs, hexagons, counts)
        for line in lines(metrics, joined, theirs):
            log.info("%s", line)
        faults = broken(
            metrics,
            error=params.transform.error_threshold,
            missing=params.transform.missing_threshold,
            reference=params.transform.reference_threshold,
        )
        if faults:
            joined.rejects.write_parquet(REJECTS)
            if theirs:
                theirs.mismatches.write_parquet(MISMATCHES)
            said = [f"{fault}, look at {LOOK[name]}" for name, fault in faults.items()]
            raise CapetownError(f"{'; '.join(said)}. {OUT}/ is left as it was.")
        shutil.rmtree(OUT, ignore_errors=True)
        made.rename(OUT)
    METRICS.parent.mkdir(exist_ok=True)
    METRICS.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    log.info("verdict: every threshold holds; the join can be trusted")


if __name__ == "__main__":
    run(main)
