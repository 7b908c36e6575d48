"""Speed, memory and disk of the download stage on tiles of the City's size.

    python -m benchmarks.download

Makes 300 tiles of 1,250 pixels, puts them into SeaweedFS on this machine, and runs every way as a
process of its own, in turns: the stage as it is, the stage that keeps the originals, a bare loop in
threads that fetches, verifies, decodes and resizes, the same loop from files on the disk (what the
decoder allows), `dvc import-url`, and one object after the other. Then the formats and filters that
a reduced tile may have, on one core.
"""

import argparse
import io
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from benchmarks.processes import ROOT, run
from capetown.city import CLASSES, MANIFEST, TILES_FOLDER
from tests import s3
from tools.synthetic.tiles import ACROSS, cuts

SIDE = 1250
STAGE, AGAIN, ORIGINALS = "stage", "stage, when all is there", "stage, tile_side empty"
LOOP, DECODER = "bare loop", "bare loop from the disk"
DVC, ONE = "dvc import-url", "one at a time, as it comes"
# Of a tile: fetched, verified, decoded, resized, written.
WORK = """
import hashlib, io, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import s3fs
from PIL import Image

def reduce(name, data):
    hashlib.md5(data).digest(), hashlib.sha256(data).digest()
    image = Image.open(io.BytesIO(data)).resize((640, 640), Image.Resampling.BILINEAR)
    image.convert("YCbCr").save(name, "TIFF", compression="jpeg", quality=90)

def fetched(key):
    reduce(key.rsplit("/")[-1], fs.cat_file(key))

def read(path):
    reduce(path.name, path.read_bytes())
"""
LOOPS = {
    LOOP: "fs = s3fs.S3FileSystem(anon=True, endpoint_url=sys.argv[1])\n"
    "keys = [key for key in fs.find(sys.argv[2]) if key.endswith('.tif')]\n"
    "list(ThreadPoolExecutor(8).map(fetched, keys))\n",
    DECODER: "paths = sorted(Path(sys.argv[3]).rglob('*.tif'))\n"
    "list(ThreadPoolExecutor(8).map(read, paths))\n",
    ONE: "fs = s3fs.S3FileSystem(anon=True, endpoint_url=sys.argv[1])\n"
    "for key in fs.find(sys.argv[2]):\n"
    "    Path(key.rsplit('/')[-1]).write_bytes(fs.cat_file(key))\n",
}
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "JPEG, quality 85": ("YCbCr", {"compression": "jpeg", "quality": 85}),
    "JPEG, quality 90": ("YCbCr", {"compression": "jpeg", "quality": 90}),
    "JPEG, quality 95": ("YCbCr", {"compression": "jpeg", "quality": 95}),
    "JPEG of RGB, quality 90": ("RGB", {"compression": "jpeg", "quality": 90}),
    "Zstandard": ("RGB", {"compression": "zstd", "tiffinfo": {317: 2}}),
    "Deflate": ("RGB", {"compression": "tiff_adobe_deflate", "tiffinfo": {317: 2}}),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        pictures = [cut.pixels for cut in islice(cuts(9, 42, SIDE), ACROSS**2)]
        make_bucket(root / "bucket", pictures, arguments.tiles)
        (root / "weed").mkdir()
        with s3.seaweed(root / "weed") as server:
            server.upload(root / "bucket", f"{s3.PUBLIC}/city")
            transfers(root, server.url, arguments.tiles, arguments.rounds)
    formats(pictures)


def transfers(root: Path, endpoint: str, tiles: int, rounds: int) -> None:
    """Print seconds, ratio to the stage's, tiles a second, memory and disk of each way."""
    runs: dict[str, list[tuple[float, float, float]]] = {}
    kept: dict[str, float] = {}
    for _ in range(rounds):
        work = stage(root, endpoint, 640)
        runs.setdefault(STAGE, []).append(timed(["-m", "stages.download_tiles"], work))
        runs.setdefault(AGAIN, []).append(timed(["-m", "stages.download_tiles"], work))
        kept[STAGE] = kept[AGAIN] = megabytes(work)
        for name, code in LOOPS.items():
            work = Path(tempfile.mkdtemp(dir=root))
            command = ["-c", WORK + code, endpoint, f"{s3.PUBLIC}/city", str(root / "bucket")]
            runs.setdefault(name, []).append(timed(command, work))
            kept[name] = megabytes(work)
        for name, work, command in (
            (ORIGINALS, stage(root, endpoint, None), ["-m", "stages.download_tiles"]),
            (DVC, repository(root, endpoint), import_url()),
        ):
            runs.setdefault(name, []).append(timed(command, work))
            kept[name] = megabytes(work)
    print(f"{tiles} tiles of {SIDE} pixels from this machine; CPU without the server's")
    print(f"{'':<28}{'median s':>10}{'CPU s':>8}{'CPU, ratio':>12}{'peak MB':>9}{'disk MB':>9}")
    base = statistics.median(cpu for _, cpu, _ in runs[STAGE])
    for name, found in runs.items():
        wall, cpu = (statistics.median(run[column] for run in found) for column in (0, 1))
        peak = max(memory for *_, memory in found)
        print(
            f"{name:<28}{wall:>10.2f}{cpu:>8.2f}{cpu / base:>12.2f}{peak:>9.0f}{kept[name]:>9.0f}",
            flush=True,
        )


def timed(command: list[str], folder: Path) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak megabytes of a Python process in a folder."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds, peak = run(command, folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, peak


def formats(pictures: list[np.ndarray]) -> None:
    """Print bytes, milliseconds and fidelity of reduced tiles by side, filter and format."""
    print(f"\n{'side, filter':<20}{'resize ms':>10}")
    images = [Image.fromarray(pixels) for pixels in pictures]
    for side in (512, 640):
        for method in ("BOX", "BILINEAR", "BICUBIC", "LANCZOS"):
            start = time.perf_counter()
            small = [i.resize((side, side), Image.Resampling[method]) for i in images]
            spent = (time.perf_counter() - start) / len(images)
            print(f"{side}, {method.lower():<15}{spent * 1000:>10.1f}")
    print(f"\n{'format at 640':<26}{'bytes':>9}{'write ms':>10}{'read ms':>9}{'PSNR dB':>9}")
    small = [image.resize((640, 640), Image.Resampling.BILINEAR) for image in images]
    for name, (mode, how) in FORMATS.items():
        start = time.perf_counter()
        files = [encode(image.convert(mode), how) for image in small]
        written = time.perf_counter()
        back = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
        spent = time.perf_counter() - written
        pairs = zip(back, small, strict=True)
        error = np.mean([np.square(a - np.asarray(b, dtype=float)) for a, b in pairs])
        fidelity = 10 * np.log10(255**2 / error) if error else np.inf
        size = statistics.mean(map(len, files))
        print(
            f"{name:<26}{size:>9.0f}{(written - start) / len(files) * 1000:>10.1f}"
            f"{spent / len(files) * 1000:>9.1f}{fidelity:>9.1f}",
            flush=True,
        )


def encode(image: Image.Image, how: dict[str, Any]) -> bytes:
    """A TIFF of an image."""
    file = io.BytesIO()
    image.save(file, "TIFF", **how)
    return file.getvalue()


def make_bucket(folder: Path, pictures: list[np.ndarray], count: int) -> None:
    """The pictures under so many names, in both classes' folders, each with its manifest."""
    files = [encode(Image.fromarray(pixels), {"compression": "tiff_lzw"}) for pixels in pictures]
    print(f"{statistics.mean(map(len, files)) / 1e6:.2f} MB a tile")
    names = [f"W35A_{number // 100 + 1}_{number % 100 + 1}.tif" for number in range(count)]
    for label, chosen in zip(CLASSES, (names[: count // 3], names[count // 3 :]), strict=True):
        place = folder / TILES_FOLDER / label
        place.mkdir(parents=True)
        for name, data in zip(chosen, cycle(files)):
            (place / name).write_bytes(data)
        (place / MANIFEST).write_text("\n".join(chosen) + "\n")


def megabytes(folder: Path) -> float:
    """The disk that a folder's files take, those of several names once."""
    sizes = {(s := path.stat()).st_ino: s.st_size for path in folder.rglob("*") if path.is_file()}
    return sum(sizes.values()) / 1e6


def stage(root: Path, endpoint: str, side: int | None) -> Path:
    """A folder with the stage's params."""
    folder = Path(tempfile.mkdtemp(dir=root))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["download"] |= {
        "bucket": f"s3://{s3.PUBLIC}/city", "endpoint_url": endpoint, "tile_side": side,
    }  # fmt: skip
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


if __name__ == "__main__":
    main()
