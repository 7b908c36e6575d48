"""The fastest engine here for a model's answers: OpenVINO on CPUs, where it is installed, or torch.

The extra ``fast`` installs it; benchmarks/README.md has what it was chosen by.
"""

import logging
import sys
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from capetown.errors import one_line
from capetown.imagery.reading import Pixels
from capetown.pools.model.inference import predict_logits
from capetown.pools.model.manifest import ModelManifest
from capetown.pools.prediction.graph import Graph

# From tiles, uint8, shape (tiles, size, size, 3), to the logit of ``yes`` of each.
Answer = Callable[[Pixels], npt.NDArray[np.float64]]

# The most that a probability may differ from torch's.
AGREEMENT = 1e-4
# Tiles at once, of which a graph has a fixed number; measured: benchmarks/README.md.
TILES = 4

log = logging.getLogger("capetown")


def fastest_answer(model: nn.Module, card: ModelManifest, threads: int) -> Answer:
    """A model's answers by the fastest engine here, which the log names.

    Args:
        model: on the device to use, in evaluation mode.
        card: the model's.
        threads: of this process that will ask side by side.
    """
    by_torch = partial(predict_logits, model, mean=card.mean, std=card.std, tta=card.tta)
    if next(model.parameters()).device.type != "cpu":
        return by_torch
    if not find_spec("openvino"):
        log.info("the model answers by torch; pip install 'capetown[fast]' for a faster way")
        return by_torch
    graph = Graph(model, card).eval()
    try:
        by_openvino = compile_graph(graph, card.image_size, threads)
        apart = difference(by_openvino, by_torch, card)
    except Exception as error:  # it fails in its own way on what it does not know
        log.warning("the model answers by torch: OpenVINO cannot take it (%s)", one_line(error))
        return by_torch
    if not apart <= AGREEMENT:
        log.warning("the model answers by torch: by OpenVINO, probabilities differ by %.1g", apart)
        return by_torch
    log.info("the model answers by OpenVINO; probabilities are within %.1g of torch's", apart)
    return by_openvino


def difference(one: Answer, other: Answer, card: ModelManifest) -> float:
    """The most by which two engines' probabilities can differ, by their logits of four tiles.

    Probability changes with the logit by a quarter at most, whatever the tile.
    """
    shape = (4, card.image_size, card.image_size, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return float(np.abs(one(noise) - other(noise)).max()) / card.temperature / 4


def compile_graph(graph: Graph, size: int, threads: int) -> Answer:
    """A graph compiled for this CPU, in full precision: from tiles to logits.

    The converter's parts are called one by one, since OpenVINO's own `convert_model` tells its
    makers over the network that it was called.

    Args:
        graph: on the CPU, in evaluation mode.
        size: side of the tiles in pixels.
        threads: to compute with: as many as will ask side by side.

    Raises:
        Exception: of any kind, where OpenVINO does not know an operator.
    """
    # When it is imported, OpenVINO tells its makers over the network, unless this is missing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
    from openvino.preprocess import PrePostProcessor

    shape = [TILES, 3, size, size]
    frontend = FrontEndManager().load_by_framework("pytorch")
    # The frontend keeps no reference to it.
    with warnings.catch_warnings():
        # Of sizes that are constants here, and that tracing will give way to exporting.
        warnings.simplefilter("ignore")
        decoder = TorchScriptPythonDecoder(
            graph, example_input=torch.zeros(shape, dtype=torch.uint8)
        )
    converted = frontend.convert(frontend.load(decoder))
    converted.reshape(shape)
    prepared = PrePostProcessor(converted)
    prepared.input().tensor().set_layout(openvino.Layout("NHWC"))
    prepared.input().model().set_layout(openvino.Layout("NCHW"))
    compiled = openvino.Core().compile_model(
        prepared.build(),
        "CPU",
        {
            # Some CPUs would compute in half precision otherwise.
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # Every process would bind its threads to the same cores.
            "ENABLE_CPU_PINNING": False,
        },
    )

    def answer(pixels: Pixels) -> npt.NDArray[np.float64]:
        logits = np.empty(len(pixels))
        batch = np.zeros((TILES, size, size, 3), np.uint8)
        # Its own, since threads may ask at the same time.
        request = compiled.create_infer_request()
        for start in range(0, len(pixels), TILES):
            some = pixels[start : start + TILES]
            batch[: len(some)] = some
            logits[start : start + len(some)] = request.infer(batch)[0][: len(some)]
        return logits

    return answer
