"""Export a model as one ONNX file: tiles in, calibrated probabilities out.

`as_onnx` is for any ONNX runtime: it maps ``tiles``, resized RGB, uint8, (tiles, 3, size, size), to
``probability``, float32, (tiles,). `as_deepness` is for QGIS's plugin Deepness, which passes floats
and expects a map. Its metadata follows "Adding metadata to ONNX model" at
qgis-plugin-deepness.readthedocs.io.
"""

import json
import logging
from typing import Any

import torch
from torch import Tensor, nn

from capetown.errors import CapetownError, one_line
from capetown.pools.model.manifest import ModelManifest
from capetown.pools.prediction.engine import Graph

TILES, PROBABILITY = "tiles", "probability"
# Readable by ONNX Runtime since 2023, and so by QGIS's Python.
OPSET = 18
# Deepness stores a map in whole numbers.
PERCENT = 100


class Probabilities(nn.Module):
    """Calibrated probabilities of ``yes``, shape (tiles,), or as maps, (tiles, 1, size, size)."""

    def __init__(self, model: nn.Module, manifest: ModelManifest, *, as_map: bool) -> None:
        super().__init__()
        # Not `graph`: exported modules have an attribute of this name.
        self.logits, self.temperature = Graph(model, manifest), manifest.temperature
        self.as_map = as_map

    def forward(self, tiles: Tensor) -> Tensor:
        """Probabilities of tiles, whose values are uint8 or floats from 0 to 255."""
        values = torch.sigmoid(self.logits(tiles) / self.temperature)
        if not self.as_map:
            return values
        return values[:, None, None, None] + torch.zeros_like(tiles[:, :1])


def as_onnx(model: nn.Module, manifest: ModelManifest) -> bytes:
    """A model on the CPU for any ONNX runtime, with ``card`` and ``threshold`` as JSON metadata.

    Raises:
        CapetownError: the extra ``export`` is missing, or ONNX cannot express the model.
    """
    return _exported(Probabilities(model, manifest, as_map=False), manifest, torch.uint8, {})


def as_deepness(model: nn.Module, manifest: ModelManifest, tile_metres: float) -> bytes:
    """A model for QGIS's Deepness: a Regressor whose map is the probability in percent.

    `tile_metres` is the side of a training tile on the ground; see `as_onnx`.
    """
    metadata: dict[str, Any] = {
        "model_type": "Regressor",
        "class_names": {0: "pool_percent"},
        # Centimetres per pixel of the input.
        "resolution": round(100 * tile_metres / manifest.image_size, 3),
        "tiles_size": manifest.image_size,
        "tiles_overlap": 0,
        # These undo Deepness's division by 255.
        "standardization_mean": [0.0, 0.0, 0.0],
        "standardization_std": [1 / 255, 1 / 255, 1 / 255],
        "reg_output_scaling": PERCENT,
    }
    module = Probabilities(model, manifest, as_map=True)
    return _exported(module, manifest, torch.float32, metadata)


def _exported(
    module: nn.Module, manifest: ModelManifest, dtype: torch.dtype, metadata: dict[str, Any]
) -> bytes:
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise CapetownError(
            f"{error.name} is not installed", fix="run `pip install 'capetown[export]'`"
        ) from error
    metadata |= {"card": manifest.model_dump(), "threshold": manifest.threshold}
    example = torch.zeros(2, 3, manifest.image_size, manifest.image_size, dtype=dtype)
    # The exporter warns about its own internals.
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        program = torch.onnx.export(
            module.eval(), (example,), dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("count")},), input_names=[TILES],
            output_names=[PROBABILITY], opset_version=OPSET, verbose=False,
        )  # fmt: skip
    except Exception as error:  # each architecture fails in its own way
        why = one_line(error.__cause__ or error)
        raise CapetownError(
            f"cannot be written as ONNX ({why})", where=manifest.architecture
        ) from error
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {name: json.dumps(v) for name, v in metadata.items()})
    return bytes(proto.SerializeToString())
