"""Devices that torch computes on, and the settings that make its results reproducible."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn

from capetown.errors import CapetownError
from capetown.params import DeviceName

# Options of glibc's mallopt.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4


def _keep_freed_memory() -> None:
    """Let glibc reuse memory that torch frees.

    By default it returns blocks of over 32 MiB, and free memory at the end of the heap, to the
    kernel. The kernel clears them at every step, which takes half of the time on large images.
    """
    with suppress(OSError, AttributeError):  # not glibc
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(TOP_PAD, 64 * 2**20)


# At import: stages, commands and benchmarks that compute with torch all import this module.
_keep_freed_memory()


def release_freed_memory() -> None:
    """Return freed memory to the kernel, after a step that needs much of it once."""
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def choose_device(name: DeviceName) -> torch.device:
    """The device of a name; ``auto`` chooses the first of cuda, mps and cpu that exists.

    Raises:
        CapetownError: this machine has no such device.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available[name]:
        raise CapetownError(
            f"this machine has no {name}", where="device", fix="set device to auto or cpu"
        )
    return torch.device(name)


def make_repeatable(threads: int) -> None:
    """Fix the number of CPU threads, and allow only deterministic algorithms in torch."""
    torch.set_num_threads(threads)
    # cuBLAS is deterministic only with a fixed workspace.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Filling new memory takes time, and only helps to find reads of uninitialised memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to a device, with its weights in channels-last order: convolutions are faster.

    Raises:
        CapetownError: the device's memory is too small.
    """
    with memory_errors("the model's weights alone", "choose a smaller model"):
        model.to(device)
        for weights in model.parameters():
            # torch refuses this order for the 3D convolutions of a few architectures.
            if weights.dim() == 4:
                weights.data = weights.data.to(memory_format=torch.channels_last)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and _crashes_in_channels_last(layer):
            layer.weight.data = torch.empty(layer.weight.shape, device=device).copy_(layer.weight)
            layer.register_forward_pre_hook(_in_channels_first)
    return model


def _crashes_in_channels_last(layer: nn.Conv2d) -> bool:
    """True for convolutions whose backward pass corrupts memory in oneDNN (torch 2.13, CPU).

    Found in the first layers of repvgg_a0 and fastvit_t8.
    """
    return (
        layer.weight.device.type == "cpu"
        and layer.kernel_size == (1, 1)
        and max(layer.stride) > 1
        and layer.in_channels // layer.groups < 16
    )


def _in_channels_first(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(image.contiguous() for image in inputs)


def half_precision(device: torch.device) -> torch.dtype | None:
    """The type for mixed precision: bfloat16 or float16 on CUDA; None on other devices."""
    if device.type != "cuda":
        return None
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16


@contextmanager
def memory_errors(what: str, remedy: str = "lower train.image_size") -> Iterator[None]:
    """Raise a `CapetownError` if the memory of a device is too small for `what`."""
    try:
        yield
    except RuntimeError as error:
        # CUDA has its own type of error for it, MPS does not.
        if "out of memory" not in str(error):
            raise
        raise CapetownError(
            f"out of memory on the device with {what}", fix=f"{remedy}, or use device=cpu"
        ) from error
