"""Training on several GPUs: each process of ``torchrun`` computes its share of every batch.

Without ``torchrun`` there is one process, and these functions do nothing.
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


def start_processes(device: torch.device) -> None:
    """Connect to the other processes of this training. On CUDA, each one uses its own GPU."""
    if not distributed.is_torchelastic_launched():
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")


def stop_processes() -> None:
    """Disconnect from the other processes."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def rank() -> int:
    """The number of this process. Process 0 writes the files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def share(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """This process's share of rows; `gather` joins the results."""
    return rows[rank() :: world_size()]


def gather(part: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The results of all processes for their `share`, in the order of the rows."""
    if world_size() == 1:
        return part
    parts: list[Any] = [None] * world_size()
    distributed.all_gather_object(parts, part)
    whole = np.empty(sum(map(len, parts)))
    for number, found in enumerate(parts):
        whole[number :: world_size()] = found
    return whole


def total(value: Tensor) -> Tensor:
    """The sum of a value over all processes."""
    if world_size() == 1:
        return value
    summed = value.clone()
    distributed.all_reduce(summed)
    return summed


def broadcast(value: T) -> T:
    """The value of process 0, in all processes."""
    if world_size() == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box)
    return box[0]


def synchronise_batch_norms(model: nn.Module, device: torch.device) -> None:
    """Let batch normalisation use whole batches instead of each process's share.

    Only GPUs can do it. On other devices a warning says that results differ from one process.
    """
    if world_size() == 1 or not any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules()):
        return
    if device.type == "cuda":
        # torch's own conversion drops the activations inside timm's layers.
        timm.layers.convert_sync_batchnorm(model)
    elif rank() == 0:
        log.warning(
            "on %s batch normalisation uses each process's share of a batch, so results differ "
            "from one process; train in one process, on GPUs, or with a convnext backbone",
            device.type,
        )


def data_parallel(model: nn.Module) -> nn.Module:
    """The model, with gradients averaged over the processes."""
    return model if world_size() == 1 else DistributedDataParallel(model)
