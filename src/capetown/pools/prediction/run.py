"""A whole run of ``capetown predict``: from paths to a file with a row a tile."""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from tqdm import tqdm

from capetown.errors import CapetownError, one_line
from capetown.imagery.tile_ref import TileRef
from capetown.imagery.windows import Tiling, windows_of
from capetown.pools.model.manifest import MANIFEST_FILE, WEIGHTS_FILE, model_digest
from capetown.pools.prediction.executors import Backend
from capetown.pools.prediction.inputs import find_inputs, inputs_digest, left_out
from capetown.pools.prediction.loading import ready_model
from capetown.pools.prediction.schema import write_csv
from capetown.pools.prediction.shards import (
    CountingIterator,
    Provenance,
    Summary,
    finish,
    finished,
    part_name,
    parts_of,
    read_part,
    start_parts,
    write_part,
)
from capetown.pools.prediction.worker import predict_batch
from capetown.storage import absolute, make_folder, size_of, write_file

# Tiles of a piece: a second or two of work, which is what an interruption costs.
PIECE = 32
# Images whose sizes are asked for at once.
OPENERS = 8
# The output that stands for standard output.
STANDARD_OUTPUT = "-"

log = logging.getLogger("capetown")


class Job(NamedTuple):
    """What is the same for all pieces.

    Attributes:
        model: the model's folder, a path or URL.
        digest: of its files.
        device: to compute on, by name.
        crs: of tiles whose files name none; empty for none.
        parts: the folder that parts are written to.
        capetown: the version of this package that all are made by.
        with_evidence: as in `capetown.pools.prediction.worker.predict_batch`.
    """

    model: str
    digest: str
    device: str
    crs: str
    parts: str
    capetown: str
    with_evidence: bool = False


def make_part(job: Job, number: int, sources: Sequence[TileRef]) -> int:
    """Judge a piece of the input and write its part; any process can, and gives the same bytes.

    Raises:
        CapetownError: if the model cannot be used, the part not be written, or this process has
            another version of the package.
    """
    if (here := version("capetown")) != job.capetown:
        raise CapetownError(f"a worker has capetown {here}, not {job.capetown}; install that.")
    # Pieces are worked on side by side, so that more threads for one would only get in the way.
    torch.set_num_threads(1)
    model = ready_model(job.model, job.digest, job.device)
    write_part(
        job.parts, number, predict_batch(model, sources, job.crs, with_evidence=job.with_evidence)
    )
    return number


def predict(
    paths: Sequence[str],
    out: str,
    *,
    model: Path,
    device: str,
    cutting: Tiling,
    machines: Callable[[], AbstractContextManager[Backend]],
    with_evidence: bool = False,
) -> Summary:
    """Judge tiles wherever they lie, and write a row each to a file, in the order of the paths.

    Args:
        paths: as `capetown.pools.prediction.inputs.find_inputs` takes them.
        out: a path or URL that ends in ``.csv`` or ``.parquet``, or ``-`` for standard output.
        model: a model's folder.
        device: as in `capetown.params.DeviceName`.
        cutting: how images are cut; without metres and pixels they are not.
        machines: starts those who do the work; not called if there is none left.
        with_evidence: as in `capetown.pools.prediction.worker.predict_batch`.

    Raises:
        CapetownError: if the model, a path, the output or the machines cannot be used.
    """
    digest = model_digest(model)
    sources = list(_sources(paths, cutting))
    inputs = inputs_digest(sources, f"{cutting.crs} {with_evidence}")
    origin = Provenance(model=digest, inputs=inputs, capetown=version("capetown"))
    pieces = [(n, sources[i : i + PIECE]) for n, i in enumerate(range(0, len(sources), PIECE))]
    job = Job(absolute(str(model)), digest, device, cutting.crs, "", origin.capetown, with_evidence)
    if out == STANDARD_OUTPUT:
        with TemporaryDirectory() as folder:
            done = _work(pieces, job._replace(parts=folder), machines, len(sources))
            counted = CountingIterator(read_part(folder, number) for number in _sorted(done))
            write_csv(iter(counted), sys.stdout.buffer)
        return counted.summary
    if (summary := finished(out, origin)) is not None:
        return summary
    there = start_parts(out, origin, len(pieces))
    if there:
        log.warning("%s: %d of %d parts are there already", out, len(there), len(pieces))
    left = [piece for piece in pieces if piece[0] not in there]
    job = job._replace(parts=absolute(parts_of(out)))
    for _ in _work(left, job, machines, sum(len(piece) for _, piece in left)):
        pass
    return finish(out, origin, len(pieces), len(sources))


def _sources(paths: Sequence[str], cutting: Tiling) -> Iterator[TileRef]:
    with ThreadPoolExecutor(OPENERS) as pool:
        for path, found in find_inputs(paths):
            if found.others:
                log.warning("%s: %s", path, left_out(found.others))
            if cutting.metres or cutting.pixels:
                yield from chain.from_iterable(
                    pool.map(lambda source: windows_of(source, cutting), found.sources)
                )
            else:
                yield from found.sources


def _work(
    pieces: Sequence[tuple[int, Sequence[TileRef]]],
    job: Job,
    machines: Callable[[], AbstractContextManager[Backend]],
    tiles: int,
) -> Iterator[int]:
    """Have parts made; their numbers as each is there, with a progress bar on a terminal."""
    if not pieces:
        return
    ready_model(job.model, job.digest, job.device)
    with machines() as hands, tqdm(total=tiles, unit=" tiles", disable=None) as bar:
        if hands.shared:
            job = _with_model_beside(job)
        sizes = {number: len(piece) for number, piece in pieces}
        for number in _spread(hands, job, iter(pieces)):
            if hands.shared and size_of(f"{job.parts}/{part_name(number)}") is None:
                raise CapetownError(
                    f"{job.parts}: a worker wrote a part that is not there: --out must lie in a "
                    "bucket, or in a folder that all machines share under this name."
                )
            bar.update(sizes[number])
            yield number


def _spread(
    hands: Backend, job: Job, pieces: Iterator[tuple[int, Sequence[TileRef]]]
) -> Iterator[int]:
    """Hand out pieces, as many at once as there is room for."""
    waiting: dict[Future[int], str] = {}
    try:
        while True:
            free = max(1, hands.room()) - len(waiting)
            for number, sources in islice(pieces, max(0, free)):
                future = hands.executor.submit(make_part, job, number, sources)
                waiting[future] = sources[0].path
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                first = waiting.pop(future)
                try:
                    yield future.result()
                except hands.losses as error:
                    raise CapetownError(
                        f"{first} and the {PIECE - 1} tiles after it: lost with the workers that "
                        f"had them ({one_line(error)}); run the same command again, which goes on."
                    ) from error
    finally:
        for future in waiting:
            future.cancel()


def _with_model_beside(job: Job) -> Job:
    """The job with the model in the folder of the parts, which is all that workers share."""
    folder = f"{job.parts}/model"
    make_folder(folder)
    for name in (WEIGHTS_FILE, MANIFEST_FILE):
        write_file(f"{folder}/{name}", Path(job.model, name).read_bytes())
    return job._replace(model=folder)


def _sorted(numbers: Iterator[int]) -> Iterator[int]:
    """Numbers from 0 that come in any order, each as soon as those before it have come."""
    ready: set[int] = set()
    following = 0
    for number in numbers:
        ready.add(number)
        while following in ready:
            ready.remove(following)
            yield following
            following += 1
