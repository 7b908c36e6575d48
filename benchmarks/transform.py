"""How fast the transform stage is, and in how much memory, beside other ways to do the same.

    python -m benchmarks.transform

Makes a bucket of the City's size and one of ten times that, runs every method as a process of its
own, in turns, and prints medians of its seconds and the most memory that it held. The stage is
`python -m stages.transform` as it is, checks and comparison with the reference included. Then what
its parts cost, each alone, and, where `../shared/real-tables` has them, the City's own tables.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h3
import polars as pl
import yaml

from benchmarks.joins import METHODS
from benchmarks.processes import ROOT, run
from capetown import city
from capetown.requests.hexagons import cells_of
from capetown.requests.reader import CATEGORIES, NAMES, RequestTable, read_numbers, read_values
from capetown.requests.times import read_times

REAL = ROOT.parent / "shared" / "real-tables"
STAGE, STAGE_CSV, STAGE_LARGE = "stage", "stage, csv: true", "stage, 10 times the rows"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=941_634, help="rows of the smaller bucket")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each quick method")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, times in (("city", 1), ("large", 10)):
            rows = str(times * arguments.requests)
            run(["-m", "tools.synthetic", name, "--requests", rows, "--tiles", "0"], root)
        quick = {
            STAGE: workspace(root, "city", csv=False),
            "floor": method(root, "floor"),
            "least": method(root, "least"),
            STAGE_CSV: workspace(root, "city", csv=True),
        }
        slow = {name: method(root, name) for name in ("peers", "peers_csv", "nearest_located")}
        runs = [
            (name, *run(*what)) for _ in range(arguments.rounds) for name, what in quick.items()
        ]
        runs += [(name, *run(*what)) for _ in range(3) for name, what in slow.items()]
        large = workspace(root, "large", csv=False)
        runs += [(STAGE_LARGE, *run(*large)) for _ in range(3)]
        runs.append(("nearest", *run(*method(root, "nearest"))))
        check(quick[STAGE][1])
        parts(root / "city")
        if REAL.is_dir():
            (root / "real").symlink_to(REAL)
            real = workspace(root, "real", csv=False)
            run(*real)
            check(real[1])
        else:
            print(f"{REAL} is not there: the City's own tables are skipped")
    seconds = {
        name: statistics.median(s for other, s, _ in runs if other == name)
        for name in dict.fromkeys(name for name, *_ in runs)
    }
    print(f"{'':<26}{'median s':>10}{'ratio to stage':>16}{'peak MB':>10}")
    for name, median in seconds.items():
        base = seconds[STAGE_CSV if name == "peers_csv" else STAGE]
        peak = max(memory for other, _, memory in runs if other == name)
        print(f"{name:<26}{median:>10.2f}{median / base:>16.2f}{peak:>10.0f}")


def workspace(root: Path, bucket: str, *, csv: bool) -> tuple[list[str], Path]:
    """The stage's command, and a folder with its input and params."""
    folder = Path(tempfile.mkdtemp(dir=root))
    (folder / "raw").mkdir()
    (folder / "raw" / "requests").symlink_to(root / bucket)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["transform"]["csv"] = csv
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return ["-m", "stages.transform"], folder


def check(folder: Path) -> None:
    """Print in how many rows the stage's index differs from h3's own function and from the City."""
    ours = pl.read_parquet(folder / "hexes" / "requests.parquet")
    cells = [
        "0" if north is None or east is None
        else h3.latlng_to_cell(north, east, 8) if abs(north) <= 90 and abs(east) <= 180 else None
        for north, east in ours.select("latitude", "longitude").iter_rows()
    ]  # fmt: skip
    invalid = ours["join_status"] == "invalid_coordinates"
    theirs = pl.Series(cells).set(invalid, None)
    found = ours["h3_level8_index"].ne_missing(theirs).sum()
    city = pl.read_csv(folder / "raw" / "requests" / "sr_hex.csv.gz", infer_schema=False)
    both = ours.join(city, on="notification_number", suffix="_theirs")
    other = both["h3_level8_index"].ne_missing(both["h3_level8_index_theirs"]).sum()
    print(f"{len(ours):,} requests: {found} differ from h3's own function, "
          f"{other + len(ours) - len(both)} from sr_hex.csv.gz")  # fmt: skip


def parts(bucket: Path) -> None:
    """Print the CPU seconds that the parts of the join take, each alone, medians of three."""
    path = bucket / city.REQUESTS_TABLE
    frame = pl.concat(RequestTable(path, NAMES).frames(CATEGORIES))
    points = [read_numbers(frame[name]).to_numpy() for name in city.COORDINATES]
    work: dict[str, Callable[[], Any]] = {
        "polars reads the file": lambda: pl.read_csv(path, infer_schema=False),
        "the same, categories": lambda: pl.read_csv(
            path, infer_schema=False, schema_overrides=dict.fromkeys(CATEGORIES, pl.Categorical())
        ),
        "we read it strictly": lambda: [*RequestTable(path, NAMES).frames(CATEGORIES)],
        "types": lambda: read_values(frame),
        "  of that: times": lambda: [read_times(frame[name]) for name in city.TIMES],
        "cells": lambda: cells_of(*points),
    }
    for name, call in work.items():
        spent = []
        for _ in range(3):
            start = time.process_time()
            call()
            spent.append(time.process_time() - start)
        print(f"{name:<26}{statistics.median(spent):>10.2f} CPU s", flush=True)


def method(root: Path, name: str) -> tuple[list[str], Path]:
    """Another method's command, and a folder to run it in."""
    assert name in METHODS
    return ["-m", "benchmarks.joins", name, str(root / "city"), "."], Path(
        tempfile.mkdtemp(dir=root)
    )


if __name__ == "__main__":
    main()
