"""Tiles a second, CPU and memory of `capetown predict`, against other ways and against its limits.

    python -m benchmarks.predict [--tiles 5000] [--large 300] [--model models] [--bucket FOLDER]

Each way is a process of its own that works on the same copies of the embedded tiles and of made-up
tiles of the City's size, and counts from when its imports are done. Peers are the loop that
`predict` was before, which reads a batch and then computes, and one tile after the other through
Pillow. Limits are the model alone, fed from memory, and reading and decoding alone. Then Dask: two
workers of one thread against one, and what a piece costs that does nothing. Compare CPU seconds
where other work shares the machine.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import psutil

from benchmarks.processes import ROOT

# Made-up tiles of the City's size that are copied.
DISTINCT = 54


def predict(folder: str, model: Path) -> int:
    """The command itself, in this process."""
    from capetown.pools.model.modelfile import model_digest
    from capetown.pools.prediction.judging import ready_model
    from capetown.pools.prediction.machines import this_process

    ready_model(str(model), model_digest(model), "cpu")
    _start()
    return _predict([folder], model, this_process)


def workers_of(count: int) -> Callable[[str, Path], int]:
    """The command on one-threaded processes that have loaded the model."""

    def work(folder: str, model: Path) -> int:
        from capetown.pools.prediction.machines import processes

        with processes(count) as hands:
            first = [str(path) for path in sorted(Path(folder).iterdir())[: 128 * count]]
            _predict(first, model, lambda: nullcontext(hands))
            _start()
            tiles = _predict([folder], model, lambda: nullcontext(hands))
            _stop()
            return tiles

    return work


def _predict(paths: list[str], model: Path, machines: Any) -> int:
    from capetown.pools.prediction.orthophotos import Cutting
    from capetown.pools.prediction.running import predict as run

    with tempfile.TemporaryDirectory() as scratch:
        out = f"{scratch}/out.csv"
        return run(
            paths, out, model=model, device="cpu", cutting=Cutting(), machines=machines
        ).tiles


def batches(folder: str, model: Path) -> int:
    """The loop as it was: read a batch with sixteen threads, then compute, rows kept to the end."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    from capetown.pools.tiles.reading import read_tile, resize

    answer, card = _model(model)
    files = sorted(Path(folder).iterdir())

    def read(file: Path) -> Any:
        return resize(read_tile(file, card.tiles), card.image_size, card.interpolation)

    _start()
    with ThreadPoolExecutor(16) as pool:
        rows = [
            float(logit)
            for start in range(0, len(files), 32)
            for logit in answer(np.stack(list(pool.map(read, files[start : start + 32]))))
        ]
    return len(rows)


def one_by_one(folder: str, model: Path) -> int:
    """One tile after the other, through Pillow."""
    import numpy as np
    from PIL import Image

    answer, card = _model(model)
    files = sorted(Path(folder).iterdir())
    _start()
    for file in files:
        with Image.open(file) as image:
            small = image.convert("RGB").resize((card.image_size, card.image_size))
        answer(np.asarray(small)[None])
    return len(files)


def model_alone(folder: str, model: Path) -> int:
    """The model on as many tiles, from memory."""
    import numpy as np

    answer, card = _model(model)
    count = len(list(Path(folder).iterdir()))
    side = card.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (32, side, side, 3), dtype=np.uint8)
    answer(pixels)
    _start()
    for start in range(0, count, 32):
        answer(pixels[: min(32, count - start)])
    return count


def decoding_alone(folder: str, model: Path) -> int:
    """Reading, decoding and resizing, on all cores."""
    from concurrent.futures import ThreadPoolExecutor

    from capetown.pools.prediction.judging import Images, see
    from capetown.pools.prediction.machines import cores
    from capetown.pools.prediction.sources import find_sources

    _, card = _model(model)
    images = Images()
    _start()
    [(_, found)] = find_sources([folder])
    with ThreadPoolExecutor(cores()) as pool:
        for _ in pool.map(lambda source: see(source, card, "", images), found.sources):
            pass
    return len(found.sources)


def empty_pieces(_: str, __: Path) -> int:
    """Pieces that do nothing, handed to a process: what Dask costs a tile."""
    from capetown.pools.prediction.machines import processes
    from capetown.pools.prediction.running import PIECE
    from capetown.pools.prediction.sources import Source

    pieces = [[Source(f"{n}/{k}.tif", f"/a/folder/{n}/{k}.tif") for k in range(PIECE)]
              for n in range(300)]  # fmt: skip
    with processes(1) as hands:
        hands.executor.submit(len, pieces[0]).result()
        _start()
        for piece in pieces:
            hands.executor.submit(len, piece).result()
        _stop()
    return PIECE * len(pieces)


WAYS: dict[str, Callable[[str, Path], int]] = {
    "capetown predict": predict,
    "the loop as it was": batches,
    "one after the other": one_by_one,
    "the model alone": model_alone,
    "decoding alone": decoding_alone,
    "one worker": workers_of(1),
    "two workers": workers_of(2),
}


def _model(folder: Path) -> tuple[Callable[[Any], Any], Any]:
    import torch

    from capetown.pools.model.inference import predict_logits
    from capetown.pools.model.modelfile import load_model

    model, card = load_model(folder, torch.device("cpu"))

    def answer(pixels: Any) -> Any:
        return predict_logits(model, pixels, mean=card.mean, std=card.std, tta=card.tta)

    return answer, card


# Seconds and CPU seconds; below zero while they are counted.
_spent = [0.0, 0.0]


def _cpu() -> float:
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return float(sum(spent.user + spent.system for spent in times))


def _start() -> None:
    """Count from now."""
    _spent[:] = [-time.perf_counter(), -_cpu()]


def _stop() -> None:
    """Count no further."""
    if _spent[0] < 0:
        _spent[:] = [_spent[0] + time.perf_counter(), _spent[1] + _cpu()]


def measure(name: str, folder: str, model: Path) -> None:
    """Do it one way, and print tiles, seconds, CPU seconds and peak megabytes as JSON."""
    _start()
    tiles = (empty_pieces if name == "empty pieces" else WAYS[name])(folder, model)
    _stop()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps([tiles, *_spent, peak]))


def report(title: str, folder: str, model: Path, names: list[str]) -> None:
    """Measure ways on a folder, and print them beside the first."""
    print(f"\n{title}")
    print(f"{'':<24}{'tiles/s':>9}{'against the first':>19}{'CPU ms/tile':>13}{'peak MB':>9}")
    first = 0.0
    for name in names:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.predict", "--way", name, "--folder", folder,
             "--model", str(model)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        tiles, seconds, cpu, peak = json.loads(done.stdout.splitlines()[-1])
        rate = tiles / seconds
        first = first or rate
        print(f"{name:<24}{rate:>9.1f}{rate / first:>19.2f}{cpu / tiles * 1000:>13.2f}{peak:>9.0f}",
              flush=True)  # fmt: skip


def copies(folder: Path, tiles: list[Path], count: int) -> Path:
    """A folder of so many tiles, each a file of its own."""
    folder.mkdir()
    for number, tile in enumerate(islice(cycle(tiles), count)):
        shutil.copy(tile, folder / f"{number:05}.tif")
    return folder


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=5000, help="of the embedded size")
    parser.add_argument("--large", type=int, default=300, help="of the City's size")
    parser.add_argument("--model", type=Path, default=Path("models"))
    parser.add_argument("--bucket", type=Path, help="one of `capetown sample`, of 1,250 pixels")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    model = arguments.model.absolute()
    if arguments.way:
        measure(arguments.way, arguments.folder, model)
        return
    from capetown.sample.tiles import write_tiles
    from tests import s3

    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        small = copies(root / "small", sorted(ROOT.glob("data/images/*/*/*.tif")), arguments.tiles)
        made = arguments.bucket or root / "made"
        if not arguments.bucket:
            write_tiles(made, DISTINCT, 42, 1250)
        large = copies(root / "large", sorted(made.rglob("*.tif")), arguments.large)
        report(f"{arguments.tiles} tiles of 256 pixels", str(small), model, [*WAYS, "empty pieces"])
        report(f"{arguments.large} tiles of 1,250 pixels", str(large), model, list(WAYS)[:5])
        (root / "weed").mkdir()
        with s3.seaweed(root / "weed") as server:
            os.environ["AWS_ENDPOINT_URL"] = server.url
            for folder in (small, large):
                server.upload(folder, f"{s3.PUBLIC}/{folder.name}")
                url = f"s3://{s3.PUBLIC}/{folder.name}"
                ways = ["capetown predict", "decoding alone"]
                report(f"the {folder.name} ones from SeaweedFS", url, model, ways)


if __name__ == "__main__":
    main()
