"""Several processes as one training, each with its share of every batch.

``torchrun`` starts the processes and says to each which one it is; see the README. A process that
was started without it is alone, and nothing here does anything.
"""

import logging
import os
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from capetown.pools.model.timm_import import timm

T = TypeVar("T")

log = logging.getLogger("capetown")


def join_others(device: torch.device) -> None:
    """Meet the other processes of this training, each on a GPU of its own where there are GPUs."""
    if not distributed.is_torchelastic_launched():
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")


def leave_others() -> None:
    """Undo `join_others`."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def rank() -> int:
    """The number of this process; 0 writes the files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def size() -> int:
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def share(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """This process's part of what all work on; `gather` puts the parts together again."""
    return rows[rank() :: size()]


def gather(part: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Every process's results for its `share`, in the order of the whole."""
    if size() == 1:
        return part
    parts: list[Any] = [None] * size()
    distributed.all_gather_object(parts, part)
    whole = np.empty(sum(map(len, parts)))
    for number, found in enumerate(parts):
        whole[number :: size()] = found
    return whole


def total(value: Tensor) -> Tensor:
    """The sum of every process's value."""
    if size() == 1:
        return value
    summed = value.clone()
    distributed.all_reduce(summed)
    return summed


def from_first(value: T) -> T:
    """The first process's value."""
    if size() == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box)
    return box[0]


def share_batch_norms(model: nn.Module, device: torch.device) -> None:
    """Let batch normalisation see whole batches, not this process's share of them; once a model.

    Only GPUs can; elsewhere a warning says that the result is not that of one process.
    """
    if size() == 1 or not any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules()):
        return
    if device.type == "cuda":
        # torch's own conversion forgets the activations that are part of timm's layers.
        timm.layers.convert_sync_batchnorm(model)
    elif rank() == 0:
        log.warning(
            "on %s batch normalisation sees each process's share of a batch by itself: the result "
            "is not that of one process; train in one, on GPUs, or with a convnext backbone",
            device.type,
        )


def synchronised(model: nn.Module) -> nn.Module:
    """The model, with gradients averaged over the processes as they are computed."""
    return model if size() == 1 else DistributedDataParallel(model)
