"""Seconds, memory and disk of the whole pipeline on tiles of the City's size, by stage.

    python -m benchmarks.city

Makes a bucket of 300 tiles of 1,250 pixels and a year of requests (`--bucket` names one that is
there), puts it into SeaweedFS on this machine, and runs `dvc repro` stage by stage in a clone of
the last commit. Prints what was measured, and by arithmetic what 7,043 tiles take.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from benchmarks.download import megabytes
from benchmarks.processes import ROOT, run
from capetown.city import TILES_FOLDER
from tests import s3
from tools.synthetic import make_bucket

STAGES = (
    "download_requests",
    "download_tiles",
    "transform",
    "split",
    "train",
    "evaluate",
    "report",
)
CITY = 7_043


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bucket", type=Path, help="a bucket of `python -m tools.synthetic`")
    parser.add_argument("--tiles", type=int, default=300)
    parser.add_argument("--requests", type=int, default=941_634)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        bucket = arguments.bucket or root / "bucket"
        if not arguments.bucket:
            make_bucket(
                bucket, requests=arguments.requests, tiles=arguments.tiles, seed=42, tile_side=1250
            )
        tiles = len(list((bucket / TILES_FOLDER).rglob("*.tif")))
        print(f"{tiles} tiles, {megabytes(bucket / TILES_FOLDER):.0f} MB")
        (root / "weed").mkdir()
        with s3.seaweed(root / "weed") as server:
            server.upload(bucket, f"{s3.PUBLIC}/city")
            work = clone(root / "clone", server.url)
            print(f"{'':<18}{'seconds':>9}{'peak MB':>9}{'disk MB':>9}{'of it tiles':>13}")
            for name in STAGES:
                seconds, peak = run(["-m", "dvc", "repro", "-q", "--single-item", name], work)
                # Links of DVC's cache are counted once.
                disk, kept = megabytes(work), megabytes(work / "raw" / TILES_FOLDER)
                print(f"{name:<18}{seconds:>9.1f}{peak:>9.0f}{disk:>9.0f}{kept:>13.1f}", flush=True)
        print(f"{CITY} tiles would keep {kept / tiles * CITY:.0f} MB in raw/, once")


def clone(folder: Path, endpoint: str) -> Path:
    """A clone of the last commit, whose source is the server."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["download"] |= {"bucket": f"s3://{s3.PUBLIC}/city", "endpoint_url": endpoint}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    command = [sys.executable, "-m", "dvc", "pull", "-q", "-r", "embedded", "data.dvc"]
    subprocess.run(command, cwd=folder, check=True)
    return folder


if __name__ == "__main__":
    main()
