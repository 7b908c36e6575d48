"""Run ``capetown predict``: list the tiles, compute their shards, and join these."""

import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, closing
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from capetown.errors import CapetownError
from capetown.imagery.tile_ref import TileRef
from capetown.imagery.windows import Tiling
from capetown.layers import write_csv
from capetown.pools.model.manifest import model_digest
from capetown.pools.prediction.engine import ready_model
from capetown.pools.prediction.executors import Backend
from capetown.pools.prediction.inference_worker import Job, make_shard
from capetown.pools.prediction.inputs import Tiles, find_tiles, inputs_digest, log
from capetown.pools.prediction.shards import (
    CountingIterator,
    Output,
    Provenance,
    Summary,
    copy_model,
    read_shard,
    shard_path,
)
from capetown.storage import absolute, size_of

# Tiles per shard: one or two seconds of work, which an interruption loses.
SHARD = 32
# Seconds between two looks at the workers, while no shard is completed.
WAIT = 2
# PyTorch answers runs of fewer tiles. Compiling `lite` at 224 takes 1.4 s. On two cores, in eight
# views, 32 tiles took 3.6 s by PyTorch and 3.5 s compiled, 64 tiles 5.5 s and 4.6 s, 128 tiles
# 11.1 s and 5.9 s. In one view it breaks even at about 200 tiles.
MIN_TILES_TO_COMPILE = 64
# The --out that stands for standard output.
STANDARD_OUTPUT = "-"

# Shards after which the time of the others is estimated.
ESTIMATE_AFTER = 32

OpenBackend = Callable[[], AbstractContextManager[Backend]]


class Shards(Mapping[int, Sequence[TileRef]]):
    """Some shards of tiles by number. Their tiles are made when they are used."""

    def __init__(self, tiles: Tiles, numbers: Sequence[int]) -> None:
        self._tiles, self._numbers = tiles, numbers

    def __getitem__(self, number: int) -> Sequence[TileRef]:
        """The tiles of a shard."""
        return self._tiles.part(number * SHARD, (number + 1) * SHARD)

    def __iter__(self) -> Iterator[int]:
        """The numbers of the shards."""
        return iter(self._numbers)

    def __len__(self) -> int:
        """The number of shards."""
        return len(self._numbers)

    def tiles(self) -> int:
        """The number of tiles."""
        return sum(min(SHARD, len(self._tiles) - number * SHARD) for number in self)


def predict(
    paths: Sequence[str], out: str, *, model: Path, device: str, tiling: Tiling,
    backend: OpenBackend, saliency: bool = False,
) -> Summary:  # fmt: skip
    """Predict tiles and write one row each to a file, in the order of the paths.

    Args:
        paths: as in `capetown.pools.prediction.inputs.find_files`.
        out: path or URL ending in ``.csv`` or ``.parquet``, or ``-`` for standard output.
        device: as in `capetown.params.DeviceName`.
        tiling: how to cut orthophotos; without metres and pixels, files are not cut.
        backend: opens the workers; not called if no shard is left to compute.
        saliency: as in `Job`.

    Raises:
        CapetownError: the model, a path, the output or the backend cannot be used.
    """
    tiles = find_tiles(paths, tiling)
    shards = Shards(tiles, range(-(-len(tiles) // SHARD)))
    if tiling.metres or tiling.pixels:
        log.info("%s windows in %s files", f"{len(tiles):,}", f"{len(tiles.grids):,}")
    job = Job(
        absolute(str(model)), model_digest(model), device, tiling.crs, "", version("capetown"),
        saliency, len(tiles) >= MIN_TILES_TO_COMPILE,
    )  # fmt: skip
    if out == STANDARD_OUTPUT:
        return _print(shards, job, backend)
    inputs = inputs_digest(tiles, f"{tiling.crs} {saliency}")
    provenance = Provenance(model=job.digest, inputs=inputs, capetown=job.capetown)
    output = Output(out, provenance, len(shards))
    with output.locked():
        if (summary := output.completed()) is not None:
            return summary
        there = output.start()
        if there:
            log.warning("%s: resuming, %d of %d shards exist", out, len(there), len(shards))
        left = Shards(tiles, [number for number in shards if number not in there])
        for _ in _compute(left, job._replace(folder=absolute(output.folder)), backend):
            pass
        return output.finish(len(tiles))


def _print(shards: Shards, job: Job, backend: OpenBackend) -> Summary:
    """Write CSV to standard output, each shard once those before it are written."""
    with (
        TemporaryDirectory() as folder,
        closing(_compute(shards, job._replace(folder=folder), backend)) as computing,
    ):

        def in_order() -> Iterator[int]:
            there: set[int] = set()
            for number in shards:
                while number not in there:
                    there.add(next(computing))
                yield number

        counted = CountingIterator(read_shard(folder, number) for number in in_order())
        write_csv(iter(counted), sys.stdout.buffer)
    return counted.summary


def _compute(shards: Shards, job: Job, backend: OpenBackend) -> Generator[int, None, None]:
    """Compute shards; yields the number of each when it is written."""
    if not shards:
        return
    total, start = shards.tiles(), time.monotonic()
    with backend() as workers, tqdm(total=total, unit=" tiles", disable=None) as bar:
        # This process only checks the model if others compute.
        compiled = job.compiled and not workers.remote
        ready_model(job.model, job.digest, job.device, compiled=compiled)
        if workers.remote:
            job = job._replace(model=copy_model(job.model, job.folder))
        for count, number in enumerate(_submit(workers, job, shards), 1):
            if workers.remote and size_of(shard_path(job.folder, number)) is None:
                raise CapetownError(
                    "a worker's shard did not arrive", where=job.folder,
                    fix="set --out to a bucket, or to a folder that all machines share",
                )  # fmt: skip
            if count == ESTIMATE_AFTER:
                minutes = (len(shards) - count) * (time.monotonic() - start) / count / 60
                log.info("about %.0f minutes for the other tiles", minutes)
            bar.update(len(shards[number]))
            yield number


def _submit(workers: Backend, job: Job, shards: Mapping[int, Sequence[TileRef]]) -> Iterator[int]:
    """Submit shards, as many at a time as there are free slots."""
    left = iter(shards)
    waiting: dict[Future[int], int] = {}
    try:
        while True:
            free = max(1, workers.free_slots()) - len(waiting)
            for number in islice(left, max(0, free)):
                waiting[workers.executor.submit(make_shard, job, number, shards[number])] = number
            if not waiting:
                return
            # `free_slots` fails if the workers cannot go on, so that no wait is endless.
            for future in wait(waiting, WAIT, FIRST_COMPLETED).done:
                number = waiting.pop(future)
                try:
                    made = future.result()
                except CapetownError:
                    raise
                except Exception as error:
                    if not workers.explain:
                        raise
                    what, fix = workers.explain(error)
                    first, count = shards[number][0].path, len(shards[number])
                    raise CapetownError(
                        f"{what}, with {count} tiles", where=first, fix=fix
                    ) from error
                yield made
    finally:
        for future in waiting:
            future.cancel()
