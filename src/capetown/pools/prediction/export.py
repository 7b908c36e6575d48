"""A model as one ONNX file, for programs that know no Python: tiles in, probabilities out.

`as_onnx` is for any ONNX runtime: from ``tiles``, uint8, (tiles, 3, size, size), red, green and
blue as they are read and resized, to ``probability``, calibrated, float32, (tiles,). `as_deepness`
is the same for Deepness, a plugin of QGIS, which hands over floats and wants a map back. Its
metadata has the names of "Adding metadata to ONNX model" at qgis-plugin-deepness.readthedocs.io.
"""

import json
import logging
from typing import Any

import torch
from torch import Tensor, nn

from capetown.errors import CapetownError, one_line
from capetown.pools.model.manifest import ModelManifest
from capetown.pools.prediction.graph import Graph, Probabilities

TILES, PROBABILITY = "tiles", "probability"
# What ONNX Runtime since 2023, and QGIS's Python with it, can read.
OPSET = 18
# Deepness keeps a map in whole numbers.
PERCENT = 100


class Map(nn.Module):
    """Probabilities as a map, each tile of one value, shape (tiles, 1, size, size)."""

    def __init__(self, probabilities: Probabilities) -> None:
        super().__init__()
        self.probabilities = probabilities

    def forward(self, tiles: Tensor) -> Tensor:
        """A map of tiles whose values are floats from 0 to 255."""
        values: Tensor = self.probabilities(tiles)
        return values[:, None, None, None] + torch.zeros_like(tiles[:, :1])


def as_onnx(model: nn.Module, card: ModelManifest) -> bytes:
    """A model for any ONNX runtime, with ``card`` and ``threshold`` as metadata, in JSON.

    Args:
        model: on the CPU, in evaluation mode.
        card: the model's.

    Raises:
        CapetownError: if the extra ``export`` is not installed, or ONNX cannot express the model.
    """
    return _exported(_whole(model, card), card, torch.uint8, _described(card))


def as_deepness(model: nn.Module, card: ModelManifest, tile_metres: float) -> bytes:
    """A model for QGIS's Deepness, a Regressor whose map is the probability in per cent.

    Args:
        model: on the CPU, in evaluation mode.
        card: the model's.
        tile_metres: side of the tiles that it learned from, on the ground.

    Raises:
        CapetownError: as `as_onnx`.
    """
    scale: dict[str, Any] = {
        "model_type": "Regressor",
        "class_names": {0: "pool_percent"},
        # Centimetres a pixel of the input.
        "resolution": round(100 * tile_metres / card.image_size, 3),
        "tiles_size": card.image_size,
        "tiles_overlap": 0,
        # It divides by 255 before; this undoes it.
        "standardization_mean": [0.0, 0.0, 0.0],
        "standardization_std": [1 / 255, 1 / 255, 1 / 255],
        "reg_output_scaling": PERCENT,
    }
    return _exported(Map(_whole(model, card)), card, torch.float32, scale | _described(card))


def _whole(model: nn.Module, card: ModelManifest) -> Probabilities:
    return Probabilities(Graph(model, card), card.temperature)


def _described(card: ModelManifest) -> dict[str, Any]:
    return {"card": card.model_dump(), "threshold": card.threshold}


def _exported(
    module: nn.Module, card: ModelManifest, dtype: torch.dtype, metadata: dict[str, Any]
) -> bytes:
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise CapetownError(
            f"writing ONNX needs {error.name}, which is not installed: pip install "
            "'capetown[export]'."
        ) from error
    example = torch.zeros(2, 3, card.image_size, card.image_size, dtype=dtype)
    # Its warnings are about itself.
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("count")},),
            input_names=[TILES],
            output_names=[PROBABILITY],
            opset_version=OPSET,
            verbose=False,
        )
    except Exception as error:  # each architecture fails in its own way
        raise CapetownError(
            f"{card.architecture} cannot be written as ONNX ({one_line(error.__cause__ or error)})."
        ) from error
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {name: json.dumps(v) for name, v in metadata.items()})
    return bytes(proto.SerializeToString())
