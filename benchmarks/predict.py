"""Tiles a second, CPU and memory of `capetown predict`, against other ways and against its limits.

    python -m benchmarks.predict [--tiles 5000] [--large 300] [--model models] [--bucket FOLDER]

Each way is a process of its own that works on the same copies of the embedded tiles and of made-up
tiles of the City's size, in one view, and counts from when its imports are done. Peers are the loop
that `predict` was before, which reads a batch and then computes, and one tile after the other
through Pillow; both on torch with the allocator and the waiting threads as they come, as that loop
had them. Limits are the engine alone that `predict` uses, fed from memory, and reading and decoding
alone. Then Dask: two workers of one thread against one, and what a piece costs that does nothing.
Compare CPU seconds where other work shares the machine.

    python -m benchmarks.predict --defaults [--model models]

prints seconds and peak megabytes of the whole command at its default settings: for one tile, for
600, and of a Dask worker of one thread that computes the 600.
"""

import argparse
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.processes import ROOT, alone, run

# Made-up tiles of the City's size that are copied.
DISTINCT = 54


def predict(folder: str, model: Path) -> int:
    """The command itself, in this process."""
    import capetown.pools.prediction.run  # noqa: F401
    from capetown.pools.model.manifest import model_digest
    from capetown.pools.prediction.engine import ready_model
    from capetown.pools.prediction.executors import this_process

    ready_model(str(model), model_digest(model), "cpu", compiled=True)
    _start()
    return _predict([folder], model, this_process)


def workers_of(count: int) -> Callable[[str, Path], int]:
    """The command on one-threaded processes that have loaded the model, a core for each.

    Without one of its own, a worker's readers would use the core that another is to have.
    """

    def work(folder: str, model: Path) -> int:
        with processes(count) as hands:
            first = [str(path) for path in sorted(Path(folder).iterdir())[: 128 * count]]
            _predict(first, model, lambda: nullcontext(hands))
            _bind_to_cores(count)
            _start()
            tiles = _predict([folder], model, lambda: nullcontext(hands))
            _stop()
            return tiles

    return work


@contextmanager
def processes(count: int) -> Iterator[Any]:
    """A Dask cluster of one-threaded processes on this machine."""
    from distributed import LocalCluster

    from capetown.pools.prediction.executors import cluster

    with (
        LocalCluster(
            n_workers=count, threads_per_worker=1, memory_limit=None, silence_logs=logging.ERROR,
            dashboard_address="127.0.0.1:0",
        ) as local,
        cluster(local.scheduler_address) as backend,
    ):  # fmt: skip
        yield backend


def _bind_to_cores(count: int) -> None:
    """Give each worker, with all its threads, a core."""
    # What watches over them for Dask has two or three threads.
    workers = [p for p in psutil.Process().children(recursive=True) if p.num_threads() > 8]
    assert len(workers) == count, workers
    for core, worker in enumerate(workers):
        for thread in worker.threads():
            psutil.Process(thread.id).cpu_affinity([core])


def _predict(paths: list[str], model: Path, backend: Any) -> int:
    from capetown.imagery.windows import Tiling
    from capetown.pools.prediction.run import predict as run_predict

    with tempfile.TemporaryDirectory() as scratch:
        out = f"{scratch}/out.csv"
        return run_predict(
            paths, out, model=model, device="cpu", tiling=Tiling(), backend=backend
        ).tiles


def batches(folder: str, model: Path) -> int:
    """The loop as it was: read a batch with sixteen threads, then compute, rows kept to the end."""
    from concurrent.futures import ThreadPoolExecutor

    from capetown.imagery.reading import AS_STORED, read_tile, resize

    answer, card = _stock(model)
    files = sorted(Path(folder).iterdir())

    def read(file: Path) -> Any:
        return resize(read_tile(file, AS_STORED), card["image_size"], card["interpolation"])

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
    from PIL import Image

    answer, card = _stock(model)
    side = card["image_size"]
    files = sorted(Path(folder).iterdir())
    _start()
    for file in files:
        with Image.open(file) as image:
            small = image.convert("RGB").resize((side, side))
        answer(np.asarray(small)[None])
    return len(files)


def model_alone(folder: str, model: Path) -> int:
    """The engine on as many tiles, from memory, a thread a core as `predict` has them."""
    from concurrent.futures import ThreadPoolExecutor

    from capetown.pools.model.manifest import model_digest
    from capetown.pools.prediction.engine import ready_model
    from capetown.pools.prediction.executors import cores

    ready = ready_model(str(model), model_digest(model), "cpu", compiled=True)
    count, side = len(list(Path(folder).iterdir())), ready.manifest.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (ready.batch, side, side, 3), np.uint8)
    parts = [pixels[: min(ready.batch, count - n)] for n in range(0, count, ready.batch)]
    ready.engine(pixels)
    _start()
    with ThreadPoolExecutor(cores()) as pool:
        return sum(len(logits) for logits in pool.map(ready.engine, parts))


def decoding_alone(folder: str, model: Path) -> int:
    """Reading, decoding and resizing, on all cores."""
    from concurrent.futures import ThreadPoolExecutor

    import torch

    from capetown.pools.model.manifest import load_model
    from capetown.pools.prediction.executors import cores
    from capetown.pools.prediction.inference_worker import OpenRasterCache, prepare
    from capetown.pools.prediction.inputs import find_files

    _, card = load_model(model, torch.device("cpu"))
    rasters = OpenRasterCache()
    _start()
    tiles = list(find_files([folder]))
    with ThreadPoolExecutor(cores()) as pool:
        for _ in pool.map(lambda tile: prepare(tile, card, "", rasters), tiles):
            pass
    return len(tiles)


def empty_pieces(_: str, __: Path) -> int:
    """Pieces that do nothing, handed to a process: what Dask costs a tile."""
    from capetown.imagery.tile_ref import TileRef
    from capetown.pools.prediction.run import SHARD

    pieces = [[TileRef(f"{n}/{k}.tif", f"/a/folder/{n}/{k}.tif") for k in range(SHARD)]
              for n in range(300)]  # fmt: skip
    with processes(1) as hands:
        hands.executor.submit(len, pieces[0]).result()
        _start()
        for piece in pieces:
            hands.executor.submit(len, piece).result()
        _stop()
    return SHARD * len(pieces)


EARLIER: dict[str, Callable[[str, Path], int]] = {
    "the loop as it was": batches,
    "one after the other": one_by_one,
}
WAYS: dict[str, Callable[[str, Path], int]] = {
    "capetown predict": predict,
    **EARLIER,
    "the model alone": model_alone,
    "decoding alone": decoding_alone,
    "one worker": workers_of(1),
    "two workers": workers_of(2),
}


def _stock(folder: Path) -> tuple[Callable[[Any], Any], dict[str, Any]]:
    """A model's answers by torch as it comes, and its card."""
    import torch
    from safetensors.torch import load_file

    from capetown.pools.model.timm_import import timm

    card: dict[str, Any] = json.loads((folder / "model.json").read_text())
    model = timm.create_model(card["architecture"], num_classes=1).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    model.to(memory_format=torch.channels_last)
    mean, std = (torch.tensor(card[key]).view(1, 3, 1, 1) for key in ("mean", "std"))

    @torch.no_grad()
    def answer(pixels: Any) -> Any:
        batch = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 255
        return model(((batch - mean) / std).contiguous(memory_format=torch.channels_last))[:, 0]

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
    print(json.dumps([tiles, *_spent, peak()]))


def peak() -> float:
    """The peak megabytes of this process.

    What the system counts for `getrusage` begins at what the parent held.
    """
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1000


def at_default_settings(root: Path, tiles: list[Path], model: Path) -> None:
    """Print what one tile, 600 tiles and a worker need."""
    from distributed import Client, LocalCluster

    def predicted(count: int, *options: str) -> tuple[float, float]:
        out = root / f"{count}{len(options)}.csv"
        command = ["predict", str(root / str(count)), "--model", str(model), "--out", str(out)]
        return run(["-m", "capetown", *command, *options], root)

    for count in (1, 600):
        copies(root / str(count), tiles, count)
        print("{:>3} tiles: {:5.1f} s, {:5.0f} MB".format(count, *predicted(count)), flush=True)
    with LocalCluster(
        n_workers=1, threads_per_worker=1, memory_limit=None, silence_logs=logging.ERROR,
        dashboard_address="127.0.0.1:0",
    ) as local, Client(local) as client:  # fmt: skip
        seconds, _ = predicted(600, "--cluster", local.scheduler_address)
        [megabytes] = client.run(peak).values()
    print(f"the 600 on a worker: {seconds:5.1f} s, {megabytes:5.0f} MB in the worker")


def report(title: str, folder: str, model: Path, names: list[str]) -> None:
    """Measure ways on a folder, and print them beside the first."""
    print(f"\n{title}")
    print(f"{'':<24}{'tiles/s':>9}{'against the first':>19}{'CPU ms/tile':>13}{'peak MB':>9}")
    first = 0.0
    for name in names:
        tiles, seconds, cpu, peak = alone(
            "benchmarks.predict", "--way", name, "--folder", folder, "--model", str(model),
            as_it_comes=name in EARLIER,
        )  # fmt: skip
        rate = tiles / seconds
        first = first or rate
        print(f"{name:<24}{rate:>9.1f}{rate / first:>19.2f}{cpu / tiles * 1000:>13.2f}{peak:>9.0f}",
              flush=True)  # fmt: skip


def in_one_view(folder: Path, to: Path) -> Path:
    """A copy of a model that looks at each tile once."""
    shutil.copytree(folder, to)
    card = json.loads((to / "model.json").read_text())
    (to / "model.json").write_text(json.dumps({**card, "tta": False}))
    return to


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
    parser.add_argument("--bucket", type=Path, help="a synthetic one, tiles of 1,250 pixels")
    parser.add_argument("--defaults", action="store_true", help="only the default settings")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        measure(arguments.way, arguments.folder, arguments.model)
        return
    from tests import s3
    from tools.synthetic.tiles import write_tiles

    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        embedded = sorted(ROOT.glob("data/images/*/*/*.tif"))
        if arguments.defaults:
            at_default_settings(root, embedded, arguments.model.absolute())
            return
        model = in_one_view(arguments.model, root / "model")
        small = copies(root / "small", embedded, arguments.tiles)
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
