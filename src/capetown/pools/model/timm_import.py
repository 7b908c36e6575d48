"""timm, imported so that it loads beside a CPU-only torch: ``from … .timm_import import timm``.

timm imports torchvision, and torchvision registers meta kernels for two operators of its compiled
part. Where that part does not load (a CPU-only torch beside the registry's torchvision, which was
built for CUDA), the operators are unknown and its import fails. Nothing here calls them, so naming
them is enough.
"""

import logging

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError as error:
    if "torchvision::nms does not exist" not in str(error):
        raise
    # torch forgets the operators when the library object goes.
    OPERATORS = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        signature = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        OPERATORS.define(signature)  # type: ignore[no-untyped-call]

import timm

logging.getLogger("timm").setLevel(logging.WARNING)

__all__ = ["timm"]
