"""How fast the download stage mirrors a bucket, and in how much memory, beside other ways.

    python -m benchmarks.download

Makes 7,000 tiles of 60 kB, puts them into SeaweedFS on this machine, and runs every method as a
process of its own, in turns: the stage as it is, `dvc import-url`, and a loop that fetches one
object after the other, as the earlier solution did. Then the stage and the loop again, through a
proxy that answers 30 ms late, as a server at some distance would.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from benchmarks.processes import ROOT, run
from tests import s3

# A square of so many pixels, not compressed, is a TIFF of 60 kB.
SIDE = 141
STAGE, AGAIN = "stage", "stage, when all is there"
DVC, LOOP = "dvc import-url", "one at a time"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=7_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--delay", type=float, default=0.03, help="seconds")
    arguments = parser.parse_args()
    near: dict[str, list[tuple[float, float]]] = {STAGE: [], AGAIN: [], DVC: [], LOOP: []}
    far: dict[str, list[tuple[float, float]]] = {STAGE: [], LOOP: []}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_tiles(root / "bucket", arguments.tiles)
        (root / "weed").mkdir()
        with s3.seaweed(root / "weed") as server, s3.proxy(server.url) as proxy:
            server.upload(root / "bucket", f"{s3.PUBLIC}/city")
            for _ in range(arguments.rounds):
                work = stage(root, server.url)
                near[STAGE].append(run(["-m", "stages.download"], work))
                near[AGAIN].append(run(["-m", "stages.download"], work))
                near[DVC].append(run(import_url(), repository(root, server.url)))
                near[LOOP].append(run(loop(server.url), Path(tempfile.mkdtemp(dir=root))))
            proxy.delay = arguments.delay
            far[STAGE].append(run(["-m", "stages.download"], stage(root, proxy.url)))
            far[LOOP].append(run(loop(proxy.url), Path(tempfile.mkdtemp(dir=root))))
    show(f"{arguments.tiles} tiles from this machine", near)
    show(f"the same, each answer {arguments.delay * 1000:.0f} ms late", far)


def show(title: str, runs: dict[str, list[tuple[float, float]]]) -> None:
    """Print medians of the seconds, their ratio to the stage's, and the highest peak."""
    print(f"{title:<36}{'median s':>10}{'ratio to stage':>16}{'peak MB':>10}")
    base = statistics.median(seconds for seconds, _ in runs[STAGE])
    for name, found in runs.items():
        median = statistics.median(seconds for seconds, _ in found)
        peak = max(memory for _, memory in found)
        print(f"{name:<36}{median:>10.2f}{median / base:>16.2f}{peak:>10.0f}", flush=True)


def make_tiles(folder: Path, count: int) -> None:
    """Tiles of noise in both classes' folders, each folder with its manifest."""
    noise = np.random.default_rng(0)
    for label, share in (("yes", count - count // 3), ("no", count // 3)):
        place = folder / "images" / "swimming-pool" / label
        place.mkdir(parents=True)
        names = [f"W35A_{number // 100}_{number % 100}.tif" for number in range(share)]
        for name in names:
            pixels = noise.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / name)
        (place / "manifest").write_text("\n".join(names) + "\n")


def stage(root: Path, endpoint: str) -> Path:
    """A folder with the stage's params."""
    folder = Path(tempfile.mkdtemp(dir=root))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["download"] |= {"source": f"s3://{s3.PUBLIC}/city", "endpoint_url": endpoint}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


def repository(root: Path, endpoint: str) -> Path:
    """An empty DVC repository that knows the server."""
    folder = Path(tempfile.mkdtemp(dir=root))
    for command in (
        ["init", "-q", "--no-scm"],
        ["remote", "add", "-q", "city", f"s3://{s3.PUBLIC}/city"],
        ["remote", "modify", "-q", "city", "endpointurl", endpoint],
        ["remote", "modify", "-q", "city", "allow_anonymous_login", "true"],
    ):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=folder, check=True)
    return folder


def import_url() -> list[str]:
    """DVC's own way: into its cache, and a link or copy of that beside a `.dvc` file."""
    return ["-m", "dvc", "import-url", "-q", "remote://city/images", "raw"]


def loop(endpoint: str) -> list[str]:
    """One object after the other, as it comes."""
    code = (
        "import sys; from pathlib import Path; import s3fs\n"
        "fs = s3fs.S3FileSystem(anon=True, endpoint_url=sys.argv[1])\n"
        "for key in fs.find(sys.argv[2]):\n"
        "    path = Path('raw', key)\n"
        "    path.parent.mkdir(parents=True, exist_ok=True)\n"
        "    path.write_bytes(fs.cat_file(key))\n"
    )
    return ["-c", code, endpoint, f"{s3.PUBLIC}/city"]


if __name__ == "__main__":
    main()
