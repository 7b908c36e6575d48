"""A loaded model and its inference engine: OpenVINO for many tiles on CPUs, else PyTorch.

The extra ``fast`` installs OpenVINO; benchmarks/README.md compares engines.
"""

import logging
import sys
import threading
import warnings
from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from capetown.errors import one_line
from capetown.imagery.reading import Pixels
from capetown.pools.model import saliency
from capetown.pools.model.devices import choose_device, release_freed_memory
from capetown.pools.model.inference import BATCH_SIZE, flipped_and_turned, predict_logits
from capetown.pools.model.manifest import MANIFEST_FILE, WEIGHTS_FILE, ModelManifest, load_model
from capetown.pools.model.saliency import Points
from capetown.pools.prediction.executors import threads
from capetown.storage import is_local, open_storage, read_file

# From tiles, uint8, shape (tiles, size, size, 3), to the logit of ``yes`` of each.
Engine = Callable[[Pixels], npt.NDArray[np.float64]]

# The largest accepted difference of a probability from PyTorch's.
TOLERANCE = 1e-4
# Images that the compiled graph takes at once, at least one tile in all its views. In eight views,
# one tile takes 157 MB and 12 % of the time less than four.
GRAPH_IMAGES = 4
# Tiles that a CPU's core takes at once: benchmarks/README.md.
CPU_BATCH = 8

log = logging.getLogger("capetown")


class LoadedModel(NamedTuple):
    """A model that is ready to use.

    Attributes:
        batch: the number of tiles to pass at once.
        points: computes the most influential point of each tile for ``yes``, shape (tiles, 2), as
            `capetown.pools.model.saliency.strongest_points` returns it.
    """

    manifest: ModelManifest
    batch: int
    engine: Engine
    points: Callable[[Pixels], Points]


_loading = threading.Lock()


def ready_model(folder: str, digest: str, device: str, *, compiled: bool) -> LoadedModel:
    """The model of a folder (path or URL) whose files have this digest, loaded once per process.

    With `compiled` its engine is `fastest_engine`, else PyTorch, which is ready at once.

    Raises:
        CapetownError: a file is missing or damaged, or the device does not exist.
    """
    with _loading:
        return _load(folder, digest, device, compiled)


@lru_cache(maxsize=1)
def _load(folder: str, _: str, device: str, compiled: bool) -> LoadedModel:
    chosen = choose_device(device)  # type: ignore[arg-type]
    fs, location = open_storage(folder)
    if is_local(fs):
        model, manifest = load_model(Path(location), chosen)
    else:
        with TemporaryDirectory() as copied:
            for name in (WEIGHTS_FILE, MANIFEST_FILE):
                Path(copied, name).write_bytes(read_file(f"{folder}/{name}"))
            model, manifest = load_model(Path(copied), chosen)
    copies = threading.local()

    def points(pixels: Pixels) -> Points:
        # Saliency registers hooks, so each thread needs its own copy of the model.
        if not hasattr(copies, "model"):
            copies.model = deepcopy(model)
        heat = saliency.saliency_maps(copies.model, manifest, pixels, towards_yes=True)
        return saliency.strongest_points(heat)

    batch = CPU_BATCH if chosen.type == "cpu" else BATCH_SIZE
    engine = fastest_engine(model, manifest, threads()) if compiled else by_pytorch(model, manifest)
    # Tracing needs much that inference does not.
    release_freed_memory()
    return LoadedModel(manifest, batch, engine, points)


class Graph(nn.Module):
    """A model with its preprocessing and views, for other engines.

    `forward` takes uint8 or floats from 0 to 255, shape (tiles, 3, size, size), and returns float32
    logits, shape (tiles,). It normalises the values, and averages the logits of a tile's eight
    flips and quarter turns if the manifest says so.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, model: nn.Module, manifest: ModelManifest) -> None:
        super().__init__()
        self.model, self.views = model, 8 if manifest.tta else 1
        self.register_buffer("shift", 255 * torch.tensor(manifest.mean).view(3, 1, 1))
        self.register_buffer("scale", 255 * torch.tensor(manifest.std).view(3, 1, 1))

    def forward(self, tiles: Tensor) -> Tensor:
        """Logits of tiles."""
        batch = (tiles.float() - self.shift) / self.scale
        images = batch if self.views == 1 else torch.cat(list(flipped_and_turned(batch)))
        logits: Tensor = self.model(images)[:, 0].float()
        return logits.reshape(self.views, -1).mean(0)


def by_pytorch(model: nn.Module, manifest: ModelManifest) -> Engine:
    """The engine of a model that is on its device, in evaluation mode."""
    return partial(predict_logits, model, mean=manifest.mean, std=manifest.std, tta=manifest.tta)


def fastest_engine(model: nn.Module, manifest: ModelManifest, threads: int) -> Engine:
    """The fastest engine that gives PyTorch's probabilities; the log names it.

    The model is on its device, in evaluation mode; `threads` threads call the engine at once.
    """
    pytorch = by_pytorch(model, manifest)
    if next(model.parameters()).device.type != "cpu":
        return pytorch
    if not find_spec("openvino"):
        log.info("inference by PyTorch; `pip install 'capetown[fast]'` makes it faster")
        return pytorch
    graph = Graph(model, manifest).eval()
    try:
        compiled = compile_graph(graph, manifest.image_size, threads)
        noise = np.random.default_rng(0).integers(
            0, 256, (4, manifest.image_size, manifest.image_size, 3), dtype=np.uint8
        )
        # A probability changes by at most a quarter of the logit's change.
        apart = np.abs(compiled(noise) - pytorch(noise)).max() / manifest.temperature / 4
    except Exception as error:  # OpenVINO fails in many ways on unknown operators
        log.warning("inference by PyTorch: OpenVINO cannot run the model (%s)", one_line(error))
        return pytorch
    if not apart <= TOLERANCE:
        log.warning("inference by PyTorch: OpenVINO's probabilities differ by %.1g", apart)
        return pytorch
    log.info("inference by OpenVINO; probabilities are within %.1g of PyTorch's", apart)
    return compiled


def compile_graph(graph: Graph, size: int, threads: int) -> Engine:
    """Compile a graph for this CPU in full precision, as in `fastest_engine`.

    This calls the converter's parts one by one: OpenVINO's `convert_model` sends telemetry.
    """
    # Importing OpenVINO sends telemetry unless this module is missing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
    from openvino.preprocess import PrePostProcessor

    at_once = max(1, GRAPH_IMAGES // graph.views)
    frontend = FrontEndManager().load_by_framework("pytorch")
    # The decoder needs a name: the frontend keeps no reference to it.
    with warnings.catch_warnings(), torch.no_grad():
        # Tracing warns of sizes that are constants here, and of its own deprecation.
        warnings.simplefilter("ignore")
        # Tracing keeps what every layer returns, so one tile is traced. `fastest_engine` checks.
        decoder = TorchScriptPythonDecoder(
            graph, example_input=torch.zeros(1, 3, size, size, dtype=torch.uint8),
            trace_kwargs={"check_trace": False},
        )  # fmt: skip
    converted = frontend.convert(frontend.load(decoder))
    converted.reshape([at_once, 3, size, size])
    prepared = PrePostProcessor(converted)
    prepared.input().tensor().set_layout(openvino.Layout("NHWC"))
    prepared.input().model().set_layout(openvino.Layout("NCHW"))
    options = {
        # Some CPUs would compute in half precision otherwise.
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        # Otherwise all processes bind their threads to the same cores.
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(prepared.build(), "CPU", options)

    def infer(pixels: Pixels) -> npt.NDArray[np.float64]:
        logits = np.empty(len(pixels))
        batch = np.zeros((at_once, size, size, 3), np.uint8)
        # One request per call, since threads call at the same time.
        request = compiled.create_infer_request()
        for start in range(0, len(pixels), at_once):
            some = pixels[start : start + at_once]
            batch[: len(some)] = some
            logits[start : start + len(some)] = request.infer(batch)[0][: len(some)]
        return logits

    return infer
