"""The transform stage on a hundred times the City's rows: seconds, CPU and memory.

    python -m benchmarks.hundredfold

Makes a bucket whose tables are a year of the City's size a hundred times over, each time with
numbers of its own, 94 million requests in all, and runs `python -m stages.transform` on it as a
process of its own, checks and comparison with the reference included. `--bucket` names a year that
is there. About 25 GB of disk are needed; the tables are removed at the end.
"""

import argparse
import resource
import shutil
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
from isal import igzip_threaded

from benchmarks.processes import run
from benchmarks.transform import workspace
from capetown.city import HEXAGONS_FILE, REQUESTS_TABLE
from capetown.city import REQUEST_ID as KEY

TABLES = (REQUESTS_TABLE, "sr_hex.csv.gz")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bucket", type=Path, help="a year of `python -m tools.synthetic`")
    parser.add_argument("--requests", type=int, default=941_634, help="rows of a year made here")
    parser.add_argument("--times", type=int, default=100, help="how often the year is repeated")
    parser.add_argument("--out", type=Path, help="where to work; a temporary folder by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.out) as folder:
        root = Path(folder)
        year = arguments.bucket
        if year is None:
            year, rows = root / "year", str(arguments.requests)
            run(["-m", "tools.synthetic", "year", "--requests", rows, "--tiles", "0"], root)
        print(f"{'rows':>12}{'seconds':>10}{'CPU s':>10}{'peak MB':>10}", flush=True)
        for times in (1, arguments.times):
            (root / "many").mkdir()
            count = repeat(year, root / "many", times)
            command, work = workspace(root, "many", csv=False)
            before = cpu_seconds()
            seconds, peak = run(command, work)
            spent = cpu_seconds() - before
            print(f"{count:>12,}{seconds:>10.1f}{spent:>10.1f}{peak:>10.0f}", flush=True)
            check(work, count)
            shutil.rmtree(root / "many")
            shutil.rmtree(work)


def repeat(year: Path, folder: Path, times: int) -> int:
    """Write a year's tables many times over, and return the rows of each.

    The first digits of a number, zeros in the City's, become the count of the repetition.
    """
    shutil.copy(year / HEXAGONS_FILE, folder)
    rows = 0
    for name in TABLES:
        frame = pl.read_csv(year / name, infer_schema=False)
        digits = len(str(times - 1))
        if not frame[KEY].str.starts_with("0" * digits).all():
            raise SystemExit(f"error: {year / name}: a {KEY} without {digits} zeros in front")
        opened: Any = igzip_threaded.open(folder / name, "wb", 1, threads=1)  # type: ignore[no-untyped-call]
        with opened as file:
            for number in range(times):
                ahead = pl.lit(f"{number:0{digits}}")
                again = frame.with_columns((ahead + pl.col(KEY).str.slice(digits)).alias(KEY))
                again.write_csv(file, include_header=number == 0)
        rows = len(frame) * times
    return rows


def check(work: Path, rows: int) -> None:
    """Stop unless as many requests were written, and as many agree with the reference."""
    written = pl.scan_parquet(work / "hexes" / "requests.parquet").select(pl.len()).collect().item()
    if written != rows:
        raise SystemExit(f"error: {written:,} of {rows:,} rows were written")


def cpu_seconds() -> float:
    """CPU seconds, user's and system's, of the processes that have ended under this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
