"""The documented commands on data of the City's full size, from an empty clone to the report.

    python -m benchmarks.rehearsal build --bucket FOLDER [--hexagons FILE]
    python -m benchmarks.rehearsal run --bucket FOLDER --work FOLDER [--interrupt]

`build` makes 7,043 LZW tiles of 1,250 pixels (28 GB) and tables of 941,634 requests, and keeps them
in SeaweedFS under --bucket. Tiles come from 300 drawings by flips, turns, colour and noise. Their
names are valid, blocks lie side by side in the City's hexagons, and edges of neighbours continue.
With --hexagons requests lie in the hexagons of that file, which is the City's own; else in nearly
the same ones. `build` goes on where it stopped.

`run` clones the last commit into --work, runs the commands for the City's data against that bucket,
and prints seconds, CPU seconds and peak memory of each stage, and where the disk went. With
--interrupt it kills the download after a third of the tiles and the training after half of its
epochs, and runs the same command again.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import NamedTuple

import h3
import numpy as np
import numpy.typing as npt
import polars as pl
import psutil
import pyproj
import tifffile

from benchmarks.download import megabytes
from benchmarks.processes import ROOT
from capetown.city import (
    BLOCKS_ACROSS,
    CELLS_ACROSS,
    CLASSES,
    HEXAGONS_FILE,
    INDEX,
    LATITUDE,
    LONGITUDE,
    MANIFEST,
    RESOLUTION,
    TILE_CRS,
    TILES_FOLDER,
    tile_bounds,
)  # fmt: skip
from capetown.imagery.reading import Pixels, read_tile
from tests import s3
from tools.synthetic import make_bucket

TILES, WITH_POOL, REQUESTS, SIDE = 7_043, 4_643, 941_634, 1250
ORIGINALS, SHEETS = 300, 16
# Pixels over which a tile fades into the edge that it shares with its neighbour.
FADE = 40
PREFIX = f"{s3.PUBLIC}/city"


class Cell(NamedTuple):
    """A tile to make: where it is, which drawing it comes from, and how it is changed.

    Attributes:
        name: without suffix.
        at: column and row in the grid of all cells, from the north-west.
        turns: quarter turns, of which those from 4 on start with a mirror image.
    """

    name: str
    at: tuple[int, int]
    original: int
    turns: int
    gain: npt.NDArray[np.float32]


def main() -> None:
    """Build or run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["build", "run"])
    parser.add_argument("--bucket", type=Path, required=True)
    parser.add_argument("--hexagons", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--interrupt", action="store_true")
    arguments = parser.parse_args()
    arguments.bucket.mkdir(parents=True, exist_ok=True)
    with s3.seaweed(arguments.bucket, volume_megabytes=1000, volumes=100) as server:
        if arguments.what == "build":
            build(server, arguments.bucket, arguments.hexagons)
        else:
            rehearse(server.url, arguments.work.resolve(), interrupt=arguments.interrupt)


# --- The bucket ---------------------------------------------------------------------------------


def build(server: s3.Server, folder: Path, hexagons: Path | None) -> None:
    """Put tables and tiles into the server."""
    drawings = folder / "drawings"
    if not drawings.exists():
        make_bucket(drawings, requests=REQUESTS, tiles=ORIGINALS, seed=42, tile_side=SIDE)
    if hexagons:
        move_requests(drawings, hexagons)
    for table in drawings.glob("*.*"):
        server.fs.put_file(str(table), f"{PREFIX}/{table.name}")
    cells_of_city = h3_cells(drawings / HEXAGONS_FILE)
    rng = np.random.default_rng(42)
    paths = [sorted((drawings / TILES_FOLDER / label).glob("*.tif")) for label in CLASSES]
    originals = [read_tile(path) for path in [*paths[0], *paths[1]]]
    cells = list(draw_cells(cells_of_city, len(paths[0]), len(paths[1]), rng))
    at = {cell.at: cell for cell in cells}
    there = {path.rsplit("/", 1)[-1] for path in server.fs.find(f"{PREFIX}/{TILES_FOLDER}")}

    def make(cell: Cell) -> None:
        label = CLASSES[cell.original >= len(paths[0])]
        if f"{cell.name}.tif" not in there:
            file = BytesIO()
            pixels = tile(cell, at, originals)
            tifffile.imwrite(file, pixels, photometric="rgb", compression="lzw", rowsperstrip=1)
            server.fs.pipe_file(f"{PREFIX}/{TILES_FOLDER}/{label}/{cell.name}.tif", file.getvalue())

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, _ in enumerate(pool.map(make, cells), 1):
            if number % 500 == 0:
                print(f"{number:,} of {len(cells):,} tiles", flush=True)
    for number, label in enumerate(CLASSES):
        names = [c.name for c in cells if (c.original >= len(paths[0])) == bool(number)]
        text = "".join(f"{name}.tif\n" for name in names)
        server.fs.pipe_file(f"{PREFIX}/{TILES_FOLDER}/{label}/{MANIFEST}", text.encode())
        print(f"{label}: {len(names):,} tiles")


def h3_cells(file: Path) -> list[str]:
    """The cells of a file of hexagons."""
    return [row["properties"]["index"] for row in json.loads(file.read_text())["features"]]


def move_requests(bucket: Path, hexagons: Path) -> None:
    """Give requests outside the hexagons of a file places inside them, in both tables."""
    shutil.copy(hexagons, bucket / HEXAGONS_FILE)
    cells = h3_cells(hexagons)
    answers = pl.read_csv(bucket / "sr_hex.csv.gz", infer_schema=False)
    outside = ~answers[INDEX].is_in([*cells, "0"])
    rng = np.random.default_rng(42)
    drawn = [cells[n] for n in rng.integers(0, len(cells), len(answers))]
    centres = np.array([h3.cell_to_latlng(cell) for cell in drawn]).round(8)
    moved = {
        LATITUDE: pl.Series(centres[:, 0]).cast(pl.String),
        LONGITUDE: pl.Series(centres[:, 1]).cast(pl.String),
        INDEX: pl.Series(drawn),
    }
    for name in ("sr.csv.gz", "sr_hex.csv.gz"):
        table = pl.read_csv(bucket / name, infer_schema=False)
        changed = [
            pl.select(pl.when(outside).then(moved[c]).otherwise(table[c]).alias(c)).to_series()
            if c in moved else table[c]
            for c in table.columns
        ]  # fmt: skip
        pl.DataFrame(changed).write_csv(bucket / name, compression="gzip", check_extension=False)


def draw_cells(
    hexagons: Sequence[str], without: int, with_pool: int, rng: np.random.Generator
) -> Iterator[Cell]:
    """Cells of whole blocks on land, on uneven sheets, each from a drawing of either class."""
    to_earth = pyproj.Transformer.from_crs(TILE_CRS, "EPSG:4326", always_xy=True)
    land = set(hexagons)
    blocks: dict[str, list[str]] = {}
    for side, column, row, quarter in product("WE", range(6), range(1, 10), "ABCD"):
        sheet = f"{side}{column}{row}{quarter}"
        for block in range(1, BLOCKS_ACROSS**2 + 1):
            corners = [tile_bounds(f"{sheet}_{block}_{cell}") for cell in (1, CELLS_ACROSS**2)]
            points = [to_earth.transform(b.left + 50, b.bottom + 50) for b in corners if b]
            if all(h3.latlng_to_cell(y, x, RESOLUTION) in land for x, y in points):
                blocks.setdefault(sheet, []).append(f"{sheet}_{block}")
    chosen = sorted(blocks, key=lambda name: (-len(blocks[name]), name))[:SHEETS]
    # From twelve blocks down to one, so that sheets are uneven.
    sizes = np.geomspace(12, 1, SHEETS).round().astype(int)
    names = [
        f"{block}_{cell}"
        for sheet, count in zip(chosen, sizes, strict=True)
        for block in blocks[sheet][:count]
        for cell in range(1, CELLS_ACROSS**2 + 1)
    ][:TILES]
    assert len(names) == TILES, f"{len(names)} cells"
    pool = rng.permutation(np.arange(TILES) < WITH_POOL)
    for name, has_pool in zip(names, pool, strict=True):
        bounds = tile_bounds(name)
        assert bounds
        number = rng.integers(0, with_pool if has_pool else without)
        yield Cell(
            name, (bounds.left // 100, -bounds.top // 100),
            int(number + without * has_pool), int(rng.integers(8)),
            rng.normal(1, 0.06, 3).astype(np.float32),
        )  # fmt: skip


def changed(cell: Cell, originals: Sequence[Pixels]) -> npt.NDArray[np.float32]:
    """A drawing turned, mirrored and in other colours."""
    pixels = originals[cell.original]
    pixels = np.rot90(pixels[:, ::-1] if cell.turns >= 4 else pixels, cell.turns % 4)
    return pixels * cell.gain


def tile(cell: Cell, at: dict[tuple[int, int], Cell], originals: Sequence[Pixels]) -> Pixels:
    """The pixels of a cell. They fade into the mean of both tiles at each edge, with some noise."""
    own = changed(cell, originals)
    weights = np.linspace(1, 0, FADE, endpoint=False, dtype=np.float32)[:, None, None]
    column, row = cell.at
    for turns, beside in enumerate([(0, -1), (1, 0), (0, 1), (-1, 0)]):
        # Turned so that the edge is the upper one. Going clockwise, np.rot90 turns the other way.
        if other := at.get((column + beside[0], row + beside[1])):
            across = np.rot90(changed(other, originals), turns)[-1]
            turned = np.rot90(own, turns)  # a view
            edge = (turned[0] + across) / 2
            turned[:FADE] += weights * (edge - turned[:FADE])
    noise = np.random.default_rng([*map(abs, cell.at)]).integers(-3, 4, own.shape, dtype=np.int8)
    return (own + noise).clip(0, 255).astype(np.uint8)


# --- The run ------------------------------------------------------------------------------------


class Usage:
    """Seconds, CPU seconds and peak megabytes of each stage, sampled from outside."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu: dict[tuple[str, int], float] = {}
        self.peak: dict[str, float] = {}

    def sample(self, root: psutil.Process, since: float) -> str:
        """Look at the processes under one, `since` seconds after the last look; the stage."""
        stage, resident = "", 0.0
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                line = process.cmdline()
                named = [word for word in line if word.startswith("stages.")]
                stage = named[0].removeprefix("stages.") if named else stage
                if stage:
                    resident += process.memory_info().rss / 1e6
                    times = process.cpu_times()
                    self.cpu[stage, process.pid] = times.user + times.system
        if stage:
            self.seconds[stage] = self.seconds.get(stage, 0) + since
            self.peak[stage] = max(self.peak.get(stage, 0), resident)
        return stage

    def table(self) -> str:
        """A row per stage, in the order in which they ran."""
        lines = ["| Stage | Minutes | CPU minutes | Peak MB |", "|---|---:|---:|---:|"]
        for stage, seconds in self.seconds.items():
            cpu = sum(used for (name, _), used in self.cpu.items() if name == stage)
            lines.append(
                f"| {stage} | {seconds / 60:.1f} | {cpu / 60:.1f} | {self.peak[stage]:.0f} |"
            )
        return "\n".join(lines)


def rehearse(endpoint: str, work: Path, *, interrupt: bool) -> None:
    """Run the commands of the documentation in a clone, and print what they took."""
    if not work.exists():
        subprocess.run(["git", "clone", "-q", str(ROOT), str(work)], check=True)
        run(["dvc", "pull", "-q", "data.dvc"], work)
    main_command = [
        "dvc", "exp", "run", "-S", f"download.bucket=s3://{PREFIX}",
        "-S", f"download.endpoint_url={endpoint}",
    ]  # fmt: skip
    usage = Usage()
    if interrupt:
        run(main_command, work, usage, until=lambda stage: is_third_fetched(work, stage))
        run(main_command, work, usage, until=lambda stage: is_half_trained(work, stage))
    run(main_command, work, usage)
    print(usage.table())
    for folder in ("raw", ".dvc/cache", "checkpoints", "models", "reports", "."):
        print(f"{folder}: {megabytes(work / folder):,.0f} MB")
    for log in sorted((work / "logs").glob("*.log")):
        print(f"--- {log.name}\n{log.read_text()}")
    tiles = f"s3://{PREFIX}/{TILES_FOLDER}"
    later = {
        "dvc repro, with nothing to do": ["dvc", "repro"],
        "dvc exp run --temp, the head alone": [
            "dvc", "exp", "run", "--temp", "-n", "head", "-S", "train.regime=head",
        ],
        "dvc metrics diff": ["dvc", "metrics", "diff"],
        "capetown compare": ["capetown", "compare", "HEAD", "head"],
        "capetown predict, from the bucket": [
            "capetown", "predict", tiles, "--out", "pools.parquet",
        ],
        "capetown pools": ["capetown", "pools", "pools.parquet", "--out", "pools.gpkg"],
    }  # fmt: skip
    os.environ["AWS_ENDPOINT_URL"] = endpoint
    for what, command in later.items():
        print(f"{what}: {run(command, work):.1f} s", flush=True)


def run(
    command: Sequence[str],
    folder: Path,
    usage: Usage | None = None,
    until: Callable[[str], bool] = lambda _: False,
) -> float:
    """Seconds of a command in a folder; kills it and its children once `until` holds."""
    start = last = time.monotonic()
    bin_folder = Path(sys.executable).parent
    path = os.pathsep.join((str(bin_folder), os.environ["PATH"]))
    started = psutil.Popen(
        command, cwd=folder, start_new_session=True,
        env={**os.environ, "PATH": path, "PYTHONPATH": f"{folder}/src:{folder}"},
    )  # fmt: skip
    while started.poll() is None:
        time.sleep(1)
        now = time.monotonic()
        with suppress(psutil.NoSuchProcess):
            stage = usage.sample(started, now - last) if usage else ""
            if stage and until(stage):
                print(f"kill -9 in {stage}", flush=True)
                os.killpg(started.pid, signal.SIGKILL)
                started.wait()
                return time.monotonic() - start
        last = now
    if started.returncode:
        sys.exit(f"error: {' '.join(command)} failed in {folder}")
    return time.monotonic() - start


def is_third_fetched(work: Path, stage: str) -> bool:
    """Whether a third of the tiles are in the folder of the download."""
    if stage != "download_tiles":
        return False
    return sum(1 for _ in (work / "checkpoints").rglob("*.tif")) > TILES / 3


def is_half_trained(work: Path, stage: str) -> bool:
    """Whether half of the epochs are in the log of the training."""
    return stage == "train" and "epoch 5" in (work / "logs/train.log").read_text()


if __name__ == "__main__":
    main()
