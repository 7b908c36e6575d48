"""timm, imported so that it also loads with a CPU-only torch: ``from … .timm_import import timm``.

timm imports torchvision, which registers meta kernels for two operators of its compiled part.
PyPI's torchvision is built for CUDA: with a CPU-only torch that part does not load, and the import
fails because the operators are missing. Nothing here calls them, so defining them is enough.
"""

import logging

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError as error:
    if "torchvision::nms does not exist" not in str(error):
        raise
    # torch forgets the operators when the library object is deleted.
    OPERATORS = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        signature = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        OPERATORS.define(signature)  # type: ignore[no-untyped-call]

import timm

logging.getLogger("timm").setLevel(logging.WARNING)

__all__ = ["timm"]
