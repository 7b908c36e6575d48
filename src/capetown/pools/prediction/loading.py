"""A model that is ready to judge, loaded once in each process."""

import threading
from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from capetown.imagery.reading import Pixels
from capetown.pools.model import saliency
from capetown.pools.model.devices import choose_device
from capetown.pools.model.inference import BATCH_SIZE
from capetown.pools.model.manifest import MANIFEST_FILE, WEIGHTS_FILE, ModelManifest, load_model
from capetown.pools.model.saliency import Points
from capetown.pools.prediction.engine import Answer, fastest_answer
from capetown.pools.prediction.executors import threads
from capetown.storage import is_local, open_storage, read_file

# Tiles at once on CPUs, where a thread a core computes: 32 take three times the memory and no less
# time (see benchmarks/README.md).
CPU_BATCH = 8


class Model(NamedTuple):
    """A model that is ready: its card, and what it says of tiles, uint8, (tiles, size, size, 3).

    Attributes:
        card: its own.
        batch: how many tiles to show it at once.
        answer: gives the logit of each.
        points: gives the point of each that says most for ``yes``, shape (tiles, 2), as
            `capetown.pools.model.saliency.strongest_points` does.
    """

    card: ModelManifest
    batch: int
    answer: Answer
    points: Callable[[Pixels], Points]


_loading = threading.Lock()


def ready_model(folder: str, digest: str, device: str) -> Model:
    """The model of a folder, loaded once in each process.

    Args:
        folder: a path or URL.
        digest: of its files; another one is another model.
        device: as in `capetown.params.DeviceName`.

    Raises:
        CapetownError: if a file is missing or damaged, or there is no such device.
    """
    with _loading:
        return _load(folder, digest, device)


@lru_cache(maxsize=1)
def _load(folder: str, _: str, device: str) -> Model:
    with TemporaryDirectory() as copied:
        fs, location = open_storage(folder)
        here = Path(location if is_local(fs) else copied)
        if not is_local(fs):
            for name in (WEIGHTS_FILE, MANIFEST_FILE):
                (here / name).write_bytes(read_file(f"{folder}/{name}"))
        chosen = choose_device(device)  # type: ignore[arg-type]
        model, card = load_model(here, chosen)

    copies = threading.local()

    def points(pixels: Pixels) -> Points:
        # It looks into the model while that computes, where another thread would disturb it.
        if not hasattr(copies, "model"):
            copies.model = deepcopy(model)
        heat = saliency.saliency_maps(copies.model, card, pixels, towards_yes=True)
        return saliency.strongest_points(heat)

    batch = CPU_BATCH if chosen.type == "cpu" else BATCH_SIZE
    return Model(card, batch, fastest_answer(model, card, threads()), points)
